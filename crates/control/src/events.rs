//! Every change, numbered, so that a client that was cut off can go on where it was.

use futures::{Stream, StreamExt as _};
use loco_model::api::Event;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Events that are kept for clients that come back.
const KEPT: usize = 1_024;

/// The numbered changes of one control plane. Cheap to clone.
#[derive(Clone)]
pub struct EventLog {
    log: Arc<Log>,
}

struct Log {
    kept: Mutex<Kept>,
    /// Number of the newest event.
    newest: watch::Sender<u64>,
    /// How everything is now, for those who know nothing yet.
    whole: Box<dyn Fn() -> Vec<Event> + Send + Sync>,
}

struct Kept {
    /// In order, numbers without a gap, at most [`KEPT`].
    events: VecDeque<(u64, Event)>,
    newest: u64,
}

// === impl EventLog ===

impl EventLog {
    /// A log without events. Numbers begin after `before`; a run that comes later should begin higher, so that a number
    /// of an earlier run is known as too old. `whole` tells how everything is now.
    pub fn new(before: u64, whole: impl Fn() -> Vec<Event> + Send + Sync + 'static) -> Self {
        let kept = Mutex::new(Kept { events: VecDeque::with_capacity(KEPT), newest: before });
        Self { log: Arc::new(Log { kept, newest: watch::Sender::new(before), whole: Box::new(whole) }) }
    }

    /// Tells everyone. What it says must be true already for those who ask for the whole.
    pub fn push(&self, event: Event) {
        let mut kept = self.log.kept();
        kept.newest += 1;
        let number = kept.newest;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back((number, event));
        drop(kept);
        // Two that push at once may come here in either order: readers look at the log itself.
        self.log.newest.send_modify(|newest| *newest = number.max(*newest));
    }

    /// Number of the newest event.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.log.kept().newest
    }

    /// How many read the events now.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.log.newest.receiver_count()
    }

    /// Every event after number `after`, with its number, for ever. Without a number, or with one that is not known (any
    /// more), everything as it is now comes first: all of it but the last has number 0, so that whoever is cut off in
    /// its middle begins anew. A reader that falls behind by more than 1,024 events is given the whole again.
    pub fn since(&self, after: Option<u64>) -> impl Stream<Item = (u64, Event)> + Send + 'static + use<> {
        let reader = (self.log.clone(), self.log.newest.subscribe(), after);
        futures::stream::unfold(reader, |(log, mut newest, mut after)| async move {
            loop {
                newest.mark_unchanged();
                let (events, known) = log.after(after);
                after = Some(known);
                if !events.is_empty() {
                    return Some((futures::stream::iter(events), (log, newest, after)));
                }
                newest.changed().await.ok()?;
            }
        })
        .flatten()
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").field("newest", &self.newest()).finish_non_exhaustive()
    }
}

// === impl Log ===

impl Log {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be told to one who has heard everything up to `after`, and up to where it knows then.
    fn after(&self, after: Option<u64>) -> (Vec<(u64, Event)>, u64) {
        let kept = self.kept();
        let newest = kept.newest;
        let oldest = newest - kept.events.len() as u64;
        if let Some(known) = after.filter(|known| (oldest..=newest).contains(known)) {
            let skipped = usize::try_from(known - oldest).unwrap_or(usize::MAX);
            return (kept.events.iter().skip(skipped).cloned().collect(), newest);
        }
        drop(kept);
        // Asked after the number was read: what happens in between is told twice rather than not at all.
        let mut whole: Vec<(u64, Event)> = (self.whole)().into_iter().map(|event| (0, event)).collect();
        if let Some(last) = whole.last_mut() {
            last.0 = newest;
        }
        (whole, newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::InstanceId;
    use std::time::Duration;

    fn removed(index: usize) -> Event {
        Event::Removed { id: InstanceId::try_new(index).expect("index") }
    }

    fn log() -> EventLog {
        EventLog::new(100, || vec![Event::Instances { instances: Vec::new() }, Event::Active { active: Vec::new() }])
    }

    async fn take(log: &EventLog, after: Option<u64>, count: usize) -> Vec<(u64, &'static str)> {
        log.since(after).take(count).map(|(number, event)| (number, event.name())).collect().await
    }

    #[tokio::test]
    async fn a_new_reader_gets_the_whole_and_then_what_follows() {
        let log = log();
        log.push(removed(0));
        let mut stream = Box::pin(log.since(None));
        assert!(matches!(stream.next().await, Some((0, Event::Instances { .. }))));
        assert!(matches!(stream.next().await, Some((101, Event::Active { .. }))));
        log.push(removed(1));
        assert_eq!(stream.next().await, Some((102, removed(1))));
        assert!(tokio::time::timeout(Duration::from_millis(20), stream.next()).await.is_err());
    }

    #[tokio::test]
    async fn where_there_is_nothing_yet_what_follows_is_told_all_the_same() {
        let log = EventLog::new(100, Vec::new);
        let mut stream = Box::pin(log.since(None));
        assert!(tokio::time::timeout(Duration::from_millis(20), stream.next()).await.is_err());
        log.push(removed(1));
        let next = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
        assert_eq!(next, Ok(Some((101, removed(1)))));
    }

    #[tokio::test]
    async fn a_known_number_is_gone_on_from_and_an_unknown_one_is_not() {
        let log = log();
        for index in 0..4 {
            log.push(removed(index));
        }
        assert_eq!(take(&log, Some(102), 2).await, [(103, "removed"), (104, "removed")]);
        assert_eq!(take(&log, Some(100), 1).await, [(101, "removed")]);
        // Of an earlier run, cut off within the whole, or of a run that never was.
        for unknown in [99, 0, 105, u64::MAX] {
            assert_eq!(take(&log, Some(unknown), 2).await, [(0, "instances"), (104, "active")], "{unknown}");
        }
    }

    #[tokio::test]
    async fn who_falls_behind_is_given_the_whole_again() {
        let log = log();
        let mut stream = Box::pin(log.since(Some(100)));
        log.push(removed(0));
        assert_eq!(stream.next().await, Some((101, removed(0))));
        for index in 0..=KEPT {
            log.push(removed(index));
        }
        assert!(matches!(stream.next().await, Some((0, Event::Instances { .. }))));
        assert_eq!(stream.next().await.map(|(number, _)| number), Some(101 + KEPT as u64 + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn readers_are_woken_whoever_pushes() {
        let log = log();
        let reader = tokio::spawn(take_all(log.clone(), 50));
        let pushers: Vec<_> = (0..5)
            .map(|_| {
                let log = log.clone();
                tokio::spawn(async move {
                    for index in 0..10 {
                        log.push(removed(index));
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.await.expect("pushed");
        }
        let numbers = reader.await.expect("read");
        assert_eq!(numbers, (101..=150).collect::<Vec<_>>());
    }

    async fn take_all(log: EventLog, count: usize) -> Vec<u64> {
        log.since(Some(100)).take(count).map(|(number, _)| number).collect().await
    }
}
