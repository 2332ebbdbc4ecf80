//! Wakes the window from inside the callback, which may neither lock nor allocate: a flag and an unpark.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::thread::{self, JoinHandle, Thread};

/// Wakes.
pub(super) struct Waker {
    wanted: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    thread: Thread,
}

impl Waker {
    /// A thread that calls `wake` once for every burst of [`Waker::wake`]s. If it cannot start, nothing is called.
    pub(super) fn start(wake: Arc<dyn Fn() + Send + Sync>) -> (Self, io::Result<JoinHandle<()>>) {
        let (wanted, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (wanted_there, stopped_there) = (wanted.clone(), stopped.clone());
        let handle = thread::Builder::new().name("loco-sound-wake".into()).spawn(move || {
            while !stopped_there.load(Acquire) {
                if wanted_there.swap(false, AcqRel) {
                    wake();
                } else {
                    thread::park();
                }
            }
        });
        let thread = handle.as_ref().map_or_else(|_| thread::current(), |handle| handle.thread().clone());
        (Self { wanted, stopped, thread }, handle)
    }

    /// Asks for a call; never blocks.
    pub(super) fn wake(&self) {
        self.wanted.store(true, Release);
        self.thread.unpark();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Release);
        self.thread.unpark();
    }
}
