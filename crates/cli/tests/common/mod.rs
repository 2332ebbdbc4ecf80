//! Real `loco` processes in a private run directory, by which everything that belongs to a test can be found again.
#![allow(dead_code, reason = "each test file uses a part of this")]

use loco_http::{Client, Token, TokenFile};
use loco_model::report::HealthReport;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for anything: a debug build, TCG and two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A place of its own for one test's processes.
pub(crate) struct Room {
    dir: tempfile::TempDir,
}

impl Room {
    pub(crate) fn new() -> Self {
        let room = Self { dir: tempfile::Builder::new().prefix("lt").tempdir().expect("temporary directory") };
        std::fs::create_dir(room.run_base()).expect("run directory");
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Every process of this test has it as its XDG_RUNTIME_DIR.
    pub(crate) fn run_base(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        let path = self.path("token");
        if !path.exists() {
            Token::create_file(&path).expect("token file");
        }
        path
    }

    /// `loco` with its surroundings: this room's run directory and nothing of the caller's settings.
    pub(crate) fn loco<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loco"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCO_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.run_base())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Processes of this test that live: (id, name).
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let mark = format!("XDG_RUNTIME_DIR={}", self.run_base().display());
        let entries = std::fs::read_dir("/proc").expect("/proc");
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_string_lossy().parse::<u32>().ok());
        ids.filter(|id| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .map(|id| (id, std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim().to_owned()))
        .collect()
    }

    /// Waits until no process and no file of this test's is left.
    pub(crate) async fn wait_until_empty(&self) {
        wait_for("nothing is left", || {
            let files: Vec<_> = std::fs::read_dir(self.run_base()).expect("run").flatten().map(|e| e.path()).collect();
            let left = (self.processes(), files);
            if left.0.is_empty() && left.1.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // A failed test leaves nothing behind either.
        for (id, _) in self.processes() {
            signal(id, "KILL");
        }
    }
}

/// Sends a signal to one process by its id.
pub(crate) fn signal(id: u32, name: &str) {
    let _ = std::process::Command::new("kill").args([format!("-{name}"), id.to_string()]).status();
}

/// Asks again and again until it is so.
pub(crate) async fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(now) => assert!(begun.elapsed() < PATIENCE, "{what}: still {now}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A `loco` process that printed its line.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) line: Value,
    pub(crate) client: Client,
}

impl Running {
    /// Starts a command and reads the JSON line that it prints.
    pub(crate) async fn start(mut command: Command, token_file: impl FnOnce(&Value) -> PathBuf) -> Self {
        let mut child = command.spawn().expect("loco starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let mut stderr = child.stderr.take().expect("stderr");
        let log = tokio::spawn(async move {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text).await;
            text
        });
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await.expect("a line in time").expect("a line");
        if line.is_empty() {
            panic!("it ended: {:?}\n{}", child.wait().await, log.await.unwrap_or_default());
        }
        let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let tokens = TokenFile::open(&token_file(&line)).expect("token file");
        Self { child, client: Client::new(tokens).expect("client"), line }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it lives")
    }

    /// Ends it as a person would, and says how long that took.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        signal(self.id(), "TERM");
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("status");
        (status.code(), begun.elapsed())
    }
}

/// A running agent and its address.
pub(crate) struct Agent {
    pub(crate) process: Running,
    pub(crate) url: String,
}

impl Agent {
    /// An agent with the demo guest, in town.
    pub(crate) async fn start(room: &Room) -> Self {
        let token = room.token_file();
        let mut command = room.loco(["agent", "--accel", "tcg", "--json", "--instance", "4"]);
        command.arg("--token-file").arg(&token);
        let process = Running::start(command, |_| token).await;
        let url = process.line["address"].as_str().expect("address").to_owned();
        Self { process, url }
    }

    pub(crate) async fn health(&self) -> HealthReport {
        self.process.client.get_json(&format!("{}/health", self.url)).await.expect("health")
    }

    pub(crate) async fn status(&self, method: Method, path: &str) -> StatusCode {
        let request = self.process.client.request(method, &format!("{}{path}", self.url));
        request.send().await.expect("answer").status()
    }

    /// Waits until the guest shows a picture, from start `restarts`.
    pub(crate) async fn wait_ready(&self, restarts: u64) -> HealthReport {
        let begun = Instant::now();
        loop {
            let ready = self.status(Method::GET, "/ready").await == StatusCode::OK;
            let health = self.health().await;
            if ready && health.deep_health.guest_restarts == restarts {
                return health;
            }
            assert!(begun.elapsed() < PATIENCE, "not ready: {health:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether a process of this id lives (a dead one that was not waited for does not).
pub(crate) fn lives(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

/// Runs a command that is expected to end by itself.
pub(crate) async fn finish(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn write(path: &Path, content: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).expect("write");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}
