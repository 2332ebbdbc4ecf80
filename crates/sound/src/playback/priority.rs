//! Real-time priority for the thread of the sound device's callback, and a turn before others for threads that bring sound,
//! where they can be had. Sound works without.
//!
//! Nothing is asked for inside the callback: it tells its thread's number once, and the supervisor does the rest.

use std::fmt;

/// What the thread got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// It had it already: some sound servers' libraries see to it.
    Theirs,
    /// The kernel allowed it (root, `CAP_SYS_NICE` or `RLIMIT_RTPRIO`).
    Ours,
    /// rtkit, the system's service for this, gave it.
    RealtimeKit,
    /// None: an ordinary thread.
    Ordinary,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Theirs => "real-time priority (by the sound server)",
            Self::Ours => "real-time priority",
            Self::RealtimeKit => "real-time priority (by rtkit)",
            Self::Ordinary => "ordinary priority",
        })
    }
}

/// Above ordinary threads and below what sound servers take for themselves (PipeWire: 88, PulseAudio: 5 and 9).
#[cfg(target_os = "linux")]
const PRIORITY: i32 = 4;

/// Nice value of threads that bring sound; that of sound servers is -11.
#[cfg(target_os = "linux")]
const NICE: i32 = -10;

/// Number of the calling thread; a system call without effects.
#[cfg(target_os = "linux")]
pub(super) fn this_thread() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Raises a thread of this process. May take as long as the system's services like.
#[cfg(target_os = "linux")]
pub(super) fn raise(thread: u32) -> Priority {
    let Ok(id) = libc::pid_t::try_from(thread) else { return Priority::Ordinary };
    // SAFETY: takes a number and gives one.
    let now = unsafe { libc::sched_getscheduler(id) };
    if now & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO || now & !libc::SCHED_RESET_ON_FORK == libc::SCHED_RR {
        return Priority::Theirs;
    }
    let parameter = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the parameter lives through the call; a wrong thread number is an error code.
    let set =
        unsafe { libc::sched_setscheduler(id, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    if set == 0 {
        return Priority::Ours;
    }
    match ask_realtime_kit("MakeThreadRealtime", &(u64::from(thread), PRIORITY.unsigned_abs())) {
        Ok(()) => Priority::RealtimeKit,
        Err(reason) => {
            tracing::debug!(%reason, "no real-time priority for sound");
            Priority::Ordinary
        }
    }
}

/// Puts the calling thread before ordinary ones, where that is allowed: one that brings the sound of a whole wall has more
/// to do than its fair share of a machine that is full, and would wait for its turn while the sound runs dry. Threads that it
/// starts are ordinary again. Returns at once.
#[cfg(target_os = "linux")]
pub fn favour_this_thread() {
    if favour_this_thread_if_allowed() {
        return;
    }
    let thread = this_thread();
    // The system's service may take as long as it likes.
    let asks = move || {
        if let Err(reason) = ask_realtime_kit("MakeThreadHighPriority", &(u64::from(thread), NICE)) {
            tracing::debug!(%reason, "no turn before others for what brings sound");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("priority".to_owned()).spawn(asks) {
        tracing::debug!(%error, "no thread to ask for a turn before others");
    }
}

/// The same where the kernel itself allows it (root, `CAP_SYS_NICE` or `RLIMIT_NICE`), without asking the system's service,
/// which has 25 threads for each user and no more. Whether it did.
#[cfg(target_os = "linux")]
#[expect(clippy::must_use_candidate, reason = "sound works without")]
pub fn favour_this_thread_if_allowed() -> bool {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives through the call, which concerns the calling thread.
    let apart =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    // SAFETY: takes numbers and gives one.
    apart == 0 && unsafe { libc::setpriority(libc::PRIO_PROCESS, this_thread(), NICE) } == 0
}

/// Calls a method of `org.freedesktop.RealtimeKit1` on the system bus.
#[cfg(target_os = "linux")]
fn ask_realtime_kit<B>(method: &str, body: &B) -> Result<(), zbus::Error>
where
    B: serde::Serialize + zbus::zvariant::DynamicType,
{
    /// rtkit refuses who could run for longer than this without a rest.
    const MOST_MICROS: libc::rlim_t = 200_000;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a place that lives through them; they change this process's own limit only.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_RTTIME, &raw mut limit) == 0 && limit.rlim_max > MOST_MICROS {
            limit = libc::rlimit { rlim_cur: MOST_MICROS, rlim_max: MOST_MICROS };
            libc::setrlimit(libc::RLIMIT_RTTIME, &raw const limit);
        }
    }
    let ask = async {
        let bus = zbus::Connection::system().await?;
        let name = "org.freedesktop.RealtimeKit1";
        bus.call_method(Some(name), "/org/freedesktop/RealtimeKit1", Some(name), method, body).await?;
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.map_err(|error| zbus::Error::InputOutput(error.into()))?.block_on(ask)
}

/// Elsewhere threads stay as they are.
#[cfg(not(target_os = "linux"))]
pub fn favour_this_thread() {}

/// Elsewhere threads stay as they are.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::must_use_candidate, reason = "sound works without")]
pub fn favour_this_thread_if_allowed() -> bool {
    false
}

/// Not needed elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn this_thread() -> u32 {
    1
}

/// CoreAudio's callbacks come on a real-time thread of its own; WASAPI's are left as cpal makes them.
#[cfg(not(target_os = "linux"))]
pub(super) fn raise(_thread: u32) -> Priority {
    if cfg!(target_os = "macos") { Priority::Theirs } else { Priority::Ordinary }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The calling thread's nice value.
    fn nice() -> i32 {
        // SAFETY: takes numbers and gives one.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, this_thread()) }
    }

    #[test]
    fn what_a_favoured_thread_starts_is_ordinary() {
        let seen = std::thread::spawn(|| {
            let before = nice();
            favour_this_thread();
            (before, nice(), std::thread::spawn(nice).join().unwrap())
        });
        let (before, now, started) = seen.join().unwrap();
        assert!(now == NICE || now == before, "favoured or not allowed: {now}");
        assert_eq!(started, before.max(0));
    }

    #[test]
    fn whatever_is_allowed_nothing_breaks() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(this_thread()).unwrap();
            let _ = ended.recv();
        });
        let id = told.recv().unwrap();
        let first = raise(id);
        let second = raise(id);
        if first == Priority::Ours {
            assert_eq!(second, Priority::Theirs, "it was raised");
        } else {
            assert_eq!(first, second);
        }
        drop(end);
        thread.join().unwrap();
        assert_eq!(raise(u32::MAX), Priority::Ordinary);
    }
}
