//! Everything that the document lists, asked by those who may not and in ways that are not allowed.

use crate::document::{AGENTS, Operation, Scene};
use crate::raw::{Answer, ask};
use anyhow::{Context, Result, ensure};
use loco_http::Token;
use loco_tests::headless::is_well;
use loco_tests::rig::Rig;
use std::fs;

/// After all that, it works as before.
async fn works(scene: &Scene) -> Result<()> {
    let all = scene.control.instances().await?;
    ensure!(all.len() == AGENTS && all.iter().all(is_well), "{all:?}");
    Ok(())
}

fn token(scene: &Scene) -> Result<String> {
    Ok(Token::read_file(&scene.rig.token_file())?.authorization())
}

/// The first lines of a request, with what it is allowed by and a body of JSON of that length.
fn head(operation: &Operation, target: &str, authorization: Option<&str>, length: usize) -> String {
    let authorization = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let body = if operation.method == "GET" {
        String::new()
    } else {
        format!("content-type: application/json\r\ncontent-length: {length}\r\n")
    };
    format!("{} {target} HTTP/1.1\r\n{authorization}{body}", operation.method)
}

pub(crate) async fn every_operation_needs_a_token() -> Result<()> {
    let scene = Scene::start("tokens").await?;
    let right = token(&scene)?;
    let cut = &right[..right.len() - 1];
    let wrong = format!("Bearer {}", "A".repeat(right.len() - 7));
    let basic = right.replace("Bearer", "Basic");
    let mut asked = 0;
    for operation in scene.operations()?.iter().filter(|operation| !operation.is_open()) {
        for (what, value) in [
            ("no token", None),
            ("an empty token", Some("Bearer ")),
            ("a wrong token", Some(wrong.as_str())),
            ("a cut token", Some(cut)),
            ("another scheme", Some(basic.as_str())),
        ] {
            let case = format!("{operation} with {what}");
            let answer = ask(scene.host(), &head(operation, &operation.target(), value, 2), b"{}").await;
            let answer = answer.with_context(|| case.clone())?;
            ensure!(answer.status == 401 && answer.is_problem(), "{case}: {answer:?}");
            ensure!(answer.says("www-authenticate", "bearer"), "{case}: {answer:?}");
            ensure!(!answer.text.contains(&right[7..]), "{case}: the answer holds the token");
            asked += 1;
        }
        // Nor in the address, where it would get into logs.
        let target = format!("{}?token={}", operation.target(), &right[7..]);
        let answer = ask(scene.host(), &head(operation, &target, None, 2), b"{}").await?;
        ensure!(answer.status == 401, "{operation}: a token in the address was taken: {answer:?}");
    }
    println!("{asked} requests without the right token");
    // A right token does not help a page of another site, or one that goes by another name.
    for line in ["host: rebound.example\r\n", "origin: https://elsewhere.example\r\n"] {
        let head = format!("GET /api/instances HTTP/1.1\r\nauthorization: {right}\r\n{line}");
        let answer = ask(scene.host(), &head, b"").await?;
        ensure!((400..500).contains(&answer.status), "{line:?}: {answer:?}");
    }
    works(&scene).await?;
    scene.stop().await
}

/// A token file with one token per role.
fn three_tokens(rig: &Rig) -> Result<()> {
    let lines = ["view", "play", "operate"].map(|role| format!("{role} {}", role.repeat(8)));
    fs::write(rig.token_file(), lines.join("\n") + "\n").context("the token file")
}

pub(crate) async fn roles_are_kept_and_named() -> Result<()> {
    let scene = Scene::start_with("roles", three_tokens).await?;
    let bearer = |role: &str| format!("Bearer {}", role.repeat(8));
    // What each operation needs at least: everything is seen by all, playing is more, and the rest is operating.
    let plays = ["/api/active", "/api/instances/{id}/input", "/input/{id}"];
    let views = ["/api/viewers", "/api/login", "/api/logout"];
    let mut refused = 0;
    for operation in scene.operations()?.iter().filter(|operation| !operation.is_open()) {
        let is_view = operation.method == "GET" || views.iter().any(|path| operation.path.starts_with(path));
        let needs = match is_view {
            true => "view",
            false if plays.contains(&operation.path.as_str()) => "play",
            false => "operate",
        };
        for role in ["view", "play", "operate"] {
            let weaker = match needs {
                "play" => role == "view",
                "operate" => role != "operate",
                _ => false,
            };
            if operation.is_endless && !weaker {
                continue;
            }
            // A body that nobody takes: whoever may ask is told that, and nothing is done.
            let answer = ask(scene.host(), &head(operation, &operation.target(), Some(&bearer(role)), 1), b"{").await;
            let answer = answer.with_context(|| format!("{operation} as {role}"))?;
            if weaker {
                ensure!(answer.status == 403 && answer.is_problem(), "{operation} as {role}: {answer:?}");
                ensure!(answer.text.contains(needs), "{operation} as {role} does not name {needs}: {answer:?}");
                refused += 1;
            } else {
                ensure!(answer.status != 403 && answer.status != 401, "{operation} as {role}: {answer:?}");
            }
        }
    }
    ensure!(refused > 10, "only {refused} were refused");
    println!("{refused} requests refused by role");
    scene.stop().await
}

pub(crate) async fn paths_lead_nowhere_else() -> Result<()> {
    let scene = Scene::start("paths").await?;
    let right = token(&scene)?;
    let long = "a".repeat(4000);
    let values = [
        "..",
        "../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..%5cetc%5cpasswd",
        "%2fetc%2fpasswd",
        "%00",
        "instance-0%00",
        "instance-0%2f..",
        "instance-99999",
        "instance--1",
        "%ff%fe",
        "%F0%9F%9A%82",
        "'%3B%20drop%20table%20attempts%3B--",
        long.as_str(),
    ];
    let mut asked = 0;
    let nowhere = |answer: &Answer| (400..500).contains(&answer.status) && !answer.text.contains("root:");
    let with_parameters: Vec<Operation> =
        scene.operations()?.into_iter().filter(|operation| operation.path.contains('{')).collect();
    ensure!(with_parameters.len() > 10, "{with_parameters:?}");
    for operation in &with_parameters {
        for value in values {
            // A viewer chooses its own id, and what it is allowed to be is the document's matter.
            if operation.path.starts_with("/api/viewers") && !value.contains("..") && !value.contains('\0') {
                continue;
            }
            let target = operation.path_with(|_| value);
            let case = format!("{} {target}", operation.method);
            let answer = ask(scene.host(), &head(operation, &target, Some(&right), 2), b"{}").await;
            let answer = answer.with_context(|| case.clone())?;
            ensure!(nowhere(&answer) && answer.is_problem(), "{case}: {answer:?}");
            asked += 1;
        }
    }
    for target in
        ["/../etc/passwd", "/api/../../etc/passwd", "//etc/passwd", "/api/%2e%2e/etc/passwd", "/api/", "/api/nothing"]
    {
        let answer = ask(scene.host(), &format!("GET {target} HTTP/1.1\r\nauthorization: {right}\r\n"), b"").await?;
        ensure!(nowhere(&answer), "{target}: {answer:?}");
        asked += 1;
    }
    println!("{asked} paths lead nowhere");
    works(&scene).await?;
    scene.stop().await
}

pub(crate) async fn bodies_are_bounded_and_checked() -> Result<()> {
    let scene = Scene::start("bodies").await?;
    let right = token(&scene)?;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let malformed: [&[u8]; 7] =
        [b"{", b"nonsense", b"\xff\xfe", b"{\"\\ud800\":1}", b"[1,2", b"{\"unknown-key\":{}}", deep.as_bytes()];
    let with_body: Vec<Operation> = scene.operations()?.into_iter().filter(|operation| operation.takes_json).collect();
    ensure!(with_body.len() > 5, "{with_body:?}");
    let mut asked = 0;
    for operation in &with_body {
        let target = operation.target();
        let case = |what: &str| format!("{operation} with {what}");
        for body in malformed {
            let what = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
            let answer = ask(scene.host(), &head(operation, &target, Some(&right), body.len()), body).await;
            let answer = answer.with_context(|| case(&what))?;
            ensure!([400, 422].contains(&answer.status) && answer.is_problem(), "{}: {answer:?}", case(&what));
            asked += 1;
        }
        // A gigabyte is announced, and none of it sent.
        let answer = ask(scene.host(), &head(operation, &target, Some(&right), 1_000_000_000), b"").await;
        let answer = answer.with_context(|| case("1 GB announced"))?;
        ensure!(answer.status == 413 && answer.is_problem(), "{}: {answer:?}", case("1 GB announced"));
        // Sent without saying how much.
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, " ".repeat(64 * 1024));
        let head = format!(
            "{} {target} HTTP/1.1\r\nauthorization: {right}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n",
            operation.method
        );
        let answer = ask(scene.host(), &head, chunk.repeat(40).as_bytes()).await;
        let answer = answer.with_context(|| case("2.5 MB in chunks"))?;
        ensure!(answer.status == 413, "{}: {answer:?}", case("2.5 MB in chunks"));
        // Text is no JSON.
        let head = self::head(operation, &target, Some(&right), 2).replace("application/json", "text/plain");
        let answer = ask(scene.host(), &head, b"{}").await.with_context(|| case("text"))?;
        ensure!([400, 415].contains(&answer.status) && answer.is_problem(), "{}: {answer:?}", case("text"));
        asked += 3;
    }
    println!("{asked} bodies refused");
    works(&scene).await?;
    scene.stop().await
}
