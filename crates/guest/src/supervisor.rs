//! The task that moves the guest's state towards its target.

mod hold;
mod order;

pub(crate) use order::Order;

use crate::accelerator::Verdict;
use crate::command_line::StartOptions;
use crate::error::GuestError;
use crate::evidence::{self, End};
use crate::input::GuestInput;
use crate::launch::{self, Machine, Plan, Process};
use crate::lifecycle::{Action, Event, Lifecycle, Phase};
use crate::profile::PowerDown;
use crate::qmp::{PATIENCE, Qmp};
use crate::shared::Shared;
use crate::status::{GuestState, GuestStatus, Target};
use hold::Hold;
use qapi::qmp;
use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

/// How often it is looked whether a whole guest is saved or loaded.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// How long QEMU may take to answer that it quits.
const QUIT_PATIENCE: Duration = Duration::from_secs(1);

type Attaching = Pin<Box<dyn Future<Output = Result<Machine, String>> + Send>>;

/// The one QEMU that there is.
struct Current {
    process: Process,
    begun: Instant,
    /// Until it has come up.
    attaching: Option<Attaching>,
    /// From then on.
    machine: Option<(Machine, broadcast::Receiver<qmp::Event>)>,
    started_paused: bool,
    /// Why it did not come up, or was ended by us as broken.
    complaint: Option<String>,
}

pub(crate) struct Supervisor {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    input: GuestInput,
    accelerator: Verdict,
    start_from: Option<String>,
    ends: mpsc::UnboundedSender<End>,
    lifecycle: Lifecycle,
    current: Option<Current>,
    hold: Hold,
    retry_at: Option<Instant>,
    patience_until: Option<Instant>,
    power_down_timeout: Duration,
    /// When the last target or restart was ordered.
    ordered_at: Instant,
    status: watch::Sender<GuestStatus>,
    monitor: watch::Sender<Option<Qmp>>,
}

/// What the task woke up for.
enum Woken {
    Order(Option<Order>),
    Attached(Result<Machine, String>),
    Ended(String),
    Qmp(Result<qmp::Event, broadcast::error::RecvError>),
    Retry,
    Patience,
    /// A guest that was held has gone on for long enough.
    Settled,
    Pointer,
}

impl Supervisor {
    pub(crate) fn new(
        plan: Arc<Plan>,
        shared: Arc<Shared>,
        input: GuestInput,
        accelerator: Verdict,
        start_from: Option<String>,
        ends: mpsc::UnboundedSender<End>,
    ) -> (Self, watch::Receiver<GuestStatus>, watch::Receiver<Option<Qmp>>) {
        let status = GuestStatus {
            accelerator: Some(accelerator.clone()),
            qemu_version: Some(plan.facts.version_text()),
            ..GuestStatus::default()
        };
        let (status, status_out) = watch::channel(status);
        let (monitor, monitor_out) = watch::channel(None);
        let lifecycle = Lifecycle::new();
        let supervisor = Self {
            plan,
            shared,
            input,
            accelerator,
            start_from,
            ends,
            lifecycle,
            current: None,
            hold: Hold::default(),
            retry_at: None,
            patience_until: None,
            power_down_timeout: Duration::ZERO,
            ordered_at: Instant::now(),
            status,
            monitor,
        };
        (supervisor, status_out, monitor_out)
    }

    /// Runs until its owner is gone; then QEMU is killed.
    pub(crate) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, target: Target) {
        let mut pointer = self.shared.absolute.subscribe();
        self.take(Event::Target(target)).await;
        loop {
            match self.next(&mut orders, &mut pointer).await {
                Woken::Order(None) => return,
                Woken::Order(Some(Order::Target(target, timeout))) => {
                    self.power_down_timeout = timeout;
                    self.ordered_at = Instant::now();
                    // One that has less time than was said before.
                    let is_hurried = self.lifecycle.phase == Phase::PoweringDown && target == Target::Stopped;
                    if let Some(until) = self.patience_until.as_mut().filter(|_| is_hurried) {
                        *until = (*until).min(self.ordered_at + timeout);
                    }
                    self.take(Event::Target(target)).await;
                }
                Woken::Order(Some(Order::Ping(answer))) => drop(answer.send(())),
                Woken::Order(Some(Order::Restart { hangs, begun })) => {
                    self.ordered_at = Instant::now();
                    self.set_reason(Some("restarted on demand".to_owned()));
                    self.take(Event::Restart { hangs }).await;
                    // No one may be waiting.
                    let _ = begun.send(());
                }
                Woken::Attached(Ok(machine)) => self.attached(machine).await,
                // Its end is then the event.
                Woken::Attached(Err(complaint)) => self.give_up(complaint),
                Woken::Ended(reason) => self.ended(reason).await,
                Woken::Qmp(event) => self.qmp_event(event).await,
                // Saving and loading the whole guest hold it too, and let it go on.
                Woken::Retry if self.is_busy() => self.retry_at = Some(Instant::now() + BUSY_RETRY),
                Woken::Retry => {
                    self.retry_at = None;
                    self.take(Event::RetryDue).await;
                }
                Woken::Patience => {
                    self.patience_until = None;
                    self.take(Event::PatienceOver).await;
                }
                Woken::Settled => self.let_go(),
                Woken::Pointer => self.publish(),
            }
        }
    }

    async fn next(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        pointer: &mut watch::Receiver<Option<bool>>,
    ) -> Woken {
        let at = |when: Option<Instant>| async move {
            match when {
                Some(when) => tokio::time::sleep_until(when).await,
                None => pending().await,
            }
        };
        let (retry, patience, settled) = (at(self.retry_at), at(self.patience_until), at(self.hold.over_at()));
        let log = self.plan.qemu_log.clone();
        let (mut process, mut attaching, mut machine, mut complaint) = (None, None, None, None);
        if let Some(current) = &mut self.current {
            process = Some(&mut current.process);
            attaching = current.attaching.as_mut();
            machine = current.machine.as_mut();
            complaint = current.complaint.as_ref();
        }
        let ended = async {
            match process {
                Some(process) => {
                    let status = process.ended().await;
                    let last = log.last_lines().pop();
                    // Our complaint is the reason only if it was we who ended it: its own last words are better.
                    let exited = status.as_ref().is_ok_and(|status| status.code().is_some());
                    let (first, second) = (last.as_deref(), complaint.map(String::as_str));
                    evidence::describe(&status, if exited { first.or(second) } else { second.or(first) })
                }
                None => pending().await,
            }
        };
        let attached = async {
            match attaching {
                Some(attaching) => attaching.await,
                None => pending().await,
            }
        };
        let event = async {
            match machine {
                Some((machine, events)) => tokio::select! {
                    event = events.recv() => event,
                    () = machine.qmp.closed() => Err(broadcast::error::RecvError::Closed),
                },
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => Woken::Order(order),
            reason = ended => Woken::Ended(reason),
            machine = attached => Woken::Attached(machine),
            event = event => Woken::Qmp(event),
            () = retry => Woken::Retry,
            () = patience => Woken::Patience,
            () = settled => Woken::Settled,
            Ok(()) = pointer.changed() => Woken::Pointer,
        }
    }

    /// Takes an event through the state machine, and does what it says.
    async fn take(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.lifecycle.on(event);
            // Before anything is done: that may take its time, and the guest is not as it was meanwhile.
            self.publish();
            for action in actions {
                if let Some(more) = self.act(action).await {
                    events.push_back(more);
                }
            }
            self.publish();
        }
    }

    async fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Launch => return self.launch().await,
            Action::Pause => {
                self.tell("pause", |q| async move { q.execute(qmp::stop {}, PATIENCE).await.map(drop) }).await;
            }
            Action::Resume => {
                self.tell("resume", |q| async move { q.execute(qmp::cont {}, PATIENCE).await.map(drop) }).await;
            }
            Action::PowerDown => {
                if self.plan.profile.hardware.power_down == PowerDown::Quit || self.power_down_timeout.is_zero() {
                    return Some(Event::PatienceOver);
                }
                self.patience_until = Some(Instant::now() + self.power_down_timeout);
                let press = |q: Qmp| async move { q.execute(qmp::system_powerdown {}, PATIENCE).await.map(drop) };
                self.tell("power down", press).await;
            }
            Action::Quit => return self.quit().await,
            Action::End => self.end(),
            Action::RetryAfter(wait) => self.retry_at = Some(Instant::now() + wait),
            // Done where the reason is known.
            Action::KeepEvidence => {}
        }
        None
    }

    /// Tells a running QEMU something. When it does not obey it is not what we think: it is ended, which restarts it.
    async fn tell<F>(&mut self, what: &str, command: impl FnOnce(Qmp) -> F)
    where
        F: Future<Output = Result<(), GuestError>>,
    {
        let Some((machine, _)) = self.current.as_ref().and_then(|c| c.machine.as_ref()) else { return };
        if let Err(error) = command(machine.qmp.clone()).await {
            self.give_up(format!("it does not {what}: {error}"));
        }
    }

    /// Before a QEMU that is well is ended: lets it write its disks' images, which it keeps a part of in memory for as long
    /// as it runs. One that does not answer is not waited for.
    async fn quit(&mut self) -> Option<Event> {
        let qmp = self.qmp().cloned();
        let answer = match qmp {
            Some(qmp) => qmp.execute(qmp::quit {}, QUIT_PATIENCE).await,
            None => Err(GuestError::Ended),
        };
        match answer {
            Ok(_) => {
                self.patience_until = Some(order::end_by(self.ordered_at, Instant::now()));
                None
            }
            Err(error) => {
                tracing::debug!(instance = %self.plan.instance, %error, "QEMU does not quit: killed");
                Some(Event::PatienceOver)
            }
        }
    }

    async fn launch(&mut self) -> Option<Event> {
        self.retry_at = None;
        self.patience_until = None;
        let start = StartOptions {
            accelerator: self.accelerator.accelerator,
            paused: self.lifecycle.target == Target::Paused,
            load: self.start_from.clone(),
        };
        match launch::spawn(&self.plan, &start).await {
            Ok((process, sockets)) => {
                let attaching = launch::attach(
                    Arc::clone(&self.plan),
                    process.pid(),
                    sockets,
                    Arc::clone(&self.shared),
                    self.input.clone(),
                );
                self.status.send_modify(|status| status.started_at = Some(SystemTime::now()));
                self.current = Some(Current {
                    process,
                    begun: Instant::now(),
                    attaching: Some(Box::pin(attaching)),
                    machine: None,
                    started_paused: start.paused,
                    complaint: None,
                });
                None
            }
            Err(error) => {
                let reason = format!("{} cannot be started: {error}", self.plan.program.display());
                tracing::error!(instance = %self.plan.instance, reason, "QEMU cannot be started");
                self.set_reason(Some(reason));
                Some(Event::Ended { after: Duration::ZERO })
            }
        }
    }

    async fn attached(&mut self, machine: Machine) {
        let Some(current) = &mut self.current else { return };
        current.attaching = None;
        let ms = current.begun.elapsed().as_millis() as u64;
        tracing::info!(instance = %self.plan.instance, pid = current.process.pid(), ms, "QEMU is up");
        let events = machine.qmp.events();
        self.monitor.send_replace(Some(machine.qmp.clone()));
        let paused = current.started_paused;
        current.machine = Some((machine, events));
        if self.lifecycle.restarts == 0 {
            self.set_reason(None);
        }
        self.take(Event::Launched { paused }).await;
    }

    /// Ends a QEMU that is no use any more; its end is then taken as unasked.
    fn give_up(&mut self, complaint: String) {
        let Some(current) = &mut self.current else { return };
        current.attaching = None;
        if current.complaint.is_none() {
            tracing::debug!(instance = %self.plan.instance, complaint, "giving QEMU up");
            current.complaint = Some(complaint);
        }
        self.end();
    }

    fn end(&mut self) {
        if let Some(current) = &mut self.current {
            current.attaching = None;
            current.machine = None;
            current.process.kill();
        }
        self.monitor.send_replace(None);
    }

    async fn ended(&mut self, reason: String) {
        let Some(current) = self.current.take() else { return };
        let lived = current.begun.elapsed();
        drop(current);
        self.monitor.send_replace(None);
        self.patience_until = None;
        self.let_go();
        self.shared.display_disabled();
        let unasked = matches!(self.lifecycle.phase, Phase::Launching | Phase::Running | Phase::Paused);
        if unasked {
            tracing::warn!(instance = %self.plan.instance, reason, ?lived, "QEMU ended unasked");
            // The owner may not want to know.
            let _ = self.ends.send(evidence::end(&self.plan, &reason, lived));
            self.set_reason(Some(reason));
        } else {
            tracing::info!(instance = %self.plan.instance, reason, "QEMU has ended");
        }
        self.take(Event::Ended { after: lived }).await;
    }

    async fn qmp_event(&mut self, event: Result<qmp::Event, broadcast::error::RecvError>) {
        let event = match event {
            Ok(qmp::Event::STOP { .. }) => Event::Stopped,
            Ok(qmp::Event::RESUME { .. }) => {
                self.hold.goes_on(Instant::now());
                Event::Resumed
            }
            Ok(qmp::Event::SHUTDOWN { data, .. }) if data.guest => {
                self.set_reason(Some("the guest powered itself down".to_owned()));
                Event::GuestShutdown
            }
            Ok(qmp::Event::BLOCK_IO_ERROR { data, .. }) => {
                let disk = data.node_name.unwrap_or(data.device);
                let reason = hold::complaint(&disk, data.nospace == Some(true), &data.reason);
                // A guest may try again for ever: the same is said once.
                if self.status.borrow().reason.as_ref() != Some(&reason) {
                    tracing::error!(instance = %self.plan.instance, reason, "disk error");
                    self.set_reason(Some(reason));
                }
                if data.action == qmp::BlockErrorAction::stop {
                    self.hold.begin();
                    self.publish();
                }
                return;
            }
            Ok(_) => return,
            // Some were lost: what they would have said is asked for.
            Err(broadcast::error::RecvError::Lagged(_)) => match self.runs().await {
                Some(true) => {
                    self.hold.goes_on(Instant::now());
                    Event::Resumed
                }
                Some(false) => Event::Stopped,
                None => return,
            },
            Err(broadcast::error::RecvError::Closed) => {
                // Usually it is ending, and its end tells more. One that lives on without a monitor is no use.
                self.monitor.send_replace(None);
                let Some(current) = &mut self.current else { return };
                current.machine = None;
                if tokio::time::timeout(Duration::from_secs(1), current.process.ended()).await.is_err() {
                    self.give_up("its monitor closed".to_owned());
                }
                return;
            }
        };
        self.take(event).await;
    }

    /// Whether QEMU says that the guest runs; `None` when it does not answer.
    fn runs(&self) -> impl Future<Output = Option<bool>> + Send + use<> {
        let qmp = self.qmp().cloned();
        async move { qmp?.execute(qmp::query_status {}, PATIENCE).await.ok().map(|status| status.running) }
    }

    fn qmp(&self) -> Option<&Qmp> {
        let (machine, _) = self.current.as_ref()?.machine.as_ref()?;
        Some(&machine.qmp)
    }

    fn is_busy(&self) -> bool {
        self.qmp().is_some_and(Qmp::is_busy)
    }

    fn set_reason(&self, reason: Option<String>) {
        self.status.send_modify(|status| status.reason = reason);
    }

    /// QEMU does not hold the guest any more; that it did is then no reason.
    fn let_go(&mut self) {
        if self.hold.end() {
            self.publish();
        }
    }

    /// One that was held and let go on is not said to run before it has for a while: most are held again at once.
    const fn state(&self) -> GuestState {
        match self.lifecycle.state() {
            GuestState::Running if self.hold.is_held() => GuestState::Paused,
            state => state,
        }
    }

    fn publish(&self) {
        let pid = self.current.as_ref().and_then(|current| current.process.pid());
        let running = self.current.as_ref().is_some_and(|current| current.machine.is_some());
        let pointer = running.then(|| *self.shared.absolute.borrow()).flatten();
        self.status.send_if_modified(|status| {
            let mut new = status.clone();
            new.state = self.state();
            new.is_held = self.hold.is_held();
            if status.is_held && !new.is_held {
                new.reason = None;
            }
            new.target = self.lifecycle.target;
            new.restarts = self.lifecycle.restarts;
            new.pid = pid;
            new.pointer_absolute = pointer;
            let changed = *status != new;
            *status = new;
            changed
        });
    }
}

#[cfg(test)]
mod tests;
