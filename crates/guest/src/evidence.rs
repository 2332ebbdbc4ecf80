//! What is kept when a QEMU ends unasked.

use crate::launch::Plan;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// So many are kept; the oldest go.
const KEPT: usize = 10;

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

/// Writes what is known into a file of `folder`.
pub(crate) fn keep(plan: &Plan, folder: &Path, reason: &str, lived: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut text = format!("{reason}\nlived {:.3} s\n", lived.as_secs_f64());
    for log in [&plan.qemu_log, &plan.guest_log] {
        let _ = writeln!(text, "\n--- last lines of {}", log.path().display());
        for line in log.last_lines() {
            let _ = writeln!(text, "{line}");
        }
    }
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(folder.join(format!("{now}.txt")), text))
        .and_then(|()| forget_oldest(folder));
    if let Err(error) = written {
        tracing::warn!(folder = %folder.display(), %error, "cannot keep the evidence of QEMU's end");
    }
}

fn forget_oldest(folder: &Path) -> io::Result<()> {
    let mut files: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    // Names are times of the same length.
    files.sort();
    let surplus = files.len().saturating_sub(KEPT);
    files[..surplus].iter().try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go() {
        let dir = tempfile::tempdir().expect("dir");
        for n in 100..115 {
            fs::write(dir.path().join(format!("{n}.txt")), "").expect("file");
        }
        forget_oldest(dir.path()).expect("tidy");
        let mut left: Vec<_> = fs::read_dir(dir.path()).expect("dir").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left.len(), KEPT);
        assert_eq!(left[0], "105.txt");
    }

    #[test]
    fn ends_are_described() {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(describe(&Ok(ExitStatus::from_raw(9)), None), "QEMU was killed by signal 9");
        let text = describe(&Ok(ExitStatus::from_raw(1 << 8)), Some("no such machine"));
        assert_eq!(text, "QEMU exited with status 1: no such machine");
    }
}
