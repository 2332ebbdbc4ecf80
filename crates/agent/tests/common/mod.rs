//! An agent as a process of its own: this very test program, run again as the agent.

use clap::Parser as _;
use loco_agent::AgentArgs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Set in the process that is the agent.
const SERVES: &str = "LOCO_AGENT_TEST_SERVES";
/// A QEMU's start on a loaded machine; and the agent's own patience with its loops, twice.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What the agent wants to be shown.
pub(crate) const TOKEN: &str = "not-a-secret-of-anyone";

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

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    /// Kept open: it prints until its end.
    _lines: Lines<BufReader<ChildStdout>>,
    pid: u64,
    pub(crate) url: String,
}

impl Agent {
    /// Starts one that keeps all it has in `folder`; `qemu` where it is not to take the usual one.
    pub(crate) async fn start(folder: &Path, qemu: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "common::serve", "--nocapture"]).env(SERVES, "1");
        command.env("LOCO_TOKEN_FILE", file(folder, "token", &format!("{TOKEN}\n"), 0o600));
        command.env("LOCO_STATE_DIR", folder.join("state")).env("LOCO_ACCEL", "tcg").env("LOCO_MODE", "quiet");
        command.envs(qemu.map(|qemu| ("LOCO_QEMU", qemu)));
        let (child, mut lines) = start(command);
        let line = said(&mut lines, |line| line.contains("\"address\"")).await;
        let line: Value = serde_json::from_str(line.get(line.find('{').unwrap()..).unwrap()).unwrap();
        Self {
            child,
            _lines: lines,
            pid: line["pid"].as_u64().unwrap(),
            url: line["address"].as_str().unwrap().to_owned(),
        }
    }

    /// Ends it as one does who means well.
    pub(crate) async fn end(mut self) {
        signal(self.pid, Signal::TERM);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        assert!(ended.success(), "{ended:?}");
    }
}

/// Writes a file.
pub(crate) fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

/// Starts a process that is killed when it is dropped, and its lines.
pub(crate) fn start(mut command: Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    (child, BufReader::new(out).lines())
}

/// Waits for a line.
pub(crate) async fn said(lines: &mut Lines<BufReader<ChildStdout>>, wanted: impl Fn(&str) -> bool) -> String {
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

/// Signals a process of the test's own.
pub(crate) fn signal(pid: u64, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}
