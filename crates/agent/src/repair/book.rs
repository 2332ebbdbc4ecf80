//! The ledger of attempts: a file in the state folder, one line for each change of an attempt, on the disk before the
//! attempt is made. It outlives the agent, so that nobody makes more attempts than the limit by ending it, and a step of
//! the clock changes nothing: within one boot of the machine ages are told by the time since then.

use loco_model::failure::Remedy;
use loco_model::recovery::{self, Attempt, Initiator, Judgement, Ledger, Outcome};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The file's name.
const FILE: &str = "ledger.jsonl";
/// Attempts that are kept beyond the last hour's.
const KEPT: usize = 100;
/// The file is written anew when it has so many lines more than attempts.
const SURPLUS_LINES: usize = 200;
/// A longer file is none of ours.
const MAX_BYTES: u64 = 4 << 20;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    attempt: Attempt,
    /// Which boot of the machine, by the kernel's random id; empty where there is none.
    #[serde(default)]
    boot: String,
    /// Milliseconds since that boot when the attempt was begun.
    #[serde(default)]
    up_ms: u64,
}

/// What time it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) unix_ms: u64,
    pub(crate) up_ms: u64,
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Book {
    path: PathBuf,
    boot: String,
    /// Never held while the disk is waited for: whoever only asks must not wait for a disk that hangs.
    state: Mutex<State>,
    /// Held from before a change of the state until it is on the disk. Locked before the state, never after it.
    file: Mutex<LedgerFile>,
    /// What is wrong with the file, if anything.
    fault: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct LedgerFile {
    lines: usize,
    /// The file lacks something: all is written anew at the next occasion, or by [`Book::keep_written`].
    is_behind: bool,
}

/// Why an attempt is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotJudged {
    /// The ledger does not have it.
    Unknown,
    /// It was not carried out, or is not yet.
    NotDone(Outcome),
    /// The agent made it itself, and saw what came of it.
    Own,
}

/// The limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached {
    /// When the next attempt becomes free, in milliseconds since 1970 UTC.
    pub(crate) next_at_ms: u64,
}

// === impl Now ===

impl Now {
    pub(crate) fn read() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Goes on while the machine sleeps.
        let up = clock_gettime(ClockId::Boottime);
        let up_ms = u64::try_from(up.tv_sec).unwrap_or(0) * 1000 + u64::try_from(up.tv_nsec).unwrap_or(0) / 1_000_000;
        Self { unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX), up_ms }
    }
}

// === impl Book ===

impl Book {
    /// Reads the ledger of a state folder. One that cannot be read is kept aside under another name, and what could be
    /// read of it is gone on with.
    pub(crate) fn open(folder: &Path) -> Self {
        Self::open_at(folder, &Now::read(), boot_id())
    }

    fn open_at(folder: &Path, now: &Now, boot: String) -> Self {
        let path = folder.join(FILE);
        let (entries, lines, damage) = read(&path);
        let (mut state, mut file) = (State { entries }, LedgerFile { lines, is_behind: false });
        let mut fault = None;
        if let Some(damage) = damage {
            let aside = folder.join(format!("{FILE}.corrupt-{}", now.unix_ms));
            tracing::error!(path = %path.display(), aside = %aside.display(), damage, "the ledger is damaged: kept aside");
            if let Err(error) = fs::rename(&path, &aside) {
                fault = Some(format!("the damaged ledger cannot be kept aside: {error}"));
            }
            file.is_behind = true;
        }
        // What was being done when the agent ended.
        for entry in state.entries.iter_mut().filter(|entry| entry.attempt.outcome == Outcome::Running) {
            let attempt = &mut entry.attempt;
            let (outcome, detail) = match attempt.action {
                Remedy::RestartAgent => (Outcome::Repaired, "the agent was started again"),
                _ => (Outcome::Failed, "the agent ended meanwhile"),
            };
            attempt.outcome = outcome;
            attempt.detail = Some(detail.to_owned());
            attempt.ended_at_ms = Some(now.unix_ms.max(attempt.started_at_ms));
            file.is_behind = true;
        }
        let book =
            Self { path, boot, state: Mutex::default(), file: Mutex::default(), fault: watch::Sender::new(fault) };
        book.shorten(&mut state, now);
        if file.is_behind {
            book.write_all(&mut file, &state.entries);
        }
        (*book.state.lock(), *book.file.lock()) = (state, file);
        book
    }

    /// Writes the file again for as long as it lacks something, now and then, until `stop`: a disk that was full has space
    /// again without anyone telling, and the next attempt may be far.
    pub(crate) async fn keep_written(self: Arc<Self>, pause: Duration, stop: CancellationToken) {
        let mut fault = self.fault();
        let again = async {
            // The sender is this very ledger's.
            while fault.wait_for(Option::is_some).await.is_ok() {
                tokio::time::sleep(pause).await;
                let book = Arc::clone(&self);
                match tokio::task::spawn_blocking(move || book.catch_up()).await {
                    Ok(true) => tracing::info!("the ledger of attempts is written again"),
                    Ok(false) => {}
                    Err(error) => tracing::error!("the ledger broke: {error}"),
                }
            }
        };
        tokio::select! {
            () = again => {}
            () = stop.cancelled() => {}
        }
    }

    /// Writes what the file lacks; whether it lacked something, and has it now. Blocks for as long as the disk takes.
    fn catch_up(&self) -> bool {
        let mut file = self.file.lock();
        if !file.is_behind {
            return false;
        }
        let all = self.state.lock().entries.clone();
        self.write_all(&mut file, &all);
        !file.is_behind
    }

    /// What is wrong with the file, as it changes.
    pub(crate) fn fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.subscribe()
    }

    /// The attempt of this id.
    pub(crate) fn find(&self, id: &str) -> Option<Attempt> {
        let state = self.state.lock();
        state.entries.iter().rev().map(|entry| &entry.attempt).find(|attempt| attempt.id == id).cloned()
    }

    /// Begins an attempt; returns when it is on the disk, or was found that it cannot be. Blocks for as long as the disk
    /// takes.
    ///
    /// # Errors
    /// When the limit is reached, and `is_bound` to it.
    pub(crate) fn begin(&self, attempt: Attempt, is_bound: bool) -> Result<(), LimitReached> {
        self.begin_at(attempt, is_bound, &Now::read())
    }

    fn begin_at(&self, attempt: Attempt, is_bound: bool, now: &Now) -> Result<(), LimitReached> {
        let mut file = self.file.lock();
        let mut state = self.state.lock();
        if let (0, Some(next_at_ms)) = self.left(&state, now)
            && is_bound
        {
            return Err(LimitReached { next_at_ms });
        }
        let entry = Entry { attempt, boot: self.boot.clone(), up_ms: now.up_ms };
        state.entries.push(entry.clone());
        self.shorten(&mut state, now);
        let all = state.entries.clone();
        drop(state);
        self.write(&mut file, &entry, &all);
        Ok(())
    }

    /// Changes an attempt, and puts that on the disk. Blocks for as long as the disk takes.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Attempt)) -> Option<Attempt> {
        let mut file = self.file.lock();
        let mut state = self.state.lock();
        let entry = state.entries.iter_mut().rev().find(|entry| entry.attempt.id == id)?;
        change(&mut entry.attempt);
        let entry = entry.clone();
        let all = state.entries.clone();
        drop(state);
        self.write(&mut file, &entry, &all);
        Some(entry.attempt)
    }

    /// Takes what an attempt was good for, from whoever ordered it, and puts that on the disk. Blocks for as long as the
    /// disk takes.
    ///
    /// # Errors
    /// When there is nothing that could be judged.
    pub(crate) fn judge(&self, id: &str, judgement: Judgement) -> Result<Attempt, NotJudged> {
        let known = self.find(id).ok_or(NotJudged::Unknown)?;
        if known.initiator == Initiator::Agent {
            return Err(NotJudged::Own);
        }
        if !matches!(known.outcome, Outcome::Repaired | Outcome::InVain) {
            return Err(NotJudged::NotDone(known.outcome));
        }
        let judged = self.change(id, |attempt| {
            attempt.outcome = judgement.outcome;
            attempt.detail = judgement.detail.or_else(|| attempt.detail.take());
        });
        judged.ok_or(NotJudged::Unknown)
    }

    /// All that is kept, and what is left in this hour.
    pub(crate) fn ledger(&self) -> Ledger {
        let state = self.state.lock();
        let (left, next_at_ms) = self.left(&state, &Now::read());
        Ledger { attempts: state.entries.iter().map(|entry| entry.attempt.clone()).collect(), left, next_at_ms }
    }

    /// How long ago an attempt was begun: by the machine's own time since its boot where that tells it.
    fn age_ms(&self, entry: &Entry, now: &Now) -> u64 {
        let begun_ms = entry.attempt.started_at_ms;
        if !self.boot.is_empty() && entry.boot == self.boot {
            now.up_ms.saturating_sub(entry.up_ms)
        } else if begun_ms > now.unix_ms.saturating_add(recovery::WINDOW_MS) {
            // Of a clock that was wrong, before this boot: or it would count until that time has come.
            now.up_ms
        } else {
            now.unix_ms.saturating_sub(begun_ms)
        }
    }

    fn left(&self, state: &State, now: &Now) -> (usize, Option<u64>) {
        // Told by ages alone: the calendar may be anywhere.
        let here = 2 * recovery::WINDOW_MS;
        let begun = state.entries.iter().filter(|entry| entry.attempt.outcome.was_tried());
        let (left, next) = recovery::left(begun.map(|entry| here.saturating_sub(self.age_ms(entry, now))), here);
        (left, next.map(|at| now.unix_ms.saturating_add(at.saturating_sub(here))))
    }

    /// Forgets the oldest.
    fn shorten(&self, state: &mut State, now: &Now) {
        let recent = state.entries.iter().filter(|entry| self.age_ms(entry, now) < recovery::WINDOW_MS).count();
        let surplus = state.entries.len().saturating_sub(recent.max(KEPT));
        state.entries.drain(..surplus);
    }

    /// Appends a line; a file that lacks something, or has too many lines, is written anew.
    fn write(&self, ledger: &mut LedgerFile, entry: &Entry, all: &[Entry]) {
        if ledger.is_behind || ledger.lines > all.len() + SURPLUS_LINES {
            self.write_all(ledger, all);
            return;
        }
        let appended = line(entry).and_then(|line| {
            let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            file.write_all(&line)?;
            file.sync_data()
        });
        ledger.lines += 1;
        ledger.is_behind = appended.is_err();
        self.tell(appended);
    }

    /// Whole or not at all: the old file stays until the new one is on the disk.
    fn write_all(&self, ledger: &mut LedgerFile, all: &[Entry]) {
        let new = self.path.with_extension("new");
        let written = (|| {
            let mut text = Vec::new();
            for entry in all {
                text.extend(line(entry)?);
            }
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_data()?;
            fs::rename(&new, &self.path)?;
            // The name too.
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })();
        if written.is_ok() {
            ledger.lines = all.len();
        }
        ledger.is_behind = written.is_err();
        self.tell(written);
    }

    fn tell(&self, written: io::Result<()>) {
        let fault = written.err().map(|error| {
            format!("the ledger of attempts cannot be written ({error}): attempts are counted in memory only")
        });
        self.fault.send_if_modified(|known| {
            if *known != fault
                && let Some(fault) = &fault
            {
                tracing::error!(path = %self.path.display(), "{fault}");
            }
            let changed = *known != fault;
            *known = fault;
            changed
        });
    }
}

fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

/// The kernel's random id of this boot; empty where there is none.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The entries of a file, its lines, and what is wrong with it: a line that is none of ours, or one that was being written
/// when the machine was ended.
fn read(path: &Path) -> (Vec<Entry>, usize, Option<String>) {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), 0, None),
        Err(error) => return (Vec::new(), 0, Some(error.to_string())),
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut damage = None;
    let mut lines = 0;
    let mut reader = BufReader::new(file.take(MAX_BYTES));
    loop {
        let mut bytes = Vec::new();
        match reader.read_until(b'\n', &mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                damage = Some(error.to_string());
                break;
            }
        }
        lines += 1;
        match serde_json::from_slice::<Entry>(&bytes) {
            Ok(entry) => match entries.iter_mut().rev().find(|known| known.attempt.id == entry.attempt.id) {
                Some(known) => *known = entry,
                None => entries.push(entry),
            },
            Err(error) if bytes.ends_with(b"\n") => damage = Some(format!("line {lines}: {error}")),
            // Half a line: the next one must not go on in it.
            Err(_) => damage = damage.or_else(|| Some(format!("line {lines} is cut short"))),
        }
    }
    (entries, lines, damage)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
