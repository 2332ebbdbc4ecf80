//! The last lines of the agent's own log, of QEMU's and of the guest's, kept in bounded rings and handed to who follows.

use futures::{Stream, StreamExt as _};
use loco_model::agent::{LogLine, LogSource};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines kept of each source: a guest that talks much does not push out what the agent said.
const KEPT: usize = 500;
/// Lines that one who follows may be behind.
const BEHIND: usize = 512;
/// A longer line is cut.
const MAX_BYTES: usize = 4096;

/// Logging is set up before there is an agent: its ring is the process's.
static RING: LazyLock<Arc<Ring>> = LazyLock::new(|| Arc::new(Ring::new()));

/// A line with its number: they are numbered over all sources in the order in which they came.
type Numbered = (u64, Arc<LogLine>);

/// The lines.
#[derive(Debug)]
pub(crate) struct Ring {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Numbered>,
}

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    agent: VecDeque<Numbered>,
    qemu: VecDeque<Numbered>,
    guest: VecDeque<Numbered>,
}

/// Keeps what the process logs for [`GET /logs`](crate) of its agent.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLayer;

// === impl Ring ===

impl Ring {
    fn new() -> Self {
        Self { kept: Mutex::default(), live: broadcast::Sender::new(BEHIND) }
    }

    /// The process's.
    pub(crate) fn shared() -> Arc<Self> {
        Arc::clone(&RING)
    }

    /// A new line.
    pub(crate) fn push(&self, source: LogSource, text: &str) {
        let mut end = text.len().min(MAX_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let line = Arc::new(LogLine { source, at_ms, text: text[..end].to_owned() });
        let mut kept = self.kept.lock();
        let number = kept.next;
        kept.next += 1;
        let lines = match source {
            LogSource::Agent => &mut kept.agent,
            LogSource::Qemu => &mut kept.qemu,
            LogSource::Guest => &mut kept.guest,
        };
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back((number, Arc::clone(&line)));
        // Under the lock, so that they are sent in order. Nobody may be listening.
        let _ = self.live.send((number, line));
    }

    fn numbered_tail(&self, count: usize) -> Vec<Numbered> {
        let kept = self.kept.lock();
        let mut all: Vec<Numbered> = [&kept.agent, &kept.qemu, &kept.guest].into_iter().flatten().cloned().collect();
        drop(kept);
        all.sort_unstable_by_key(|(number, _)| *number);
        all.split_off(all.len().saturating_sub(count))
    }

    /// The last `count` lines, the oldest first.
    pub(crate) fn tail(&self, count: usize) -> Vec<LogLine> {
        self.numbered_tail(count).into_iter().map(|(_, line)| (*line).clone()).collect()
    }

    /// The agent's own last `count` lines, the oldest first.
    pub(crate) fn last_own(&self, count: usize) -> Vec<Arc<LogLine>> {
        let kept = self.kept.lock();
        let skip = kept.agent.len().saturating_sub(count);
        kept.agent.iter().skip(skip).map(|(_, line)| Arc::clone(line)).collect()
    }

    /// The last `count` lines, and every one from then on. One who is too slow misses the oldest.
    pub(crate) fn follow(&self, count: usize) -> impl Stream<Item = LogLine> + Send + 'static {
        // Listening first: a line that comes in between is in both, and left out of the second.
        let live = self.live.subscribe();
        let tail = self.numbered_tail(count);
        let last = tail.last().map(|(number, _)| *number);
        let rest = futures::stream::unfold(live, |mut live| async move {
            loop {
                match live.recv().await {
                    Ok(line) => return Some((line, live)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let rest = rest.filter(move |(number, _)| {
            let new = last.is_none_or(|last| *number > last);
            async move { new }
        });
        futures::stream::iter(tail).chain(rest).map(|(_, line)| (*line).clone())
    }
}

/// Puts what QEMU and the guest write into the ring, until the guest is gone.
pub(crate) async fn collect(mut lines: broadcast::Receiver<loco_guest::LogLine>, ring: Arc<Ring>) {
    loop {
        match lines.recv().await {
            Ok(line) => {
                let source = match line.source {
                    loco_guest::LogSource::Qemu => LogSource::Qemu,
                    loco_guest::LogSource::Guest => LogSource::Guest,
                };
                ring.push(source, &line.text);
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

// === impl LogLayer ===

impl<S: tracing::Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        RING.push(LogSource::Agent, &text.0);
    }
}

/// An event as one line: what it says, then its values.
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.push_str(value);
        } else {
            // Writing into a string does not fail.
            let _ = write!(self.0, " {}={value}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_talkative_guest_pushes_nobody_else_out() {
        let ring = Ring::new();
        ring.push(LogSource::Agent, "first");
        for n in 0..2_000 {
            ring.push(LogSource::Guest, &n.to_string());
        }
        ring.push(LogSource::Qemu, &"ä".repeat(3_000));
        let all = ring.tail(usize::MAX);
        assert_eq!((all.len(), all[0].text.as_str(), all[1].text.as_str()), (KEPT + 2, "first", "1500"));
        assert_eq!(all.last().map(|line| line.text.len()), Some(MAX_BYTES));
        assert_eq!(texts(&ring.tail(2))[0], "1999");
        assert!(ring.tail(0).is_empty());
    }

    #[tokio::test]
    async fn who_follows_gets_the_tail_and_then_every_line_once() {
        let ring = Ring::new();
        ring.push(LogSource::Agent, "a");
        ring.push(LogSource::Agent, "b");
        let followed = ring.follow(1);
        ring.push(LogSource::Guest, "c");
        let lines: Vec<LogLine> = Box::pin(followed).take(2).collect().await;
        assert_eq!(texts(&lines), ["b", "c"]);
    }

    #[test]
    fn events_become_lines() {
        let subscriber = tracing_subscriber::registry().with(LogLayer);
        tracing::subscriber::with_default(subscriber, || tracing::warn!(pid = 7, name = "x", "it fell {}", "over"));
        let lines = Ring::shared().tail(100);
        assert!(texts(&lines).contains(&"WARN it fell over pid=7 name=x"), "{lines:?}");
    }
}
