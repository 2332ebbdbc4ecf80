//! What can go wrong with a guest.

use std::io;
use std::path::PathBuf;

/// A guest cannot be had, or does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The profile is refused.
    #[error(transparent)]
    Profile(#[from] crate::profile::ProfileError),
    /// There is no QEMU.
    #[error("QEMU is not installed: {program:?} was not found; install {package}, or set LOCO_QEMU to its path")]
    QemuMissing {
        /// What was looked for.
        program: PathBuf,
        /// The package that has it, by distribution.
        package: &'static str,
    },
    /// QEMU does not say what it is.
    #[error("{program:?} does not behave like QEMU: {detail}")]
    QemuUnknown {
        /// What was run.
        program: PathBuf,
        /// What it did instead.
        detail: String,
    },
    /// This QEMU was built, or installed, without the D-Bus display.
    #[error("QEMU {version} at {program:?} has no D-Bus display; install {package}")]
    DisplayMissing {
        /// Which.
        program: PathBuf,
        /// Its version.
        version: String,
        /// The package that has it, by distribution.
        package: &'static str,
    },
    /// A file that the profile names is not there, or cannot be read.
    #[error("{what} {path:?} of the profile cannot be read: {source}")]
    File {
        /// Its part in the profile.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel of profile `demo` was not built.
    #[error("the demo guest's kernel was not found; looked at: {}", tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    DemoKernelMissing {
        /// Every place.
        tried: Vec<PathBuf>,
    },
    /// No disk space for the guest's writes.
    #[error("no space left for {path:?}: {detail}")]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// What the writer said.
        detail: String,
    },
    /// Making a disk image failed.
    #[error("cannot make the disk image {path:?}: {detail}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// What qemu-img, or the system, said.
        detail: String,
    },
    /// No run directory.
    #[error(transparent)]
    RunDir(#[from] loco_process::RunDirError),
    /// A socket, folder or file of ours cannot be made.
    #[error("cannot use {path:?}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why; [`io::ErrorKind::AddrInUse`] when someone else has it.
        source: io::Error,
    },
    /// Another guest uses the state folder.
    #[error("the state folder {path:?} is in use by another guest")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The chosen accelerator does not work here.
    #[error("accelerator {name} does not work here: {reason}; allowed are auto, kvm, hvf, whpx, tcg")]
    Accelerator {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// The guest does not run, so it cannot do that.
    #[error("the guest is {state}, not running")]
    NotRunning {
        /// What it is instead.
        state: crate::GuestState,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {detail}")]
    Refused {
        /// The command.
        command: &'static str,
        /// What it said.
        detail: String,
    },
    /// QEMU did not answer in time.
    #[error("QEMU did not answer {command} within {patience:?}")]
    TimedOut {
        /// The command.
        command: &'static str,
        /// How long was waited.
        patience: std::time::Duration,
    },
    /// A snapshot's name that QEMU or a file system would misread.
    #[error("refused snapshot name {0:?}: 1 to 64 letters, digits, '-', '_' or '.', not starting with '-' or '.'")]
    SnapshotName(String),
    /// The profile has no such device.
    #[error("there is nothing to reset: the guest has no {what}")]
    NoDevice {
        /// Which.
        what: &'static str,
    },
    /// There is no snapshot of this name.
    #[error("there is no snapshot {0:?}")]
    NoSnapshot(String),
    /// Nowhere to keep a snapshot.
    #[error("the profile has no writable qcow2 disk that could hold a snapshot")]
    NoSnapshotDisk,
    /// The guest's task is gone, or its QEMU.
    #[error("the guest, or its QEMU, has ended")]
    Ended,
}

/// An input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The guest does not run.
    #[error("the guest does not run")]
    NotRunning,
    /// More waits than the guest can take.
    #[error("too many inputs wait for the guest")]
    Full,
}
