//! What is saved before something is done: how the guest looked, what QEMU said of itself, and the last lines of the logs.

use crate::agent::Agent;
use crate::bridge::LastPicture;
use crate::image::encode_png;
use loco_media::video::RgbImage;
use loco_process::ProcId;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders that are kept; the oldest go.
const KEPT: usize = 20;
/// The files of one.
pub(crate) const FILES: [(&str, &str); 3] =
    [("screenshot.png", "image/png"), ("qmp.json", "application/json"), ("log.txt", "text/plain; charset=utf-8")];
/// How long QEMU is given to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same when it is known to hang: time that its repair would wait.
const HANGS: Duration = Duration::from_millis(100);
/// Lines of the agent's own log.
const LOG_LINES: usize = 100;

/// What is about to be saved.
pub(crate) struct Evidence {
    picture: Option<RgbImage>,
    qmp: Value,
    log: String,
}

/// The folder of all evidence in a state folder.
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join("evidence")
}

/// Whether a text can be the name of an attempt, and so of a folder.
pub(crate) fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-')
}

impl Evidence {
    /// How it is now.
    pub(crate) async fn now(agent: &Agent) -> Self {
        let hangs = agent.liveness.borrow().frozen == Some(true);
        let said = match agent.guest.query_status(if hangs { HANGS } else { PATIENCE }).await {
            Ok(status) => json!({ "status": status }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        let picture = if agent.size.borrow().is_some() { agent.canvas.screenshot() } else { None };
        let picture = picture.or_else(|| agent.repair.last_picture.take());
        Self { picture, qmp: describe(agent, &said), log: log(agent, &agent.guest.last_lines()) }
    }

    /// How it was when QEMU ended.
    pub(crate) fn of_end(agent: &Agent, end: &loco_guest::End) -> Self {
        let said = json!({ "error": end.reason, "livedMs": u64::try_from(end.lived.as_millis()).unwrap_or(u64::MAX) });
        Self { picture: agent.repair.last_picture.take(), qmp: describe(agent, &said), log: log(agent, &end.log) }
    }

    /// Saves it under the attempt's name, and forgets the oldest. What cannot be saved is left out.
    ///
    /// # Errors
    /// When nothing of it could be saved.
    pub(crate) fn save(&self, all: &Path, name: &str) -> io::Result<()> {
        let folder = all.join(name);
        fs::create_dir_all(&folder)?;
        let png = self.picture.as_ref().and_then(|picture| encode_png(picture).ok());
        let texts = [("qmp.json", serde_json::to_vec_pretty(&self.qmp)?), ("log.txt", self.log.clone().into_bytes())];
        let files = texts.into_iter().chain(png.map(|png| ("screenshot.png", png)));
        let mut saved = Err(io::Error::other("nothing was there to be saved"));
        for (file, bytes) in files {
            match fs::write(folder.join(file), bytes) {
                Ok(()) => saved = Ok(()),
                Err(error) => {
                    let _ = fs::remove_file(folder.join(file));
                    saved = saved.or(Err(error));
                }
            }
        }
        if saved.is_err() {
            let _ = fs::remove_dir_all(&folder);
        }
        if let Err(error) = date_newest(all, &folder) {
            tracing::debug!(%error, "evidence cannot be dated");
        }
        forget_oldest(all);
        saved
    }
}

fn describe(agent: &Agent, said: &Value) -> Value {
    let status = agent.status.borrow();
    let liveness = agent.liveness.borrow();
    let process = status.pid.and_then(|pid| ProcId::process(pid).stat());
    json!({
        "query-status": said,
        "state": status.state,
        "reason": status.reason,
        "pid": status.pid,
        "processState": process.map(|stat| stat.state.to_string()),
        "frozen": liveness.frozen,
        "frozenReason": liveness.reason,
        "accelerator": status.accelerator.as_ref().map(|verdict| verdict.accelerator.as_str()),
        "qemuVersion": status.qemu_version,
    })
}

fn log(agent: &Agent, guest: &str) -> String {
    let mut text = "--- last lines of the agent\n".to_owned();
    for line in agent.logs.last_own(LOG_LINES) {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{} {}", line.at_ms, line.text);
    }
    text.push_str(guest);
    text
}

/// All folders, and when each was written.
fn folders(all: &Path) -> Vec<(SystemTime, PathBuf)> {
    let Ok(entries) = fs::read_dir(all) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| path.is_dir())
        .collect()
}

/// Sees to it that what was saved last is the newest by its date too, though the clock was set back: or it would be the
/// first to be forgotten.
fn date_newest(all: &Path, folder: &Path) -> io::Result<()> {
    let others = folders(all).into_iter().filter(|(_, path)| path != folder).map(|(at, _)| at).max();
    match others {
        Some(newest) if fs::metadata(folder)?.modified()? <= newest => {
            fs::File::open(folder)?.set_modified(newest + Duration::from_millis(1))
        }
        _ => Ok(()),
    }
}

fn forget_oldest(all: &Path) {
    let mut folders = folders(all);
    folders.sort();
    let surplus = folders.len().saturating_sub(KEPT);
    for (_, folder) in &folders[..surplus] {
        if let Err(error) = fs::remove_dir_all(folder) {
            tracing::warn!(folder = %folder.display(), %error, "old evidence cannot be removed");
        }
    }
}

/// A file of an attempt's evidence, and what it is; `None` when there is none of this name.
pub(crate) fn read(all: &Path, attempt: &str, file: &str) -> Option<(Vec<u8>, &'static str)> {
    let (name, kind) = FILES.iter().find(|(name, _)| *name == file)?;
    if !is_name(attempt) {
        return None;
    }
    Some((fs::read(all.join(attempt).join(name)).ok()?, kind))
}

/// What the last picture was, for evidence of an end that took it away.
impl LastPicture {
    fn take(&self) -> Option<RgbImage> {
        self.0.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::Size;

    fn evidence(picture: Option<RgbImage>) -> Evidence {
        Evidence { picture, qmp: json!({"x": 1}), log: "a\n".to_owned() }
    }

    #[test]
    fn names_are_checked_strictly() {
        for good in ["a", "0-9_Z", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a.b", "-a", "ä", "a b", "%2e", "a\0", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        let dir = tempfile::tempdir().expect("dir");
        let all = dir.path().join("evidence");
        evidence(None).save(&all, "one").expect("saved");
        fs::write(dir.path().join("log.txt"), "secret").expect("written");
        assert_eq!(read(&all, "one", "log.txt").map(|(bytes, _)| bytes), Some(b"a\n".to_vec()));
        for (attempt, file) in
            [("..", "log.txt"), ("one", "../../log.txt"), ("one", "screenshot.png"), ("two", "log.txt")]
        {
            assert!(read(&all, attempt, file).is_none(), "{attempt} {file}");
        }
    }

    #[test]
    fn the_oldest_go() {
        let dir = tempfile::tempdir().expect("dir");
        let picture = RgbImage { size: Size::new(2, 1), pixels: vec![0; 6] };
        for n in 0..KEPT + 5 {
            let name = n.to_string();
            evidence(Some(picture.clone())).save(dir.path(), &name).expect("saved");
            // Folders of one tick of the file system's clock have no order.
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            fs::File::open(dir.path().join(&name)).and_then(|folder| folder.set_modified(at)).expect("dated");
        }
        forget_oldest(dir.path());
        let left = fs::read_dir(dir.path()).expect("dir").count();
        assert_eq!(left, KEPT);
        assert!(read(dir.path(), "5", "screenshot.png").is_some_and(|(png, _)| png.starts_with(b"\x89PNG")));
        assert!(read(dir.path(), "4", "log.txt").is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_new_the_oldest() {
        let dir = tempfile::tempdir().expect("dir");
        let ahead = SystemTime::now() + Duration::from_secs(24 * 3600);
        for n in 0..KEPT + 2 {
            let name = n.to_string();
            evidence(None).save(dir.path(), &name).expect("saved");
            // All but the last two were saved before the clock was set back.
            if n < KEPT {
                let at = ahead + Duration::from_secs(n as u64);
                fs::File::open(dir.path().join(&name)).and_then(|folder| folder.set_modified(at)).expect("dated");
            }
        }
        let kept = |n: usize| read(dir.path(), &n.to_string(), "log.txt").is_some();
        assert_eq!([0, 1, 2, KEPT, KEPT + 1].map(kept), [false, false, true, true, true]);
    }

    #[test]
    fn what_cannot_be_saved_is_an_error() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(evidence(None).save(&file, "one").is_err());
    }
}
