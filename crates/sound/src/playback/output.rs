//! Keeps an output open, for ever: opens, watches the callback, opens again; a null output plays meanwhile.
//!
//! Sound servers stop answering without an error, leave out callbacks without a word, and dropping a stream whose device
//! went away may never return. So everything that asks the system runs on a worker thread that can be given up, streams
//! are dropped on threads of their own, and a watchdog compares the callback with the clock: the last one, and all of
//! them together.

mod count;
mod shown;
mod stand_in;
mod timings;
mod worker;

use super::backend::{Backend, CALLBACK_FRAMES, MOST_CALLBACK_FRAMES, Opened, Order};
use super::feed::Source;
use super::wake::Waker;
use super::{Output, SoundStatus, null};
use count::Count;
use parking_lot::Mutex;
use stand_in::StandIn;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use worker::{Closing, Job, Worker};

pub(super) use shown::Shown;
pub(super) use timings::Timings;
pub(super) use worker::Answer;

/// Output number that never plays: everything stopped.
const NO_OUTPUT: u64 = u64::MAX;
/// Worker threads given up at the same time; with more, a choice of device waits for one of them.
const MAX_ABANDONED: usize = 4;

/// Orders from the window, and answers.
pub(super) enum Message {
    Choose(Output),
    /// Keep the list of devices fresh, or no longer.
    WatchDevices(bool),
    Stop,
    Ended {
        number: u64,
        reason: String,
    },
    Answer {
        worker: u64,
        answer: Answer,
    },
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
    /// The default device, where the chosen one cannot be had.
    stand_in: StandIn,
    /// Size of a callback that is asked for.
    frames: u32,
    phase: Phase,
    next_number: u64,
    retry: Duration,
    list_at: Option<Instant>,
    worker: Option<Worker>,
    workers_started: u64,
    closing: Closing,
}

enum Phase {
    /// Nothing is to be opened: the null output is the choice.
    Null,
    Opening {
        /// Number of the first try; another worker may have begun a later one, since this one hangs. Whichever opens
        /// first plays.
        first: u64,
        /// When the last one began.
        since: Instant,
    },
    Waiting {
        until: Instant,
    },
    Playing(Playing),
}

struct Playing {
    number: u64,
    opened: Opened,
    follow_at: Instant,
    count: Count,
    raised: bool,
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
        let closing = shown.lock().closing.clone();
        let supervisor = Self {
            source,
            waker,
            shown,
            make_backend,
            timings,
            inbox,
            outbox: outbox.clone(),
            output,
            stand_in: StandIn::default(),
            frames: CALLBACK_FRAMES,
            phase: Phase::Null,
            next_number: 1,
            retry: timings.retry_min,
            list_at: None,
            worker: None,
            workers_started: 0,
            closing,
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
        let phase = match &self.phase {
            Phase::Null => None,
            Phase::Opening { since, .. } => Some(*since + self.timings.hung),
            Phase::Waiting { until } => Some(*until),
            Phase::Playing(playing) => {
                let watch_at = Instant::now() + self.watchdog().saturating_sub(self.source.pulse.silent_for());
                Some(watch_at.min(playing.follow_at).min(playing.count.due().unwrap_or(playing.follow_at)))
            }
        };
        [phase, self.list_at].into_iter().flatten().min()
    }

    /// How long the callback may stay away.
    fn watchdog(&self) -> Duration {
        match &self.phase {
            Phase::Playing(playing) if playing.count.is_past_start(self.source.pulse.total_frames()) => {
                self.timings.watchdog
            }
            _ => self.timings.start_watchdog,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Choose(output) => {
                if output != self.output {
                    self.output = output;
                    self.frames = CALLBACK_FRAMES;
                    self.stand_in.forget();
                    self.drop_stream();
                    self.play_null();
                    self.retry = self.timings.retry_min;
                    self.begin();
                }
            }
            Message::WatchDevices(watched) => self.list_at = watched.then(Instant::now),
            Message::Stop => {}
            Message::Ended { number, reason } => {
                if matches!(&self.phase, Phase::Playing(playing) if playing.number == number) {
                    self.lost(&reason);
                }
            }
            Message::Answer { worker, answer } => {
                if let Some(worker) = self.worker.as_mut().filter(|w| w.number == worker) {
                    worker.unanswered = worker.unanswered.saturating_sub(1);
                    worker.busy_since = (worker.unanswered > 0).then(Instant::now);
                }
                self.take_answer(answer);
            }
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Opened { number, result } => self.take_opened(number, result),
            Answer::Devices(result) => {
                let devices = result.unwrap_or_else(|reason| {
                    tracing::debug!(reason, "no list of sound devices");
                    Vec::new()
                });
                let mut shown = self.shown.lock();
                if shown.devices != devices {
                    shown.devices = devices;
                    drop(shown);
                    self.waker.wake();
                }
            }
            Answer::Looked(seen) => {
                let Phase::Playing(playing) = &self.phase else { return };
                match &self.output {
                    Output::Default if seen.default.is_some_and(|id| id != playing.opened.id) => {
                        self.lost("the default device changed");
                    }
                    Output::Device(_) => {
                        let Some(present) = seen.present else { return };
                        if !self.stand_in.is_needed() {
                            if !present {
                                self.lost("the chosen device is gone");
                            }
                        } else if self.stand_in.is_due(present, Instant::now(), self.timings.follow) {
                            self.lost("the chosen device is there");
                        }
                    }
                    _ => {}
                }
            }
            Answer::Raised(priority) => {
                if matches!(self.phase, Phase::Playing(_)) {
                    tracing::debug!("sound callback: {priority}");
                    self.shown.lock().status.priority = Some(priority);
                }
            }
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = Some(now + self.timings.follow);
            self.ask_if_idle(Job::Devices);
        }
        match &mut self.phase {
            Phase::Null => {}
            Phase::Opening { since, .. } => {
                if since.elapsed() >= self.timings.hung {
                    *since = now;
                    self.tell_none("the sound server does not answer");
                    // What hangs may never return, though a new call would: its server was replaced by another.
                    if self.give_up_worker() {
                        self.try_open();
                    }
                }
            }
            Phase::Waiting { until } => {
                if *until <= now {
                    self.begin();
                }
            }
            Phase::Playing(playing) => {
                let follows = playing.follow_at <= now;
                if follows {
                    playing.follow_at = now + self.timings.follow;
                }
                if self.source.pulse.silent_for() >= self.watchdog() {
                    self.lost("the sound server has stopped asking for sound");
                    return;
                }
                if follows {
                    self.ask_if_idle(Job::Look { output: self.output.clone() });
                }
                self.source.machine.look(now);
                self.raise();
                self.count(now);
            }
        }
    }

    /// Asks once for real-time priority, when the callback's thread is known.
    fn raise(&mut self) {
        let Phase::Playing(playing) = &mut self.phase else { return };
        if let (false, Some(thread)) = (playing.raised, self.source.pulse.thread()) {
            playing.raised = true;
            self.ask(Job::Raise { thread });
        }
    }

    /// Compares what the device asked for with the clock; asks for larger pieces when it keeps leaving out some.
    fn count(&mut self, now: Instant) {
        let Phase::Playing(playing) = &mut self.phase else { return };
        let pulse = &self.source.pulse;
        let Some(verdict) = playing.count.look(now, pulse.total_frames(), pulse.frames()) else { return };
        let missing_ms = verdict.missing_ms;
        let mut shown = self.shown.lock();
        shown.status.missed_ms += missing_ms;
        if verdict.persists && self.frames < MOST_CALLBACK_FRAMES {
            drop(shown);
            self.frames = (self.frames * 2).min(MOST_CALLBACK_FRAMES);
            self.lost("the sound server leaves out sound; asking for larger pieces");
            return;
        }
        let secs = self.timings.count.as_secs_f64();
        let left_out = || format!("the sound server left out {missing_ms} ms of the last {secs:.0} s");
        let stands_in = self.stand_in.note(&playing.opened.name);
        let note = if missing_ms > 0 { Some(left_out()) } else { stands_in };
        if shown.status.note != note {
            if let Some(note) = &note {
                tracing::warn!("sound: {note}");
            }
            shown.status.note = note;
            drop(shown);
            self.waker.wake();
        }
    }

    /// Opens what is chosen.
    fn begin(&mut self) {
        self.stand_in.pause();
        if self.output == Output::Null {
            self.phase = Phase::Null;
            self.tell(SoundStatus {
                playing: true,
                line: "no sound device, as chosen".into(),
                ..SoundStatus::default()
            });
            return;
        }
        self.open();
    }

    /// Opens what is chosen, or the default device in its place.
    fn open(&mut self) {
        self.phase = Phase::Opening { first: self.next_number + 1, since: Instant::now() };
        self.try_open();
    }

    fn try_open(&mut self) {
        let number = self.number();
        let output = if self.stand_in.is_needed() { Output::Default } else { self.output.clone() };
        self.ask(Job::Open { order: Order { output, frames: self.frames }, number });
    }

    fn take_opened(&mut self, number: u64, result: Result<Opened, String>) {
        let wanted = matches!(&self.phase, Phase::Opening { first, .. } if *first <= number);
        match result {
            Ok(opened) if wanted => {
                self.source.pulse.set_current(number);
                if self.stand_in.is_needed() {
                    self.stand_in.plays(Instant::now());
                } else {
                    self.stand_in.forget();
                }
                self.tell(SoundStatus {
                    playing: true,
                    line: format!("{}, {} Hz", opened.name, opened.rate_hz),
                    note: self.stand_in.note(&opened.name),
                    device: Some(opened.name.clone()),
                    rate_hz: Some(opened.rate_hz),
                    ..SoundStatus::default()
                });
                self.retry = self.timings.retry_min;
                // The first look comes soon: the callback's thread is known by then.
                let follow_at = Instant::now() + self.timings.follow.min(Duration::from_millis(700));
                let count = Count::new(opened.rate_hz, self.timings.count);
                self.phase = Phase::Playing(Playing { number, opened, follow_at, count, raised: false });
            }
            Ok(too_late) => self.closing.close(too_late),
            Err(reason) if wanted => {
                if matches!(self.output, Output::Device(_)) && !self.stand_in.is_needed() {
                    self.stand_in.begin(reason);
                    self.open();
                    return;
                }
                let reason = self.stand_in.pause().unwrap_or(reason);
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
        if let Phase::Playing(Playing { opened, .. }) = std::mem::replace(&mut self.phase, Phase::Null) {
            self.closing.close(opened);
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
        let before = &shown.status;
        let status = SoundStatus { reopened: before.reopened, missed_ms: before.missed_ms, ..status };
        if before.line != status.line || before.note != status.note {
            match &status.note {
                None if status.playing => tracing::info!("sound: {}", status.line),
                Some(note) if status.playing => tracing::warn!("sound: {note}"),
                _ => tracing::warn!("{}", status.line),
            }
        }
        shown.status = status;
        drop(shown);
        self.waker.wake();
    }

    /// Gives a job to the worker unless it has one.
    fn ask_if_idle(&mut self, job: Job) {
        if self.worker.as_ref().is_none_or(|worker| worker.unanswered == 0) {
            self.ask(job);
        }
    }

    /// Lets the worker go if its call hangs, unless too many hang already. Returns whether there is none now.
    fn give_up_worker(&mut self) -> bool {
        let hangs = |w: &Worker| w.busy_since.is_some_and(|since| since.elapsed() >= self.timings.hung);
        let abandoned = &mut self.shown.lock().abandoned;
        abandoned.retain(|handle| !handle.is_finished());
        if self.worker.as_ref().is_some_and(hangs) && abandoned.len() < MAX_ABANDONED {
            abandoned.extend(self.worker.take().map(|w| w.handle));
        }
        self.worker.is_none()
    }

    /// Gives a job to the worker; to a new one when it hangs.
    fn ask(&mut self, job: Job) {
        self.give_up_worker();
        if self.worker.is_none() {
            self.workers_started += 1;
            let backend = (self.make_backend)();
            match Worker::start(self.workers_started, backend, &self.source, &self.outbox, &self.closing) {
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
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
