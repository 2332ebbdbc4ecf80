//! What is not allowed is refused with words that help, and harms nobody.

use crate::Stage;
use crate::watchers::advances;
use anyhow::{Context, Result, ensure};
use loco_tests::wall::Wall;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The instance whose agent is asked wrong things.
const ASKED: usize = 3;

pub(crate) async fn tokens(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    let client = Client::builder().no_proxy().build()?;
    let agent = wall.agent(ASKED).await?;
    let api = &wall.announcement.api;
    let closed = [
        (Method::GET, format!("{api}/api/instances")),
        (Method::GET, format!("{api}/api/events")),
        (Method::POST, format!("{agent}/whep")),
        (Method::DELETE, format!("{agent}/whep/1")),
        (Method::POST, format!("{agent}/input")),
        (Method::GET, format!("{agent}/screenshot.png")),
        (Method::GET, format!("{agent}/events")),
        (Method::GET, format!("{agent}/no/such/page")),
    ];
    for (method, url) in closed {
        let right = token(wall)?;
        let mut almost = right.clone();
        almost.pop();
        for (what, value) in [
            ("no token", None),
            ("an empty token", Some("Bearer ".to_owned())),
            ("a wrong token", Some(format!("Bearer {}", "A".repeat(right.len())))),
            ("a cut token", Some(format!("Bearer {almost}"))),
            ("another scheme", Some(format!("Basic {right}"))),
        ] {
            let mut request = client.request(method.clone(), &url);
            if let Some(value) = value {
                request = request.header("authorization", value);
            }
            let response = request.send().await?;
            let case = format!("{method} {url} with {what}");
            ensure!(response.status() == StatusCode::UNAUTHORIZED, "{case}: {}", response.status());
            ensure!(response.headers().contains_key("www-authenticate"), "{case}: no WWW-Authenticate");
            let body = response.text().await?;
            ensure!(!body.contains(&right), "{case}: the answer holds the token");
        }
        // Nor in the address, where it would get into logs.
        let response = client.request(method.clone(), format!("{url}?token={}", token(wall)?)).send().await?;
        ensure!(response.status() == StatusCode::UNAUTHORIZED, "{method} {url}: a token in the address was taken");
    }
    for url in [
        format!("{agent}/health"),
        format!("{agent}/ready"),
        format!("{agent}/startup"),
        format!("{agent}/metrics"),
        format!("{api}/health"),
        format!("{api}/ready"),
    ] {
        let status = client.get(&url).send().await?.status();
        ensure!(status == StatusCode::OK, "{url} without a token: {status}");
    }
    advances(wall, ASKED).await
}

pub(crate) async fn hosts_and_origins(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    let client = Client::builder().no_proxy().build()?;
    for base in [wall.agent(ASKED).await?, wall.announcement.api.clone()] {
        for path in ["/health", "/api/instances", "/events"] {
            for (header, value) in [("host", "rebound.example"), ("origin", "https://elsewhere.example")] {
                let request = client.get(format!("{base}{path}")).bearer_auth(token(wall)?).header(header, value);
                let response = request.send().await?;
                let status = response.status();
                ensure!(status.is_client_error(), "{base}{path} with {header} {value}: {status}");
                let allowed = response.headers().get("access-control-allow-origin");
                ensure!(allowed.is_none(), "{base}{path}: {value} may read the answer");
            }
        }
    }
    Ok(())
}

pub(crate) async fn requests(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    let client = Client::builder().no_proxy().build()?;
    let agent = wall.agent(ASKED).await?;
    let api = wall.announcement.api.clone();
    let key = |code: &str| format!(r#"{{"events":[{{"type":"key","code":"{code}","pressed":true}}]}}"#);
    let json = "application/json";
    let sdp = "application/sdp";
    // Request, expected status, and what the explanation must name.
    let cases: Vec<(RequestBuilder, &[u16], &str)> = vec![
        (post(&client, &agent, "/input", json, "{"), &[400, 422], ""),
        (post(&client, &agent, "/input", json, r#"{"events":1}"#), &[400, 422], "events"),
        (post(&client, &agent, "/input", json, r#"{"evnts":[]}"#), &[400, 422], "evnts"),
        (post(&client, &agent, "/input", json, key("KeyÄ")), &[400, 422], "KeyÄ"),
        (post(&client, &agent, "/input", json, r#"{"events":[{"type":"dance"}]}"#), &[400, 422], "dance"),
        (
            post(&client, &agent, "/input", json, r#"{"events":[{"type":"motion","dx":99999999999,"dy":0}]}"#),
            &[400, 422],
            "99999999999",
        ),
        (post(&client, &agent, "/input", "text/plain", key("KeyA")), &[415], ""),
        (client.get(format!("{agent}/input")), &[405], ""),
        (post(&client, &agent, "/whep", json, "{}"), &[415], "application/sdp"),
        (post(&client, &agent, "/whep", sdp, ""), &[400, 406, 422], ""),
        (post(&client, &agent, "/whep", sdp, "v=0\r\no=nonsense"), &[400, 406, 422], ""),
        (post(&client, &agent, "/whep", sdp, "\0\u{1}\u{ff}".repeat(100)), &[400, 406, 422], ""),
        (client.get(format!("{agent}/whep")), &[405], ""),
        (client.delete(format!("{agent}/whep/unknown")), &[404], "unknown"),
        (client.delete(format!("{agent}/whep/..%2f..%2fetc%2fpasswd")), &[404], ""),
        (client.patch(format!("{agent}/whep/unknown")), &[404, 415, 428], ""),
        (client.get(format!("{agent}/no/such/page")), &[404], ""),
        (client.get(format!("{api}/no/such/page")), &[404], ""),
        (client.post(format!("{api}/api/instances")), &[405], ""),
    ];
    for (request, expected, names) in cases {
        let request = request.bearer_auth(token(wall)?).build()?;
        let case = format!("{} {}", request.method(), request.url());
        let response = client.execute(request).await.with_context(|| case.clone())?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let body = response.text().await?;
        ensure!(expected.contains(&status), "{case}: {status}, expected {expected:?}: {body}");
        ensure!(kind == loco_model::problem::CONTENT_TYPE, "{case}: the answer is {kind:?}: {body}");
        let problem: Value = serde_json::from_str(&body).with_context(|| format!("{case}: {body}"))?;
        ensure!(problem["status"] == status, "{case}: {body}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(!detail.is_empty() && detail.contains(names), "{case}: {names:?} is not named: {body}");
    }
    for (path, kind) in [("/input", json), ("/whep", sdp)] {
        let status = announce_large_body(&agent, path, kind, &token(wall)?).await?;
        ensure!(status.starts_with("HTTP/1.1 413 "), "a body of 1 GB for {path}: {status}");
    }
    advances(wall, ASKED).await
}

/// Announces a body of 1 GB and sends none of it; returns the answer's first line.
async fn announce_large_body(base: &str, path: &str, kind: &str, token: &str) -> Result<String> {
    let host = base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: {kind}\r\n\
         content-length: 1000000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let read = reader.read_line(&mut line);
    tokio::time::timeout(Duration::from_secs(10), read).await.context("no answer to a large body")??;
    Ok(line)
}

fn post(client: &Client, base: &str, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    client.post(format!("{base}{path}")).header("content-type", kind).body(body)
}

fn token(wall: &Wall) -> Result<String> {
    let text = std::fs::read_to_string(&wall.announcement.token_file).context("the token file")?;
    Ok(text.trim().to_owned())
}
