//! An agent that runs, answers, and is stuck itself says so by its status. With a real QEMU.
//!
//! Nothing in the agent is made for this: its supervisor waits for QEMU to be started, and the kernel lets nobody open a
//! program on whose file another process holds a lease (fcntl(2), "Leases") until that one has given it back, or 45 s later.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod common;

use common::{Agent, PATIENCE, file, said, signal, start};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use tokio::process::Command;

/// Takes a lease on a file, whatever asks for it back, and says so.
const LEASE: &str = r#"$SIG{IO} = "IGNORE"; $| = 1; open(F, "<", $ARGV[0]) or die $!;
    fcntl(F, 1024, 1) or die $!; print "held\n"; sleep"#;

/// Asks for the agent's health until it is as wanted.
async fn health(url: &str, what: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let asked = async {
        loop {
            let answer = reqwest::get(format!("{url}/health")).await.unwrap();
            let status = answer.status().as_u16();
            let report: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            if wanted(status, &report["deepHealth"]) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("never {what}"))
}

#[tokio::test]
async fn a_stuck_agent_answers_503_and_200_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let qemu = std::env::var("LOCO_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    let program = file(dir.path(), "qemu", &format!("#!/bin/sh\nexec {qemu} \"$@\"\n"), 0o700);
    let agent = Agent::start(dir.path(), Some(&program)).await;
    let url = agent.url.as_str();
    let runs = |status: u16, deep: &Value| status == 200 && deep["guest_state"] == "running";
    let report = health(url, "running", runs).await;
    let first = report["deepHealth"]["performance"]["qemu_pid"].as_u64().unwrap();

    let mut command = Command::new("perl");
    command.args(["-e", LEASE]).arg(&program);
    let (mut holder, mut held) = start(command);
    said(&mut held, |line| line == "held").await;
    signal(first, Signal::KILL);
    let report = health(url, "stuck", |status, _| status == 503).await;
    let stuck = report["deepHealth"]["agent_stuck"].as_str().unwrap();
    assert!(stuck.contains("the guest's supervisor"), "{stuck}");
    assert_eq!(report["deepHealth"]["guest_state"], "starting", "{report}");

    holder.kill().await.unwrap();
    let report = health(url, "running again", runs).await;
    assert!(report["deepHealth"]["agent_stuck"].is_null(), "{report}");
    agent.end().await;
}
