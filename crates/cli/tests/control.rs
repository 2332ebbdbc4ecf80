//! `loco control` as a process: what it refuses, what it says, how it follows its file, how it ends.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{PATIENCE, Room, Running, finish, signal, write};
use loco_model::api::Event;
use loco_model::{InstanceId, InstanceState};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// An address at which nobody answers.
const NOBODY: &str = "http://127.0.0.1:9";

fn list(ids: &[usize]) -> String {
    let entries: Vec<_> =
        ids.iter().map(|id| format!(r#"{{"id": "instance-{id}", "agent": "{NOBODY}/{id}"}}"#)).collect();
    format!("[{}]", entries.join(",\n"))
}

fn command(room: &Room, instances: &Path) -> Command {
    let mut command = room.loco(["control", "--json", "--listen", "127.0.0.1:0"]);
    command.arg("--token-file").arg(room.token_file());
    command.arg("--instances").arg(instances).arg("--state-dir").arg(room.path("state"));
    command
}

#[tokio::test]
async fn bad_starts_end_with_one_clear_line() {
    let room = Room::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = taken.local_addr().expect("address").to_string();
    let file = |name: &str, content: &str, mode| {
        let path = room.path(name);
        write(&path, content, mode);
        path.to_str().expect("path").to_owned()
    };
    let (good, token) = (file("good.json", "[]", 0o644), room.token_file());
    let token = token.to_str().expect("path");
    let (object, cut) = (file("object.json", "{}", 0o644), file("cut.json", "[{", 0o644));
    let open = file("open", "secret\n", 0o644);
    let twice = file("twice", "view a\nview b\n", 0o600);
    let no_folder = file("no-folder", "", 0o600);
    type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);
    let table: &[Case<'_>] = &[
        (&["--token-file", token], 2, &["--instances"]),
        (&["--instances", &good], 2, &["--token-file"]),
        (&["--instances", "/nonexistent/i.json", "--token-file", token], 1, &["/nonexistent/i.json", "No such file"]),
        (&["--instances", &object, "--token-file", token], 1, &[&object, "does not begin an array"]),
        (&["--instances", &cut, "--token-file", token], 1, &[&cut, "not closed"]),
        (&["--instances", &good, "--token-file", &open], 1, &[&open, "0644", "chmod 600"]),
        (&["--instances", &good, "--token-file", &twice], 1, &[&twice, "view, play and operate"]),
        (&["--instances", &good, "--token-file", token, "--listen", &taken], 1, &[&taken, "in use"]),
        (&["--instances", &good, "--token-file", token, "--listen", "nowhere"], 2, &["nowhere", "IP:PORT"]),
        (
            &["--instances", &good, "--token-file", token, "--listen", "127.0.0.1:0", "--state-dir", &no_folder],
            1,
            &[&no_folder],
        ),
        (&["--instances", &good, "--token-file", token, "--allow-origin", "*"], 2, &["\"*\"", "https://"]),
        (&["--instances", &good, "--token-file", token, "--allow-host", "http://a"], 2, &["http://a"]),
    ];
    for (arguments, code, says) in table {
        let mut command = room.loco(["control", "--json"]);
        command.args(*arguments);
        let (status, stdout, stderr) = finish(command).await;
        assert_eq!((status, stdout.as_str()), (Some(*code), ""), "{arguments:?}: {stderr}");
        for part in *says {
            assert!(stderr.contains(part), "{arguments:?} does not say {part:?}: {stderr}");
        }
    }
}

/// The list is told and followed, a second control plane is kept off its folder, and what was set outlives a restart.
#[tokio::test]
async fn it_follows_its_file_remembers_and_ends_cleanly() {
    let room = Room::new();
    let instances = room.path("instances.json");
    write(&instances, &list(&[0, 1]), 0o644);
    let token = room.token_file();
    let running = Running::start(command(&room, &instances), |_| token.clone()).await;
    let url = running.line["address"].as_str().expect("address").to_owned();
    assert_eq!(running.line["pid"], running.id());

    let mut events = running.client.events(&format!("{url}/api/events")).await.expect("events");
    let mut next = async || {
        use futures::StreamExt as _;
        let event =
            tokio::time::timeout(PATIENCE, events.next()).await.expect("in time").expect("open").expect("event");
        serde_json::from_str::<Event>(&event.data).expect("an event")
    };
    let Event::Instances { instances: told } = next().await else { panic!("no list") };
    let ids: Vec<usize> = told.iter().map(|instance| instance.index).collect();
    assert!(
        ids.iter().all(|id| [0, 1].contains(id)) && told.iter().all(|i| i.state != InstanceState::Live),
        "{told:?}"
    );
    // One that goes before it was told of is never said to be gone.
    let mut known: BTreeSet<usize> = ids.into_iter().collect();
    while !known.is_superset(&BTreeSet::from([0, 1])) {
        if let Event::Instance { instance } = next().await {
            known.insert(instance.index);
        }
    }
    // Replaced as careful programs do.
    write(&room.path("next"), &list(&[1, 5]), 0o644);
    std::fs::rename(room.path("next"), &instances).expect("rename");
    let (mut has_five, mut zero_gone) = (false, false);
    while !(has_five && zero_gone) {
        match next().await {
            Event::Instance { instance } => has_five |= instance.index == 5,
            Event::Removed { id } => zero_gone |= id.index() == 0,
            _ => {}
        }
    }
    let active = serde_json::json!({"ids": ["instance-5"]});
    let path = format!("{url}/api/active");
    let request = running.client.request(reqwest::Method::POST, &path).json(&active);
    running.client.send(request, &path).await.expect("set");

    let (status, _, stderr) = finish(command(&room, &instances)).await;
    assert!(status == Some(1) && stderr.contains("in use by another control plane"), "{stderr}");

    let (code, took) = running.terminate().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(15), "{took:?}");

    let running = Running::start(command(&room, &instances), |_| token).await;
    let url = running.line["address"].as_str().expect("address").to_owned();
    let again: loco_model::usage::Active = running.client.get_json(&format!("{url}/api/active")).await.expect("list");
    assert_eq!(again.active, [InstanceId::try_new(5).expect("index")]);
    signal(running.id(), "INT");
    let mut child = running.child;
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("status");
    assert_eq!(status.code(), Some(0));
    room.wait_until_empty().await;
}
