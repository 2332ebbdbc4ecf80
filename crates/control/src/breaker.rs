//! A circuit breaker around each thing that is outside of this process: an agent, a webhook's server, a check's target.
//!
//! A call takes 3 s at most. When half of the calls of the last 30 s failed, and they were not too few to tell, the
//! breaker opens: calls are refused at once, so that nothing queues up behind a peer that is gone. After 30 s one call
//! is let through as a probe; its outcome closes the breaker or opens it again.
//!
//! Written here because no kept-up crate does it: `recloser` lets every call through while it probes, tells no state and
//! has no deadline; `tower-resilience-circuitbreaker` reads the system's clock, which a test cannot hold still.
//! The shape is that of linkerd's failure accrual, with a rate in place of a row of failures.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    /// How long a call may take.
    pub timeout: Duration,
    /// How far back outcomes count.
    pub window: Duration,
    /// Fewer outcomes than this within the window say nothing.
    pub least_calls: usize,
    /// Share of failures at which it opens, 0..=1.
    pub failure_share: f64,
    /// How long it stays open before it lets one call through.
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            window: Duration::from_secs(30),
            least_calls: 4,
            failure_share: 0.5,
            open_for: Duration::from_secs(30),
        }
    }
}

/// Outcomes that are remembered at most: a peer that is called more often is judged by its last ones.
const MAX_OUTCOMES: usize = 256;

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open,
    /// One call is being tried, or may be.
    HalfOpen,
}

impl BreakerState {
    /// The state's name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What a breaker has done since its begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerCounts {
    /// Calls that went well.
    pub successes: u64,
    /// Calls that failed, those included that took too long.
    pub failures: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Times that it opened.
    pub opened: u64,
}

/// A call that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// It was not made: too many before it failed.
    #[error("{name} failed too often: tried again in {} s", wait.as_secs_f64().ceil())]
    Refused {
        /// The breaker's name.
        name: Arc<str>,
        /// How long it stays so.
        wait: Duration,
    },
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// It was made, and failed.
    #[error(transparent)]
    Failed(E),
}

/// Not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How long until a call may be tried.
    pub wait: Duration,
}

/// One breaker. Clones are the same breaker.
#[derive(Clone)]
pub struct Breaker {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    settings: BreakerSettings,
    machine: Mutex<Machine>,
}

/// A call that may be made. Dropped without a word (its caller was cancelled), it counts for nothing.
#[must_use = "the outcome must be told"]
pub struct Permit {
    inner: Arc<Inner>,
    /// Number of the probe that it is; `None` for a call through a closed breaker.
    probe: Option<u64>,
    told: bool,
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, settings: BreakerSettings) -> Self {
        Self { inner: Arc::new(Inner { name: name.into(), settings, machine: Mutex::new(Machine::default()) }) }
    }

    /// Whose.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How it stands now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.inner.machine.lock().state(Instant::now())
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> BreakerCounts {
        self.inner.machine.lock().counts
    }

    /// Asks whether a call may be made now; for calls whose end [`Self::call`] cannot see, such as a stream's.
    ///
    /// # Errors
    /// When it is open, or its one probe is being made.
    pub fn permit(&self) -> Result<Permit, Refused> {
        let probe = self.inner.machine.lock().ask(Instant::now(), &self.inner.settings)?;
        Ok(Permit { inner: self.inner.clone(), probe, told: false })
    }

    /// Makes a call within the deadline; each of its errors counts as a failure.
    ///
    /// # Errors
    /// When the call is refused, takes too long or fails.
    pub async fn call<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, CallError<E>> {
        self.call_if(call, |_| true).await
    }

    /// Makes a call within the deadline. `counts` says which errors are the peer's failure: one that answers "no such
    /// thing" is well.
    ///
    /// # Errors
    /// When the call is refused, takes too long or fails.
    pub async fn call_if<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        counts: impl FnOnce(&E) -> bool,
    ) -> Result<T, CallError<E>> {
        let refused = |Refused { wait }| CallError::Refused { name: self.inner.name.clone(), wait };
        let permit = self.permit().map_err(refused)?;
        let timeout = self.inner.settings.timeout;
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(value)) => {
                permit.tell(true);
                Ok(value)
            }
            Ok(Err(error)) => {
                permit.tell(!counts(&error));
                Err(CallError::Failed(error))
            }
            Err(_) => {
                permit.tell(false);
                Err(CallError::TimedOut(timeout))
            }
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.inner.name).field("state", &self.state()).finish()
    }
}

// === impl Permit ===

impl Permit {
    /// Tells how the call ended.
    pub fn tell(mut self, well: bool) {
        self.told = true;
        let (before, after) = {
            let mut machine = self.inner.machine.lock();
            let now = Instant::now();
            let before = machine.state(now);
            machine.tell(self.probe, well, now, &self.inner.settings);
            (before, machine.state(now))
        };
        if before != after {
            tracing::info!(breaker = &*self.inner.name, from = before.as_str(), to = after.as_str(), "breaker");
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let (Some(probe), false) = (self.probe, self.told) {
            self.inner.machine.lock().give_back(probe);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("breaker", &self.inner.name).field("probe", &self.probe).finish()
    }
}

/// The rules, without a clock of their own.
#[derive(Default)]
struct Machine {
    /// Since when and until when calls are refused; `None`: closed.
    open_until: Option<Instant>,
    /// The probe that is being made.
    probing: Option<u64>,
    probes: u64,
    /// Newest last.
    outcomes: VecDeque<(Instant, bool)>,
    counts: BreakerCounts,
}

// === impl Machine ===

impl Machine {
    fn state(&self, now: Instant) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    fn ask(&mut self, now: Instant, settings: &BreakerSettings) -> Result<Option<u64>, Refused> {
        let wait = match (self.open_until, self.probing) {
            (None, _) => return Ok(None),
            (Some(until), _) if now < until => until - now,
            (Some(_), Some(_)) => settings.timeout,
            (Some(_), None) => {
                self.probes += 1;
                self.probing = Some(self.probes);
                return Ok(self.probing);
            }
        };
        self.counts.refused += 1;
        Err(Refused { wait })
    }

    fn tell(&mut self, probe: Option<u64>, well: bool, now: Instant, settings: &BreakerSettings) {
        if well {
            self.counts.successes += 1;
        } else {
            self.counts.failures += 1;
        }
        if let Some(probe) = probe {
            // A probe that was given back and comes late decides nothing.
            if self.probing != Some(probe) {
                return;
            }
            self.probing = None;
            if well {
                self.open_until = None;
                self.outcomes.clear();
            } else {
                self.open(now, settings);
            }
            return;
        }
        // A call from before it opened: the probe decides now.
        if self.open_until.is_some() {
            return;
        }
        self.outcomes.push_back((now, well));
        while self.outcomes.len() > MAX_OUTCOMES
            || self.outcomes.front().is_some_and(|(at, _)| now.duration_since(*at) > settings.window)
        {
            self.outcomes.pop_front();
        }
        let failures = self.outcomes.iter().filter(|(_, well)| !well).count();
        let share = failures as f64 / self.outcomes.len() as f64;
        // A success may be what makes the calls enough to tell; it never is what opens.
        if !well && self.outcomes.len() >= settings.least_calls && share >= settings.failure_share {
            self.open(now, settings);
        }
    }

    fn open(&mut self, now: Instant, settings: &BreakerSettings) {
        self.open_until = Some(now + settings.open_for);
        self.outcomes.clear();
        self.counts.opened += 1;
    }

    fn give_back(&mut self, probe: u64) {
        if self.probing == Some(probe) {
            self.probing = None;
        }
    }
}

/// All breakers by their names. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Breakers {
    all: Arc<Mutex<BTreeMap<Arc<str>, Breaker>>>,
}

// === impl Breakers ===

impl Breakers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The breaker of that name, made with the default settings where there is none yet. Whoever makes one for something
    /// that can go away calls [`Self::remove`] then.
    #[must_use]
    pub fn of(&self, name: &str) -> Breaker {
        self.with(name, BreakerSettings::default())
    }

    /// The breaker of that name, made with these settings where there is none yet.
    #[must_use]
    pub fn with(&self, name: &str, settings: BreakerSettings) -> Breaker {
        let mut all = self.all.lock();
        if let Some(breaker) = all.get(name) {
            return breaker.clone();
        }
        let breaker = Breaker::new(name, settings);
        all.insert(name.into(), breaker.clone());
        breaker
    }

    /// Forgets one.
    pub fn remove(&self, name: &str) {
        self.all.lock().remove(name);
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Breaker> {
        self.all.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    async fn outcome(breaker: &Breaker, well: bool) -> Result<(), CallError<&'static str>> {
        breaker.call(ready(if well { Ok(()) } else { Err("broken") })).await
    }

    async fn opened() -> Breaker {
        let breaker = Breaker::new("peer", BreakerSettings::default());
        for _ in 0..4 {
            assert_eq!(outcome(&breaker, false).await, Err(CallError::Failed("broken")));
        }
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_enough_calls_opens_it() {
        let breaker = Breaker::new("peer", BreakerSettings::default());
        for well in [false, false, false] {
            assert!(outcome(&breaker, well).await.is_err());
        }
        assert_eq!(breaker.state(), BreakerState::Closed, "three calls say nothing");
        for well in [true, true, true, true] {
            assert!(outcome(&breaker, well).await.is_ok(), "a success never opens");
        }
        assert!(outcome(&breaker, false).await.is_err());
        assert_eq!(breaker.state(), BreakerState::Open, "4 of 8");
        let refused = outcome(&breaker, true).await.expect_err("open");
        assert_eq!(refused.to_string(), "peer failed too often: tried again in 30 s");
        let counts = BreakerCounts { successes: 4, failures: 4, refused: 1, opened: 1 };
        assert_eq!(breaker.counts(), counts);
    }

    #[tokio::test(start_paused = true)]
    async fn old_failures_do_not_count() {
        let breaker = Breaker::new("peer", BreakerSettings::default());
        for _ in 0..20 {
            assert!(outcome(&breaker, false).await.is_err());
            tokio::time::advance(Duration::from_secs(11)).await;
        }
        assert_eq!(breaker.state(), BreakerState::Closed, "never four within 30 s");
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_decides() {
        let breaker = opened().await;
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(matches!(outcome(&breaker, true).await, Err(CallError::Refused { .. })));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        let probe = breaker.permit().expect("the probe");
        assert!(breaker.permit().is_err(), "only one");
        probe.tell(false);
        assert_eq!(breaker.state(), BreakerState::Open);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(outcome(&breaker, true).await, Ok(()));
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(outcome(&breaker, false).await.is_err());
        assert_eq!(breaker.state(), BreakerState::Closed, "failures from before are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_probe_leaves_room_for_the_next() {
        let breaker = opened().await;
        tokio::time::advance(Duration::from_secs(30)).await;
        drop(breaker.permit().expect("the probe"));
        let next = breaker.permit().expect("another probe");
        next.tell(true);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_are_failures_and_a_peers_no_is_none() {
        let breaker = Breaker::new("peer", BreakerSettings::default());
        for _ in 0..4 {
            let call = breaker.call(pending::<Result<(), &str>>()).await;
            assert_eq!(call, Err(CallError::TimedOut(Duration::from_secs(3))));
        }
        assert_eq!(breaker.state(), BreakerState::Open);
        let breaker = Breaker::new("peer", BreakerSettings::default());
        for _ in 0..50 {
            let no = breaker.call_if(ready(Err::<(), _>("404")), |error| *error != "404").await;
            assert_eq!(no, Err(CallError::Failed("404")));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_call_from_before_does_not_close_it() {
        let breaker = Breaker::new("peer", BreakerSettings::default());
        let early = breaker.permit().expect("closed");
        for _ in 0..4 {
            assert!(outcome(&breaker, false).await.is_err());
        }
        early.tell(true);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn names_are_shared() {
        let breakers = Breakers::new();
        let one = breakers.of("agent instance-0");
        assert!(Arc::ptr_eq(&one.inner, &breakers.of("agent instance-0").inner));
        assert_eq!(breakers.all().len(), 1);
        breakers.remove("agent instance-0");
        assert!(breakers.all().is_empty());
    }
}
