//! Children die with their parent, whatever kills it. The parent is this very test program, started once more.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use loco_process::{DeathSignal, RunDir, Spawner, terminate_and_wait};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the program that plays the parent.
const ROLE: &str = "LOCO_PROCESS_TEST_BASE";
const PATIENCE: Duration = Duration::from_secs(10);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Not a test by itself: starts a child, makes a run directory, says so and waits to be killed.
#[test]
fn play_the_parent() {
    let Some(base) = std::env::var_os(ROLE) else { return };
    runtime().block_on(async {
        let mut sleep = tokio::process::Command::new("sleep");
        sleep.arg("600");
        let child = Spawner::shared().unwrap().spawn(sleep, DeathSignal::Kill).await.unwrap();
        let dir = RunDir::create_in(&PathBuf::from(base), "parent").unwrap();
        println!("\nchild {} {}", child.id().unwrap(), dir.path().display());
        std::future::pending::<()>().await;
    });
}

fn alive(pid: Pid) -> bool {
    // A zombie that no one reaps (a container without an init) is dead too.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    test_kill_process(pid).is_ok() && state != Some('Z')
}

fn gone(what: &str, mut alive: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while alive() {
        assert!(Instant::now() < until, "{what} is still there");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_parent_leaves_nothing() {
    let base = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "play_the_parent", "--nocapture"])
        .env(ROLE, base.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("child ").map(str::to_owned)).unwrap();
    let (pid, dir) = line.split_once(' ').unwrap();
    let (pid, dir) = (Pid::from_raw(pid.parse().unwrap()).unwrap(), PathBuf::from(dir));
    assert!(alive(pid) && dir.is_dir(), "the trial is set up");
    let second = RunDir::create_in(base.path(), "other").unwrap();
    assert!(dir.is_dir(), "a living owner's directory is left alone");

    parent.kill().unwrap();
    parent.wait().unwrap();
    gone("the child", || alive(pid));
    assert!(dir.is_dir(), "no one has swept yet");
    let third = RunDir::create_in(base.path(), "third").unwrap();
    assert!(!dir.exists(), "swept");
    assert!(second.path().is_dir(), "and only that");
    let path = third.path().to_owned();
    drop(third);
    assert!(!path.exists(), "removed when dropped");
}

#[test]
fn children_are_waited_for_signalled_and_killed() {
    runtime().block_on(async {
        let spawner = Spawner::shared().unwrap();
        let shell = |script: &str| {
            let mut command = tokio::process::Command::new("sh");
            command.args(["-c", script]).stdout(Stdio::piped());
            command
        };
        let mut child = spawner.spawn(shell("exit 7"), DeathSignal::Terminate).await.unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(7));

        // `exec`: the shell itself becomes what is signalled.
        let mut child = spawner.spawn(shell("exec sleep 600"), DeathSignal::Terminate).await.unwrap();
        let status = terminate_and_wait(&mut child, PATIENCE).await.unwrap();
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));

        let deaf = spawner.spawn(shell("trap '' TERM; echo deaf; while :; do sleep 1; done"), DeathSignal::Kill);
        let mut deaf = deaf.await.unwrap();
        let mut out = tokio::io::BufReader::new(deaf.stdout.take().unwrap());
        tokio::io::AsyncBufReadExt::read_line(&mut out, &mut String::new()).await.unwrap();
        let status = terminate_and_wait(&mut deaf, Duration::from_millis(50)).await.unwrap();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "killed when it does not listen");

        let error = spawner.spawn(tokio::process::Command::new("/nowhere/program"), DeathSignal::Kill).await;
        assert_eq!(error.map(drop).map_err(|e| e.kind()), Err(std::io::ErrorKind::NotFound));
    });
}

#[test]
fn a_child_survives_the_runtime_thread_that_asked_for_it() {
    // The death signal follows the thread that forked: were that not the spawner's, this child would be gone.
    let child = std::thread::spawn(|| {
        runtime().block_on(async {
            let mut sleep = tokio::process::Command::new("sleep");
            sleep.arg("600");
            Spawner::shared().unwrap().spawn(sleep, DeathSignal::Kill).await.unwrap().id().unwrap()
        })
    });
    let pid = Pid::from_raw(child.join().unwrap().try_into().unwrap()).unwrap();
    assert!(alive(pid));
    kill_process(pid, Signal::KILL).unwrap();
}
