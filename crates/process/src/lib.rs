//! Children that die with their parent, what the kernel says of them, and their private run directory.
//!
//! A child must not outlive us, also when we are killed with SIGKILL and can do nothing any more. On Linux the kernel
//! does it (`PR_SET_PDEATHSIG`), with two traps that this crate knows: the signal is sent when the *thread* that forked
//! ends, so all children are forked by one thread that lives as long as the process; and a parent that died between
//! `fork` and `prctl` is not noticed, so the child compares its parent's id after setting the signal.

mod files;
mod run_dir;
mod spawner;
mod stat;

pub use files::allow_files;
pub use run_dir::{MAX_SOCKET_PATH, RunDir, RunDirError};
pub use spawner::{DeathSignal, Spawner, terminate, terminate_and_wait};
pub use stat::{ProcId, ProcStat};
