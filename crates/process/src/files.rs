//! How many files and connections a process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Raises this process's own limit of open files to `files`, or as far as the system lets it; what it is then (`u64::MAX`
/// where there is none). It is never lowered. Children inherit it.
///
/// # Errors
/// When the system refuses what its own limit allows.
pub fn allow_files(files: u64) -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(current) = current else { return Ok(u64::MAX) };
    let wanted = maximum.map_or(files, |maximum| files.min(maximum));
    if current >= wanted {
        return Ok(current);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_lowered() {
        let now = allow_files(0).unwrap();
        assert!(now > 0);
        assert_eq!(allow_files(1).unwrap(), now);
        assert!(allow_files(now).unwrap() >= now);
    }
}
