use super::*;
use loco_http::Token;
use std::os::unix::fs::{PermissionsExt as _, symlink};

struct Fixture {
    dir: tempfile::TempDir,
    hand: Arc<dyn Hand>,
    changes: mpsc::Receiver<Change>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn entries(ids: &[usize]) -> String {
    let entries: Vec<String> = ids
        .iter()
        .map(|id| format!(r#"{{"id": "instance-{id}", "agent": "http://127.0.0.1:{}"}}"#, 9_000 + id))
        .collect();
    format!("[{}]", entries.join(",\n"))
}

fn start(dir: tempfile::TempDir, file: &str) -> Fixture {
    let provider = Box::new(Fixed::open(&dir.path().join(file)).expect("a list"));
    let hand = provider.hand();
    let (send, changes) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let task = tokio::spawn(provider.run(send, stop.clone()));
    Fixture { dir, hand, changes, stop, task }
}

fn with_list(text: &str) -> Fixture {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("instances.json"), text).expect("write");
    start(dir, "instances.json")
}

impl Fixture {
    fn path(&self) -> PathBuf {
        self.dir.path().join("instances.json")
    }

    async fn next(&mut self) -> Change {
        tokio::time::timeout(Duration::from_secs(30), self.changes.recv()).await.expect("in time").expect("a change")
    }

    /// The changes up to the next word on discovery, that included.
    async fn until_info(&mut self) -> (Vec<String>, DiscoveryInfo) {
        let mut told = Vec::new();
        loop {
            match self.next().await {
                Change::Found(found) => {
                    let stale = if found.stale_since_ms.is_some() { " stale" } else { "" };
                    told.push(format!("+{}{stale}", found.id.index()));
                }
                Change::Gone(id) => told.push(format!("-{}", id.index())),
                Change::Listed => told.push("listed".into()),
                Change::Discovery(info) => return (told, *info),
            }
        }
    }

    async fn begun(&mut self) -> DiscoveryInfo {
        let (_, info) = self.until_info().await;
        assert_eq!(self.next().await, Change::Listed);
        info
    }

    /// Replaces the file as careful programs do.
    fn replace(&self, text: &str) {
        let next = self.dir.path().join("next");
        std::fs::write(&next, text).expect("write");
        std::fs::rename(next, self.path()).expect("rename");
    }

    async fn until(&mut self, wanted: impl Fn(&[String], &DiscoveryInfo) -> bool) -> DiscoveryInfo {
        let mut told = Vec::new();
        loop {
            let (more, info) = self.until_info().await;
            told.extend(more);
            if wanted(&told, &info) {
                return info;
            }
        }
    }
}

#[tokio::test]
async fn the_list_is_told_and_then_differences() {
    let mut fixture = with_list(&entries(&[0, 3]));
    let (told, info) = fixture.until_info().await;
    assert_eq!(told, ["+0", "+3"]);
    assert_eq!((info.mode.as_str(), info.stale_since_ms, info.last_error), ("static", None, None));
    assert_eq!(info.source, Some(fixture.path().display().to_string()));
    assert_eq!(fixture.next().await, Change::Listed);
    fixture.replace(&entries(&[3, 5]));
    fixture.until(|told, _| told == ["-0", "+5"]).await;
    // Written in place too.
    std::fs::write(fixture.path(), entries(&[5])).expect("write");
    fixture.until(|told, _| told == ["-3"]).await;
    fixture.stop.cancel();
    fixture.task.await.expect("ends");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_makes_the_list_old_and_not_empty() {
    let mut fixture = with_list(&entries(&[0, 1]));
    fixture.begun().await;
    fixture.replace("[{\"id\"");
    let stale = fixture.until(|told, info| told == ["+0 stale", "+1 stale"] && info.stale_since_ms.is_some()).await;
    assert!(stale.last_error.is_some_and(|error| error.contains("not closed")));
    std::fs::remove_file(fixture.path()).expect("remove");
    let gone = fixture.until(|_, info| info.last_error.as_ref().is_some_and(|error| error.contains("No such"))).await;
    assert_eq!(gone.stale_since_ms, stale.stale_since_ms, "since the first failure");
    let refused = fixture.hand.refresh().await.expect_err("still gone");
    assert!(refused.contains("instances.json"), "{refused}");
    fixture.replace(&entries(&[0]));
    let again = fixture.until(|told, _| told.ends_with(&["-1".to_owned(), "+0".to_owned()])).await;
    assert!(again.stale_since_ms.is_none() && again.last_error.is_some(), "the last error stays known");
}

#[tokio::test]
async fn bad_entries_and_bad_token_files_are_refused_one_by_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    Token::create_file(&dir.path().join("own")).expect("token");
    std::fs::write(dir.path().join("open"), "secret\n").expect("write");
    std::fs::set_permissions(dir.path().join("open"), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let text = r#"[
{"id": "instance-0", "agent": "http://a", "token_file": "own"},
{"id": "instance-1", "agent": "http://b", "token_file": "open"},
{"id": "instance-2", "agent": "http://c", "token_file": "none"},
{"id": "instance-3", "agent": 7},
{"id": "instance-4", "agent": "http://e", "name": "Four"}
]"#;
    std::fs::write(dir.path().join("instances.json"), text).expect("write");
    let mut fixture = start(dir, "instances.json");
    let Change::Found(first) = fixture.next().await else { panic!("no instance") };
    assert_eq!(first.token_file, Some(fixture.dir.path().join("own")), "relative to the list");
    let Change::Found(last) = fixture.next().await else { panic!("no instance") };
    assert_eq!((last.id.index(), last.name.as_str(), last.token_file), (4, "Four", None));
    let info = fixture.begun().await;
    let refused: Vec<_> = info.refused.iter().map(|refused| refused.line.expect("line")).collect();
    assert_eq!(refused, [3, 4, 5], "{:?}", info.refused);
    assert!(info.refused[0].reason.contains("mode 0644") && info.refused[2].reason.contains("agent is a number"));
}

/// As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is replaced.
#[tokio::test]
async fn a_link_that_is_turned_is_a_change() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (folder, ids) in [("..1", [0]), ("..2", [1])] {
        std::fs::create_dir(dir.path().join(folder)).expect("folder");
        std::fs::write(dir.path().join(folder).join("instances.json"), entries(&ids)).expect("write");
    }
    symlink("..1", dir.path().join("..data")).expect("link");
    symlink("..data/instances.json", dir.path().join("instances.json")).expect("link");
    let mut fixture = start(dir, "instances.json");
    fixture.begun().await;
    symlink("..2", fixture.dir.path().join("..next")).expect("link");
    std::fs::rename(fixture.dir.path().join("..next"), fixture.dir.path().join("..data")).expect("rename");
    fixture.until(|told, _| told == ["-0", "+1"]).await;
}

/// A link to a file elsewhere: both the link and what it leads to now are watched.
#[tokio::test]
async fn a_file_is_followed_to_where_it_lies_now() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    let lies = |name: &str| elsewhere.path().join(name).join("list.json");
    for (name, ids) in [("a", [0]), ("b", [1])] {
        std::fs::create_dir(elsewhere.path().join(name)).expect("folder");
        std::fs::write(lies(name), entries(&ids)).expect("write");
    }
    symlink(lies("a"), dir.path().join("instances.json")).expect("link");
    let mut fixture = start(dir, "instances.json");
    fixture.begun().await;
    std::fs::write(lies("a"), entries(&[0, 2])).expect("write");
    fixture.until(|told, _| told == ["+2"]).await;
    symlink(lies("b"), fixture.dir.path().join("next")).expect("link");
    std::fs::rename(fixture.dir.path().join("next"), fixture.path()).expect("rename");
    fixture.until(|told, _| told == ["-0", "-2", "+1"]).await;
    std::fs::write(lies("b"), entries(&[1, 3])).expect("write");
    fixture.until(|told, _| told == ["+3"]).await;
}

/// `loco events > there` writes beside the list at each event: were that a change, it would be told, and written.
#[tokio::test]
async fn what_else_is_written_in_its_folder_is_no_change() {
    let mut fixture = with_list(&entries(&[0]));
    fixture.begun().await;
    for line in 0..20 {
        std::fs::write(fixture.dir.path().join("there"), format!("{line}\n")).expect("write");
    }
    // As long as a change is gathered at most.
    let quiet = tokio::time::timeout(Duration::from_millis(500), fixture.changes.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    fixture.replace(&entries(&[1]));
    assert_eq!(fixture.until_info().await.0, ["-0", "+1"], "its own change is told");
}

#[tokio::test]
async fn a_refresh_reads_now_and_ends_with_the_provider() {
    let mut fixture = with_list(&entries(&[0]));
    fixture.begun().await;
    std::fs::write(fixture.path(), entries(&[0, 1])).expect("write");
    fixture.hand.refresh().await.expect("read");
    fixture.until(|told, _| told == ["+1"]).await;
    fixture.stop.cancel();
    fixture.task.await.expect("ends");
    assert!(fixture.hand.refresh().await.is_err());
}

#[test]
fn a_file_that_is_no_list_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("instances.json");
    let error = Fixed::open(&path).expect_err("missing").to_string();
    assert!(error.contains("instances.json: cannot be read"), "{error}");
    for (content, part) in [(&b"{}"[..], "does not begin an array"), (b"\xff", "no UTF-8")] {
        std::fs::write(&path, content).expect("write");
        let error = Fixed::open(&path).expect_err("no list").to_string();
        assert!(error.contains(part), "{error}");
    }
    std::fs::write(&path, vec![b' '; MAX_FILE_BYTES as usize + 1]).expect("write");
    assert!(Fixed::open(&path).expect_err("too long").to_string().contains("longer than"));
}
