//! The private sound server takes clients and is gone afterwards.

use loco_bench::sound_server::{SINK, SoundServer};
use std::process::Command;

#[tokio::test]
async fn a_client_sees_the_sink() {
    let server = SoundServer::start().await.unwrap();
    let list = || {
        let environment = server.environment();
        Command::new("pactl").args(["list", "short", "sinks"]).envs(environment).output().unwrap()
    };
    let output = list();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(SINK), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let environment = server.environment();
    drop(server);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let output = Command::new("pactl").arg("info").envs(environment.clone()).output().unwrap();
        if !output.status.success() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the sound server is still there");
    }
}
