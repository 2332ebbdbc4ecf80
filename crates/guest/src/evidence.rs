//! What is known when a QEMU ends unasked.

use crate::launch::Plan;
use std::fmt::Write as _;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

/// How a QEMU ended, in one line for a person.
pub(crate) fn describe(status: &io::Result<ExitStatus>, last_words: Option<&str>) -> String {
    let how = match status {
        Ok(status) => {
            #[cfg(unix)]
            let signal = std::os::unix::process::ExitStatusExt::signal(status);
            #[cfg(not(unix))]
            let signal: Option<i32> = None;
            match (signal, status.code()) {
                (Some(signal), _) => format!("QEMU was killed by signal {signal}"),
                (None, Some(code)) => format!("QEMU exited with status {code}"),
                (None, None) => "QEMU ended".to_owned(),
            }
        }
        Err(error) => format!("QEMU's end is unknown ({error})"),
    };
    match last_words {
        Some(words) => format!("{how}: {words}"),
        None => how,
    }
}

/// What is known of a QEMU that ended unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: SystemTime,
    /// How, in one line for a person.
    pub reason: String,
    /// How long it had run.
    pub lived: Duration,
    /// The last lines of its log and of the guest's, for a person.
    pub log: String,
}

/// What is known now of a QEMU that just ended.
pub(crate) fn end(plan: &Plan, reason: &str, lived: Duration) -> End {
    End { at: SystemTime::now(), reason: reason.to_owned(), lived, log: last_lines(plan) }
}

/// The last lines of both logs, for a person.
pub(crate) fn last_lines(plan: &Plan) -> String {
    let mut text = String::new();
    for log in [&plan.qemu_log, &plan.guest_log] {
        // Writing into a string does not fail.
        let _ = writeln!(text, "--- last lines of {}", log.path().display());
        for line in log.last_lines() {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_described() {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(describe(&Ok(ExitStatus::from_raw(9)), None), "QEMU was killed by signal 9");
        let text = describe(&Ok(ExitStatus::from_raw(1 << 8)), Some("no such machine"));
        assert_eq!(text, "QEMU exited with status 1: no such machine");
    }
}
