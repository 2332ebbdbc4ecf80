//! Keeps an output open, for ever: opens, watches the callback, opens again; a null output plays meanwhile.
//!
//! Sound servers stop answering without an error, and dropping a stream whose device went away may never return. So
//! everything that asks the system runs on a worker thread that can be given up, and streams are dropped on threads of
//! their own.

use super::backend::{Backend, OnEnd, Opened};
use super::feed::Source;
use super::wake::Waker;
use super::{DeviceInfo, Output, SoundStatus, null};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Output number that never plays: everything stopped.
const NO_OUTPUT: u64 = u64::MAX;
/// Worker threads given up at the same time; with more, a choice of device waits for one of them.
const MAX_ABANDONED: usize = 4;

/// Times of the supervision.
#[derive(Clone, Copy)]
pub(super) struct Timings {
    /// First pause before opening is tried again; doubles up to `retry_max`.
    pub(super) retry_min: Duration,
    pub(super) retry_max: Duration,
    /// A callback that did not come for so long has stopped. PulseAudio's first one after a long rest takes 2 s.
    pub(super) watchdog: Duration,
    /// How often the default device is asked for: cpal does not tell of a change on PulseAudio.
    pub(super) follow: Duration,
    /// A call to the system that takes longer is called hung.
    pub(super) hung: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(2),
            watchdog: Duration::from_secs(3),
            follow: Duration::from_secs(3),
            hung: Duration::from_secs(4),
        }
    }
}

/// What the window may read.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) status: SoundStatus,
    pub(super) devices: Vec<DeviceInfo>,
}

/// Orders from the window, and answers.
pub(super) enum Message {
    Choose(Output),
    ListDevices,
    Stop,
    Opened { worker: u64, number: u64, result: Result<Opened, String> },
    Ended { number: u64, reason: String },
    Devices { worker: u64, result: Result<Vec<DeviceInfo>, String> },
    DefaultId { worker: u64, id: Option<String> },
}

/// Makes a backend, for every new worker.
pub(super) type MakeBackend = Box<dyn Fn() -> Box<dyn Backend> + Send>;

/// The thread that decides.
pub(super) struct Supervisor {
    source: Source,
    waker: Arc<Waker>,
    shown: Arc<Mutex<Shown>>,
    make_backend: MakeBackend,
    timings: Timings,
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
    output: Output,
    phase: Phase,
    next_number: u64,
    retry: Duration,
    worker: Option<Worker>,
    workers_started: u64,
    abandoned: Vec<thread::JoinHandle<()>>,
}

enum Phase {
    /// Nothing is to be opened: the null output is the choice.
    Null,
    Opening {
        number: u64,
        since: Instant,
        told: bool,
    },
    Waiting {
        until: Instant,
    },
    Playing {
        number: u64,
        opened: Opened,
        follow_at: Instant,
    },
}

enum Job {
    Open { output: Output, number: u64 },
    Devices,
    DefaultId,
}

struct Worker {
    number: u64,
    jobs: Sender<Job>,
    /// Since when the oldest unanswered job waits.
    busy_since: Option<Instant>,
    unanswered: u32,
    handle: thread::JoinHandle<()>,
}

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn new(
        source: Source,
        waker: Arc<Waker>,
        shown: Arc<Mutex<Shown>>,
        make_backend: MakeBackend,
        timings: Timings,
        output: Output,
    ) -> (Self, Sender<Message>) {
        let (outbox, inbox) = mpsc::channel();
        let supervisor = Self {
            source,
            waker,
            shown,
            make_backend,
            timings,
            inbox,
            outbox: outbox.clone(),
            output,
            phase: Phase::Null,
            next_number: 1,
            retry: timings.retry_min,
            worker: None,
            workers_started: 0,
            abandoned: Vec::new(),
        };
        (supervisor, outbox)
    }

    /// Runs until [`Message::Stop`].
    pub(super) fn run(mut self) {
        self.play_null();
        self.begin();
        loop {
            let message = match self.deadline() {
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => self.look(),
            }
        }
        self.source.pulse.set_current(NO_OUTPUT);
        self.drop_stream();
    }

    /// When there is something to look at without a message.
    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Null => None,
            Phase::Opening { told: true, .. } => None,
            Phase::Opening { since, .. } => Some(*since + self.timings.hung),
            Phase::Waiting { until } => Some(*until),
            Phase::Playing { follow_at, .. } => {
                let rest = self.timings.watchdog.saturating_sub(self.source.pulse.silent_for());
                let watch_at = Instant::now() + rest;
                Some(if self.output == Output::Default { watch_at.min(*follow_at) } else { watch_at })
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Choose(output) => {
                if output != self.output {
                    self.output = output;
                    self.drop_stream();
                    self.play_null();
                    self.retry = self.timings.retry_min;
                    self.begin();
                }
            }
            Message::ListDevices => self.ask(Job::Devices),
            Message::Stop => {}
            Message::Opened { worker, number, result } => {
                self.answered(worker);
                self.take_opened(number, result);
            }
            Message::Ended { number, reason } => {
                if matches!(&self.phase, Phase::Playing { number: playing, .. } if *playing == number) {
                    self.lost(&reason);
                }
            }
            Message::Devices { worker, result } => {
                self.answered(worker);
                match result {
                    Ok(devices) => self.shown.lock().devices = devices,
                    Err(reason) => {
                        tracing::debug!(reason, "no list of sound devices");
                        self.shown.lock().devices.clear();
                    }
                }
                self.waker.wake();
            }
            Message::DefaultId { worker, id } => {
                self.answered(worker);
                let Phase::Playing { opened, .. } = &self.phase else { return };
                if self.output == Output::Default && id.is_some_and(|id| id != opened.id) {
                    self.lost("the default device changed");
                }
            }
        }
    }

    fn look(&mut self) {
        match &mut self.phase {
            Phase::Null => {}
            Phase::Opening { since, told, .. } => {
                if !*told && since.elapsed() >= self.timings.hung {
                    *told = true;
                    self.tell_none("the sound server does not answer");
                }
            }
            Phase::Waiting { until } => {
                if *until <= Instant::now() {
                    self.begin();
                }
            }
            Phase::Playing { follow_at, .. } => {
                if self.source.pulse.silent_for() >= self.timings.watchdog {
                    self.lost("the sound server has stopped asking for sound");
                } else if *follow_at <= Instant::now() {
                    *follow_at = Instant::now() + self.timings.follow;
                    let idle = self.worker.as_ref().is_none_or(|worker| worker.unanswered == 0);
                    if idle && self.output == Output::Default {
                        self.ask(Job::DefaultId);
                    }
                }
            }
        }
    }

    /// Opens what is chosen.
    fn begin(&mut self) {
        if self.output == Output::Null {
            self.phase = Phase::Null;
            self.tell(SoundStatus {
                playing: true,
                line: "no sound device, as chosen".into(),
                ..SoundStatus::default()
            });
            return;
        }
        let number = self.number();
        self.phase = Phase::Opening { number, since: Instant::now(), told: false };
        self.ask(Job::Open { output: self.output.clone(), number });
    }

    fn take_opened(&mut self, number: u64, result: Result<Opened, String>) {
        let wanted = matches!(&self.phase, Phase::Opening { number: wanted, .. } if *wanted == number);
        match result {
            Ok(opened) if wanted => {
                self.source.pulse.set_current(number);
                self.tell(SoundStatus {
                    playing: true,
                    line: format!("{}, {} Hz", opened.name, opened.rate_hz),
                    device: Some(opened.name.clone()),
                    rate_hz: Some(opened.rate_hz),
                    ..SoundStatus::default()
                });
                self.retry = self.timings.retry_min;
                self.phase = Phase::Playing { number, opened, follow_at: Instant::now() + self.timings.follow };
            }
            Ok(too_late) => drop_elsewhere(too_late),
            Err(reason) if wanted => {
                self.tell_none(&reason);
                self.phase = Phase::Waiting { until: Instant::now() + self.retry };
                self.retry = (self.retry * 2).min(self.timings.retry_max);
            }
            Err(_) => {}
        }
    }

    /// The stream is gone: plays into nothing and opens anew at once.
    fn lost(&mut self, reason: &str) {
        self.drop_stream();
        self.play_null();
        self.shown.lock().status.reopened += 1;
        self.tell_none(reason);
        self.begin();
    }

    fn drop_stream(&mut self) {
        if let Phase::Playing { opened, .. } = std::mem::replace(&mut self.phase, Phase::Null) {
            drop_elsewhere(opened);
        }
    }

    fn play_null(&mut self) {
        let number = self.number();
        self.source.pulse.set_current(number);
        if let Err(error) = null::start(&self.source, number) {
            tracing::error!(error, "meters stand still while there is no sound device");
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn tell_none(&self, reason: &str) {
        self.tell(SoundStatus { line: format!("no sound device: {reason}; trying again"), ..SoundStatus::default() });
    }

    fn tell(&self, status: SoundStatus) {
        let mut shown = self.shown.lock();
        let status = SoundStatus { reopened: shown.status.reopened, ..status };
        if shown.status.line != status.line {
            if status.playing {
                tracing::info!("sound: {}", status.line);
            } else {
                tracing::warn!("{}", status.line);
            }
        }
        shown.status = status;
        drop(shown);
        self.waker.wake();
    }

    /// Gives a job to the worker; to a new one when it hangs.
    fn ask(&mut self, job: Job) {
        let hangs = |w: &Worker| w.busy_since.is_some_and(|since| since.elapsed() >= self.timings.hung);
        self.abandoned.retain(|handle| !handle.is_finished());
        if self.worker.as_ref().is_some_and(hangs) && self.abandoned.len() < MAX_ABANDONED {
            self.abandoned.extend(self.worker.take().map(|w| w.handle));
        }
        if self.worker.is_none() {
            self.workers_started += 1;
            match Worker::start(self.workers_started, (self.make_backend)(), &self.source, &self.outbox) {
                Ok(worker) => self.worker = Some(worker),
                Err(error) => tracing::error!(%error, "no thread for the sound device"),
            }
        }
        if let Some(worker) = &mut self.worker {
            worker.busy_since.get_or_insert_with(Instant::now);
            worker.unanswered += 1;
            // The worker ends only when this sender is dropped.
            let _ = worker.jobs.send(job);
        }
    }

    fn answered(&mut self, number: u64) {
        if let Some(worker) = self.worker.as_mut().filter(|w| w.number == number) {
            worker.unanswered = worker.unanswered.saturating_sub(1);
            worker.busy_since = (worker.unanswered > 0).then(Instant::now);
        }
    }
}

// === impl Worker ===

impl Worker {
    fn start(
        worker: u64,
        mut backend: Box<dyn Backend>,
        source: &Source,
        outbox: &Sender<Message>,
    ) -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::channel();
        let (source, outbox) = (source.clone(), outbox.clone());
        let work = move || {
            while let Ok(job) = todo.recv() {
                let answer = match job {
                    Job::Open { output, number } => {
                        let outbox = outbox.clone();
                        let on_end: OnEnd = Arc::new(move |reason| {
                            let _ = outbox.send(Message::Ended { number, reason });
                        });
                        Message::Opened { worker, number, result: backend.open(&output, &source, number, on_end) }
                    }
                    Job::Devices => Message::Devices { worker, result: backend.devices() },
                    Job::DefaultId => Message::DefaultId { worker, id: backend.default_id() },
                };
                if let Err(mpsc::SendError(Message::Opened { result: Ok(opened), .. })) = outbox.send(answer) {
                    drop_elsewhere(opened);
                }
            }
        };
        let handle = thread::Builder::new().name("loco-sound-open".into()).spawn(work)?;
        Ok(Self { number: worker, jobs, busy_since: None, unanswered: 0, handle })
    }
}

/// Drops a stream on a thread of its own: where its device went away this may take for ever.
fn drop_elsewhere(opened: Opened) {
    let spawned = thread::Builder::new().name("loco-sound-drop".into()).spawn(move || drop(opened.stream));
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread to close the sound device");
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
