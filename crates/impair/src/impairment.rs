//! What a link does to packets.

use std::time::Duration;

/// Which way of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the one who listens behind the proxy to the one who called: agent to viewer, pictures and sound.
    Down,
    /// From the caller: viewer to agent, input and feedback.
    Up,
}

/// Loss in bursts: the model of Gilbert and Elliott (Gilbert: Capacity of a Burst-Noise Channel, 1960).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Probability per packet that a burst begins.
    pub begin: f64,
    /// Probability per packet that it ends; its mean length is the inverse.
    pub end: f64,
    /// Probability that a packet within a burst is lost.
    pub loss: f64,
}

/// Some packets overtaken by later ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reordering {
    /// Share of packets that are held back, 0 to 1.
    pub share: f64,
    /// For how long.
    pub by: Duration,
}

/// One direction of a link. The default passes everything at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Bits a second of the bottleneck, headers counted; `None`: unlimited; 0: nothing passes until it is changed.
    pub rate: Option<u64>,
    /// Bytes that may wait at the bottleneck; what comes on top is dropped. `None`: unlimited.
    pub queue_bytes: Option<usize>,
    /// One-way delay behind the bottleneck.
    pub delay: Duration,
    /// Up to this much more, evenly distributed; keeps the order.
    pub jitter: Duration,
    /// Share of packets lost at random, 0 to 1.
    pub loss: f64,
    /// Loss in bursts, besides.
    pub bursts: Option<Bursts>,
    /// Packets overtaken by others.
    pub reordering: Option<Reordering>,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplication: f64,
}

// === impl Impairment ===

impl Impairment {
    /// A bottleneck of `bits_per_second` with a queue that holds `queue_bytes`.
    #[must_use]
    pub fn rate(bits_per_second: u64, queue_bytes: usize) -> Self {
        Self { rate: Some(bits_per_second), queue_bytes: Some(queue_bytes), ..Self::default() }
    }

    /// The same with this one-way delay.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same with this jitter.
    #[must_use]
    pub fn with_jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// The same with this share of packets lost at random.
    #[must_use]
    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// The same with loss in bursts.
    #[must_use]
    pub fn with_bursts(self, bursts: Bursts) -> Self {
        Self { bursts: Some(bursts), ..self }
    }

    /// The same with this share of packets held back by `by`.
    #[must_use]
    pub fn with_reordering(self, share: f64, by: Duration) -> Self {
        Self { reordering: Some(Reordering { share, by }), ..self }
    }

    /// The same with this share of packets doubled.
    #[must_use]
    pub fn with_duplication(self, duplication: f64) -> Self {
        Self { duplication, ..self }
    }

    /// Loses everything.
    #[must_use]
    pub fn dead() -> Self {
        Self { loss: 1.0, ..Self::default() }
    }
}
