//! An agent that runs, answers, and is stuck itself says so by its status. With a real QEMU.
//!
//! Nothing in the agent is made for this: its supervisor waits for QEMU to be started, and the kernel lets nobody open a
//! program on whose file another process holds a lease (fcntl(2), "Leases") until that one has given it back, or 45 s later.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use clap::Parser as _;
use loco_agent::AgentArgs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Set in the process that is the agent.
const SERVES: &str = "LOCO_AGENT_TEST_SERVES";
/// A QEMU's start on a loaded machine; and the agent's own patience with its loops, twice.
const PATIENCE: Duration = Duration::from_secs(60);
/// Takes a lease on a file, whatever asks for it back, and says so.
const LEASE: &str = r#"$SIG{IO} = "IGNORE"; $| = 1; open(F, "<", $ARGV[0]) or die $!;
    fcntl(F, 1024, 1) or die $!; print "held\n"; sleep"#;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: AgentArgs,
}

/// Not a test by itself: the agent of the next one.
#[test]
fn serve() {
    if std::env::var_os(SERVES).is_some() {
        let line = Line::parse_from(["agent", "--json"]);
        assert_eq!(loco_agent::run(&line.args).unwrap(), ExitCode::SUCCESS);
    }
}

fn start(mut command: Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    (child, BufReader::new(out).lines())
}

async fn said(lines: &mut Lines<BufReader<ChildStdout>>, wanted: impl Fn(&str) -> bool) -> String {
    let found = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it ended without a word");
            if wanted(&line) {
                return line;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it said nothing")
}

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

fn signal(pid: u64, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_stuck_agent_answers_503_and_200_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let qemu = std::env::var("LOCO_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    let program = file("qemu", &format!("#!/bin/sh\nexec {qemu} \"$@\"\n"), 0o700);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "serve", "--nocapture"]).env(SERVES, "1").env("LOCO_QEMU", &program);
    command.env("LOCO_TOKEN_FILE", file("token", "not-a-secret-of-anyone\n", 0o600));
    command.env("LOCO_STATE_DIR", dir.path().join("state")).env("LOCO_ACCEL", "tcg").env("LOCO_MODE", "quiet");
    let (mut agent, mut lines) = start(command);
    let line = said(&mut lines, |line| line.contains("\"address\"")).await;
    let line: Value = serde_json::from_str(line.get(line.find('{').unwrap()..).unwrap()).unwrap();
    let (url, agent_pid) = (line["address"].as_str().unwrap(), line["pid"].as_u64().unwrap());
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
    signal(agent_pid, Signal::TERM);
    let ended = tokio::time::timeout(PATIENCE, agent.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended:?}");
}
