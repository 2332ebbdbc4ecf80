//! What asks the system: one thread that can be given up when a call hangs.

use super::super::DeviceInfo;
use super::super::backend::{Backend, OnEnd, Opened, Order, Seen};
use super::super::feed::Source;
use super::super::priority::{self, Priority};
use super::{Message, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

pub(super) enum Job {
    /// Open an output as this number.
    Open { order: Order, number: u64 },
    /// List the output devices.
    Devices,
    /// Look whether things are still as they were.
    Look { output: Output },
    /// Give a thread real-time priority.
    Raise { thread: u32 },
}

/// What a worker found out.
pub(in crate::playback) enum Answer {
    Opened { number: u64, result: Result<Opened, String> },
    Devices(Result<Vec<DeviceInfo>, String>),
    Looked(Seen),
    Raised(Priority),
}

pub(super) struct Worker {
    pub(super) number: u64,
    pub(super) jobs: Sender<Job>,
    /// Since when the oldest unanswered job waits.
    pub(super) busy_since: Option<Instant>,
    pub(super) unanswered: u32,
    pub(super) handle: thread::JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(
        worker: u64,
        mut backend: Box<dyn Backend>,
        source: &Source,
        outbox: &Sender<Message>,
        closing: &Closing,
    ) -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::channel();
        let (source, outbox, closing) = (source.clone(), outbox.clone(), closing.clone());
        let work = move || {
            while let Ok(job) = todo.recv() {
                let answer = match job {
                    Job::Open { order, number } => {
                        let outbox = outbox.clone();
                        let on_end: OnEnd = Arc::new(move |reason| {
                            let _ = outbox.send(Message::Ended { number, reason });
                        });
                        Answer::Opened { number, result: backend.open(&order, &source, number, on_end) }
                    }
                    Job::Devices => Answer::Devices(backend.devices()),
                    Job::Look { output } => Answer::Looked(backend.look(&output)),
                    Job::Raise { thread } => Answer::Raised(priority::raise(thread)),
                };
                if let Err(mpsc::SendError(Message::Answer {
                    answer: Answer::Opened { result: Ok(opened), .. }, ..
                })) = outbox.send(Message::Answer { worker, answer })
                {
                    closing.close(opened);
                }
            }
        };
        let handle = thread::Builder::new().name("loco-sound-open".into()).spawn(work)?;
        Ok(Self { number: worker, jobs, busy_since: None, unanswered: 0, handle })
    }
}

/// Drops streams on threads of their own: where a device went away that may take for ever.
#[derive(Clone, Default)]
pub(super) struct Closing(Arc<AtomicU32>);

impl Closing {
    pub(super) fn close(&self, opened: Opened) {
        self.0.fetch_add(1, SeqCst);
        let closing = self.0.clone();
        let close = move || {
            drop(opened.stream);
            closing.fetch_sub(1, SeqCst);
        };
        if let Err(error) = thread::Builder::new().name("loco-sound-drop".into()).spawn(close) {
            // It was dropped here instead, with what was to be run.
            self.0.fetch_sub(1, SeqCst);
            tracing::error!(%error, "no thread to close the sound device");
        }
    }

    /// Streams that are being dropped now; those that stay here hang.
    pub(super) fn count(&self) -> u32 {
        self.0.load(SeqCst)
    }
}
