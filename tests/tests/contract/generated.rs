//! Requests by the thousand, made by Schemathesis of the document itself.

use crate::document::{Operation, Scene};
use anyhow::{Context, Result, bail, ensure};
use loco_http::Token;
use loco_model::recovery::Outcome;
use loco_tests::alone::skip;
use loco_tests::headless::{PATIENCE, id};
use loco_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Names the program.
const VARIABLE: &str = "LOCO_SCHEMATHESIS";
/// Requests of each phase and operation at most.
const EXAMPLES: u32 = 12;
/// All of it ends within this, also on a slow machine.
const MOST: Duration = Duration::from_secs(300);
/// A snapshot that there is.
const SNAPSHOT: &str = "one";
/// The same requests each time: what fails once fails again.
const SEED: u32 = 98;

/// How it is configured: the token by the environment, since a command line is seen by everyone.
const CONFIGURATION: &str = r#"
headers = { Authorization = "${LOCO_AUTHORIZATION}" }
request-timeout = 20.0

# What these texts mean (URLs, paths, names that must differ) is more than a schema can say; their 422 is in the document.
[[operations]]
include-path-regex = "^/api/config/(alerts|checks)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429", "5xx"]
"#;

pub(crate) async fn the_document_is_kept() -> Result<()> {
    let Some(program) = std::env::var_os(VARIABLE) else {
        return Err(skip(format!("{VARIABLE} names no Schemathesis: cargo xtask test fetches it from PyPI")));
    };
    let scene = Scene::start("schemathesis").await?;
    let attempt = an_attempt(&scene).await?;
    let presence = stay(&scene)?;
    let folder = scene.rig.place.path().join("schemathesis");
    fs::create_dir(&folder)?;
    let document = with_examples(&scene, &attempt).await?;
    fs::write(folder.join("openapi.json"), serde_json::to_vec_pretty(&document)?)?;
    fs::write(folder.join("schemathesis.toml"), CONFIGURATION)?;
    let log = scene.rig.place.log("requests")?;
    let authorization = Token::read_file(&scene.rig.token_file())?.authorization();
    let mut command = Command::new(program);
    command
        .args(["--config-file", "schemathesis.toml", "run", "openapi.json", "--url", &scene.control.api])
        .args(["--checks", "all", "--max-examples", &EXAMPLES.to_string(), "--seed", &SEED.to_string()])
        .args(["--no-shrink", "--continue-on-failure", "--report", "har", "--report-har-path", "all.har"])
        .current_dir(&folder)
        .env("LOCO_AUTHORIZATION", &authorization)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .kill_on_drop(true);
    let operations = scene.operations()?;
    for endless in operations.iter().filter(|operation| operation.is_endless && !has_follow(operation)) {
        command.args(["--exclude-path", &endless.path]);
    }
    let status = tokio::time::timeout(MOST, command.status()).await.context("Schemathesis does not end")??;
    let told = fs::read_to_string(&log)?;
    presence.abort();
    if !status.success() {
        let failures = told.find("FAILURES").or_else(|| told.find("ERRORS")).unwrap_or(0);
        let shown: String = told[failures..].chars().take(20_000).collect();
        bail!("Schemathesis ended with {status}; all of it: {}\n{shown}", log.display());
    }
    let answered = answers(&folder.join("all.har"), &operations)?;
    let total: usize = answered.values().flat_map(BTreeMap::values).sum();
    println!("{total} requests to {} operations", answered.len());
    let mut without = Vec::new();
    for operation in &operations {
        let name = operation.to_string();
        let good = answered.get(&name).is_some_and(|codes| codes.keys().any(|code| (200..300).contains(code)));
        if operation.is_endless {
            endless_begins(&scene, operation).await?;
        }
        if !good && (!operation.is_endless || has_follow(operation)) {
            without.push(format!("{name}: {:?}", answered.get(&name)));
        }
    }
    ensure!(without.is_empty(), "operations without a success:\n{}", without.join("\n"));
    scene.stop().await
}

/// Whether an endless operation ends unless it is asked to follow.
fn has_follow(operation: &Operation) -> bool {
    operation.path.contains("/logs/")
}

/// A finished attempt and a snapshot, so that there is one to ask about; the attempt's id.
async fn an_attempt(scene: &Scene) -> Result<String> {
    let path = format!("/api/instances/{}/snapshot", id(0));
    let response = scene.control.send(Method::POST, &path, &json!({"name": SNAPSHOT})).await?;
    ensure!(response.status().is_success(), "{}", response.text().await?);
    let path = format!("/api/quality/recover/{}", id(0));
    let response = scene.control.send(Method::POST, &path, &json!({"action": "restart-stream"})).await?;
    ensure!(response.status() == StatusCode::ACCEPTED, "{}", response.text().await?);
    let attempt: Value = response.json().await?;
    let attempt = attempt["id"].as_str().context("an attempt's id")?.to_owned();
    wait_for("its end", PATIENCE, async || {
        let status = scene.control.recoveries().await?;
        let known = status.attempts.iter().find(|known| known.id == attempt).context("it is not listed")?;
        ensure!(known.outcome != Outcome::Running, "{known:?}");
        Ok(())
    })
    .await?;
    Ok(attempt)
}

/// A viewer that tells of itself all the while, so that there is one to ask about.
fn stay(scene: &Scene) -> Result<tokio::task::JoinHandle<()>> {
    let url = format!("{}/api/viewers/ada-1", scene.control.api);
    let http = loco_tests::headless::client(&scene.rig.token_file())?;
    Ok(tokio::spawn(async move {
        loop {
            let report = json!({"name": "ada@workstation", "focus": id(0)});
            drop(http.request(Method::PUT, &url).json(&report).send().await);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }))
}

/// The document with a good value for every parameter: what exists here cannot stand in a document for everywhere. Nothing
/// of what it says about answers is touched.
async fn with_examples(scene: &Scene, attempt: &str) -> Result<Value> {
    let mut document = scene.document.clone();
    let token = Token::read_file(&scene.rig.token_file())?.authorization();
    let token = token.trim_start_matches("Bearer ").to_owned();
    let now = loco_bench::simulated::now_ms();
    for (path, item) in document["paths"].as_object_mut().context("no paths")? {
        for (method, operation) in item.as_object_mut().context("no operations")? {
            if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
                // With this one an answer goes on for ever.
                parameters.retain(|parameter| parameter["name"] != "follow" && parameter["name"] != "for_s");
                for parameter in parameters {
                    let example = match parameter["name"].as_str().unwrap_or_default() {
                        "id" => json!(id(0)),
                        "viewer" => json!("ada-1"),
                        "attempt" => json!(attempt),
                        "file" => json!("log.txt"),
                        "name" => json!(SNAPSHOT),
                        "from_ms" => json!(now - 600_000),
                        "to_ms" => json!(now),
                        _ => continue,
                    };
                    parameter["example"] = example;
                }
            }
            let example = match (method.as_str(), path.as_str()) {
                ("post", "/api/login") => json!({"token": token}),
                ("post", "/api/quality/recover/{id}") => json!({"action": "restart-stream", "override": true}),
                ("post", "/api/active") => json!({"ids": [id(0)]}),
                ("post", "/input/{id}") => json!({"events": [{"type": "key", "code": "KeyA", "pressed": true}]}),
                ("post", path) if path.ends_with("/input") => json!({"viewer": "ada-1", "action": "take"}),
                ("post", path) if path.contains("snapshot") => json!({"name": SNAPSHOT}),
                ("put", "/api/viewers/{viewer}") => json!({"name": "ada@workstation"}),
                ("put", path) if path.starts_with("/api/config/") => scene.control.get(path).await?,
                _ => continue,
            };
            if let Some(content) = operation.pointer_mut("/requestBody/content/application~1json") {
                content["example"] = example;
            }
        }
    }
    Ok(document)
}

/// How often each operation answered what, by the recorded traffic.
fn answers(har: &Path, operations: &[Operation]) -> Result<BTreeMap<String, BTreeMap<u16, usize>>> {
    let har: Value = serde_json::from_slice(&fs::read(har).context("the recorded traffic")?)?;
    let mut found: BTreeMap<String, BTreeMap<u16, usize>> = BTreeMap::new();
    for entry in har["log"]["entries"].as_array().context("no traffic")? {
        let method = entry["request"]["method"].as_str().unwrap_or_default();
        let url = entry["request"]["url"].as_str().unwrap_or_default();
        let path = url.split_once("://").map_or(url, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let Some(status) = entry["response"]["status"].as_u64().and_then(|status| u16::try_from(status).ok()) else {
            continue;
        };
        // The path with the fewest parameters that fits.
        let fitting = operations.iter().filter(|operation| operation.method == method && fits(&operation.path, path));
        if let Some(operation) = fitting.min_by_key(|operation| operation.path.matches('{').count()) {
            *found.entry(operation.to_string()).or_default().entry(status).or_default() += 1;
        }
    }
    Ok(found)
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template[1..].split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t.starts_with('{') || t == p)
}

/// An answer that never ends begins as it should.
async fn endless_begins(scene: &Scene, operation: &Operation) -> Result<()> {
    let query = if has_follow(operation) { "?follow=true" } else { "" };
    let url = format!("{}{}{query}", scene.control.api, operation.target());
    let mut events = scene.control.http.events(&url).await.with_context(|| operation.to_string())?;
    let first = tokio::time::timeout(PATIENCE, futures::StreamExt::next(&mut events)).await;
    let first = first.with_context(|| format!("{operation} says nothing"))?;
    ensure!(first.is_some_and(|event| event.is_ok()), "{operation} breaks off");
    Ok(())
}
