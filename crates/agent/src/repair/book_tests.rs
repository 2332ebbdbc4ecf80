use super::*;
use loco_model::InstanceId;
use loco_model::failure::FailureClass;
use loco_model::recovery::{Initiator, WINDOW_MS};

const START: Now = Now { unix_ms: 1_800_000_000_000, up_ms: 5_000_000 };

fn later(ms: u64) -> Now {
    Now { unix_ms: START.unix_ms + ms, up_ms: START.up_ms + ms }
}

fn attempt(id: &str, now: &Now) -> Attempt {
    Attempt {
        reason: Some("it fell over".to_owned()),
        ..Attempt::begun(
            id.to_owned(),
            InstanceId::try_new(3).expect("an instance"),
            now.unix_ms,
            FailureClass::Qemu,
            Remedy::RestartQemu,
            Initiator::Agent,
        )
    }
}

fn open(folder: &Path, now: &Now) -> Book {
    Book::open_at(folder, now, "this boot".to_owned())
}

fn end(book: &Book, id: &str) {
    book.change(id, |attempt| attempt.outcome = Outcome::Repaired).expect("it was begun");
}

fn begin(book: &Book, id: &str, now: &Now) -> Result<(), LimitReached> {
    book.begin_at(attempt(id, now), true, now)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).expect("dir").flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn three_an_hour_whoever_ends_the_agent() {
    let dir = tempfile::tempdir().expect("dir");
    for n in 0..3 {
        // Each by another agent: the one before was killed in the middle of it.
        let now = later(n * 1000);
        let book = open(dir.path(), &now);
        assert_eq!(begin(&book, &n.to_string(), &now), Ok(()));
    }
    let book = open(dir.path(), &later(4_000));
    let refused = begin(&book, "4", &later(4_000));
    assert_eq!(refused, Err(LimitReached { next_at_ms: START.unix_ms + WINDOW_MS }));
    assert_eq!(book.begin_at(attempt("5", &later(5_000)), false, &later(5_000)), Ok(()), "an override is not bound");
    let outcomes: Vec<_> = book.ledger().attempts.iter().map(|a| (a.id.clone(), a.outcome)).collect();
    let want = [("0", Outcome::Failed), ("1", Outcome::Failed), ("2", Outcome::Failed), ("5", Outcome::Running)];
    assert_eq!(outcomes, want.map(|(id, outcome)| (id.to_owned(), outcome)));
    let hour = later(WINDOW_MS);
    assert_eq!(begin(&book, "6", &hour), Err(LimitReached { next_at_ms: START.unix_ms + 1000 + WINDOW_MS }));
    assert_eq!(begin(&book, "7", &later(WINDOW_MS + 1_001)), Ok(()));
}

#[test]
fn a_step_of_the_clock_changes_nothing_within_a_boot() {
    let dir = tempfile::tempdir().expect("dir");
    let book = open(dir.path(), &START);
    for n in 0..3 {
        begin(&book, &n.to_string(), &START).expect("free");
        end(&book, &n.to_string());
    }
    for (unix_ms, what) in [(START.unix_ms + 10 * WINDOW_MS, "forward"), (1_000, "back to 1970")] {
        let now = Now { unix_ms, up_ms: START.up_ms + 60_000 };
        let book = open(dir.path(), &now);
        assert!(begin(&book, "x", &now).is_err(), "{what}");
        let now = Now { unix_ms, up_ms: START.up_ms + WINDOW_MS + 1 };
        assert_eq!(book.left(&book.state.lock(), &now).0, 3, "{what}, an hour later");
    }
    let other = Book::open_at(dir.path(), &later(60_000), "another boot".to_owned());
    assert!(begin(&other, "x", &later(60_000)).is_err(), "the calendar's word then");
}

#[test]
fn what_is_damaged_is_kept_aside_and_the_rest_gone_on_with() {
    let dir = tempfile::tempdir().expect("dir");
    let book = open(dir.path(), &START);
    begin(&book, "a", &START).expect("free");
    end(&book, "a");
    let path = dir.path().join(FILE);
    let mut text = fs::read(&path).expect("the file");
    text.extend(b"\xff\xfe no JSON\n");
    fs::write(&path, &text).expect("written");
    let book = open(dir.path(), &later(7));
    assert_eq!(book.ledger().attempts.len(), 1);
    assert_eq!(names(dir.path()), [FILE.to_owned(), format!("{FILE}.corrupt-{}", later(7).unix_ms)]);
    assert_eq!(*book.fault().borrow(), None);
    // Half a line, as a power cut leaves it.
    let mut text = fs::read(&path).expect("the file");
    let half = text.len() / 2;
    text.extend_from_within(..half);
    fs::write(&path, &text).expect("written");
    let book = open(dir.path(), &later(8));
    assert_eq!(book.ledger().attempts.len(), 1);
    begin(&book, "b", &later(9)).expect("free");
    assert_eq!(open(dir.path(), &later(10)).ledger().attempts.len(), 2);
}

#[test]
fn without_a_disk_it_counts_in_memory_and_says_so() {
    let dir = tempfile::tempdir().expect("dir");
    let folder = dir.path().join("state");
    fs::create_dir(&folder).expect("folder");
    let book = open(&folder, &START);
    // A folder that is gone fails every write, for root too.
    fs::remove_dir(&folder).expect("removed");
    for n in 0..3 {
        begin(&book, &n.to_string(), &later(n)).expect("free");
    }
    assert!(begin(&book, "x", &later(4)).is_err());
    assert!(book.fault().borrow().as_ref().is_some_and(|fault| fault.contains("in memory only")));
    fs::create_dir(&folder).expect("folder");
    end(&book, "1");
    assert_eq!(*book.fault().borrow(), None, "it works again");
    assert_eq!(open(&folder, &later(5)).ledger().attempts.len(), 3, "and nothing is missing");
}

/// A ledger with one attempt that is not on the disk, whose folder is there again.
fn behind(dir: &Path) -> (Arc<Book>, PathBuf) {
    let folder = dir.join("state");
    fs::create_dir(&folder).expect("folder");
    let book = Arc::new(open(&folder, &START));
    fs::remove_dir(&folder).expect("removed");
    begin(&book, "a", &START).expect("free");
    assert!(book.fault().borrow().is_some());
    fs::create_dir(&folder).expect("folder");
    (book, folder)
}

const SOON: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_the_disk_would_not_take_is_written_when_it_does_again() {
    let dir = tempfile::tempdir().expect("dir");
    let (book, folder) = behind(dir.path());
    let stop = CancellationToken::new();
    let mut fault = book.fault();
    let keeping = tokio::spawn(Arc::clone(&book).keep_written(SOON, stop.clone()));
    let well = tokio::time::timeout(PATIENCE, fault.wait_for(Option::is_none)).await;
    assert!(well.is_ok_and(|told| told.is_ok()), "nobody else writes");
    assert!(open(&folder, &later(1)).find("a").is_some());
    stop.cancel();
    keeping.await.expect("it ends");
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_agent_from_its_end() {
    let dir = tempfile::tempdir().expect("dir");
    let (book, folder) = behind(dir.path());
    // Nobody reads this pipe: opening it to write waits.
    let path = folder.join(FILE).with_extension("new");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(Arc::clone(&book).keep_written(SOON, stop.clone()));
    let writes = async {
        while book.file.try_lock().is_some() {
            tokio::task::yield_now().await;
        }
    };
    let began = tokio::time::timeout(PATIENCE, writes).await;
    stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, keeping).await;
    // Lets the writer go on, whatever was found.
    let reader = std::thread::spawn(move || fs::read(path));
    assert!(began.is_ok(), "it is tried");
    assert!(ended.is_ok_and(|joined| joined.is_ok()), "it ends meanwhile");
    assert!(reader.join().expect("read").is_ok_and(|text| text.ends_with(b"\n")));
}

#[test]
fn a_full_disk_is_a_fault_and_no_end() {
    // Everything that is written there fails with "no space left".
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let book = open(dir.path(), &START);
    std::os::unix::fs::symlink(full, dir.path().join(FILE)).expect("link");
    begin(&book, "a", &START).expect("free");
    assert!(book.fault().borrow().as_ref().is_some_and(|fault| fault.contains("space")), "{:?}", book.fault().borrow());
    assert_eq!(book.ledger().attempts.len(), 1);
}

#[test]
fn the_file_and_the_list_stay_small() {
    let dir = tempfile::tempdir().expect("dir");
    let book = open(dir.path(), &START);
    for n in 0..400 {
        // Older than an hour each, by the time that the next is made.
        let now = later(n * (WINDOW_MS + 1));
        begin(&book, &n.to_string(), &now).expect("free");
        end(&book, &n.to_string());
    }
    let lines = fs::read_to_string(dir.path().join(FILE)).expect("the file").lines().count();
    assert_eq!(book.ledger().attempts.len(), KEPT);
    assert!(lines <= KEPT + SURPLUS_LINES + 2, "{lines}");
    assert_eq!(open(dir.path(), &later(400 * WINDOW_MS)).ledger().attempts.len(), book.ledger().attempts.len());
}

#[test]
fn an_agent_that_was_to_be_started_again_was() {
    let dir = tempfile::tempdir().expect("dir");
    let book = open(dir.path(), &START);
    let order = Attempt { action: Remedy::RestartAgent, ..attempt("a", &START) };
    book.begin_at(order, true, &START).expect("free");
    let book = open(dir.path(), &later(900));
    let done = book.find("a").expect("it is there");
    assert_eq!((done.outcome, done.ended_at_ms), (Outcome::Repaired, Some(START.unix_ms + 900)));
}

#[test]
fn what_a_wrong_clock_dated_ahead_does_not_count_for_ever() {
    let dir = tempfile::tempdir().expect("dir");
    let ahead = Now { unix_ms: START.unix_ms + 1_000 * WINDOW_MS, up_ms: START.up_ms };
    for n in 0..3 {
        begin(&open(dir.path(), &ahead), &n.to_string(), &ahead).expect("free");
    }
    let booted = Now { unix_ms: START.unix_ms, up_ms: 60_000 };
    let book = Book::open_at(dir.path(), &booted, "another boot".to_owned());
    assert!(begin(&book, "x", &booted).is_err(), "nobody knows how long the machine was off");
    let later = Now { unix_ms: START.unix_ms + WINDOW_MS, up_ms: WINDOW_MS + 1 };
    assert_eq!(begin(&book, "y", &later), Ok(()), "they were made before this boot");
}

#[test]
fn a_disk_that_hangs_keeps_nobody_from_asking() {
    let dir = tempfile::tempdir().expect("dir");
    let book = std::sync::Arc::new(open(dir.path(), &START));
    // Nobody reads this pipe: opening it to write waits.
    let path = dir.path().join(FILE);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    let writing = {
        let book = std::sync::Arc::clone(&book);
        std::thread::spawn(move || begin(&book, "a", &START))
    };
    let (told, asked) = std::sync::mpsc::channel();
    let asking = std::thread::spawn(move || {
        while book.find("a").is_none() {
            std::thread::yield_now();
        }
        let _ = told.send(book.ledger().attempts.len());
    });
    let answer = asked.recv_timeout(std::time::Duration::from_secs(20));
    // Lets the writer go on, whatever was found.
    let reader = std::thread::spawn(move || fs::read(path));
    assert_eq!(writing.join().expect("written"), Ok(()));
    assert_eq!(answer, Ok(1));
    asking.join().expect("asked");
    assert!(reader.join().expect("read").is_ok_and(|text| text.ends_with(b"\n")));
}

#[test]
fn whoever_ordered_an_attempt_says_what_it_was_good_for() {
    let dir = tempfile::tempdir().expect("dir");
    let book = open(dir.path(), &START);
    let ordered = |id| Attempt { initiator: Initiator::Policy { control: "a".to_owned() }, ..attempt(id, &START) };
    let judgement = |outcome, detail: Option<&str>| Judgement { outcome, detail: detail.map(str::to_owned) };
    for (attempt, outcome) in [
        (ordered("done"), Some(Outcome::Repaired)),
        (ordered("failed"), Some(Outcome::Failed)),
        (ordered("running"), None),
        (attempt("own", &START), Some(Outcome::Repaired)),
    ] {
        let id = attempt.id.clone();
        book.begin_at(attempt, false, &START).expect("not bound");
        if let Some(outcome) = outcome {
            book.change(&id, |attempt| (attempt.outcome, attempt.detail) = (outcome, Some("done".to_owned())));
        }
    }
    for (id, why) in [
        ("none", NotJudged::Unknown),
        ("failed", NotJudged::NotDone(Outcome::Failed)),
        ("running", NotJudged::NotDone(Outcome::Running)),
        ("own", NotJudged::Own),
    ] {
        assert_eq!(book.judge(id, judgement(Outcome::InVain, None)), Err(why), "{id}");
    }
    let judged = book.judge("done", judgement(Outcome::InVain, Some("it stands still"))).expect("taken");
    assert_eq!((judged.outcome, judged.detail.as_deref()), (Outcome::InVain, Some("it stands still")));
    // Another agent knows it too; the attempt counts as it did.
    let next = open(dir.path(), &later(1));
    assert_eq!(next.find("done"), Some(judged));
    let again = next.judge("done", judgement(Outcome::Repaired, None)).expect("taken");
    assert_eq!((again.outcome, again.detail.as_deref()), (Outcome::Repaired, Some("it stands still")));
}
