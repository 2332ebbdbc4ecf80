//! The rate for a player that has no transport-wide feedback: by the loss in its receiver reports alone, which come about
//! once a second (draft-ietf-rmcat-gcc-02, section 6).

use super::{FLOOR, START};

/// Above this loss the rate falls by half of the loss, ...
const MUCH: f64 = 0.10;
/// ... below this it grows, ...
const LITTLE: f64 = 0.02;
/// ... by this factor a report.
const GROWTH: f64 = 1.08;

/// The rate of one session.
#[derive(Debug)]
pub(super) struct Classic {
    target: f64,
    loss: f64,
}

// === impl Classic ===

impl Classic {
    pub(super) fn new(ceiling: f64) -> Self {
        Self { target: f64::from(START).min(ceiling), loss: 0.0 }
    }

    /// A report: this share was lost since the last one.
    pub(super) fn report(&mut self, lost: f64, ceiling: f64) {
        self.loss = lost;
        let factor = match lost {
            lost if lost > MUCH => 1.0 - 0.5 * lost,
            lost if lost < LITTLE => GROWTH,
            _ => 1.0,
        };
        self.target = (self.target * factor).min(ceiling).max(f64::from(FLOOR));
    }

    /// Bits a second.
    pub(super) const fn target(&self) -> f64 {
        self.target
    }

    /// The last report's share of lost packets.
    pub(super) const fn loss(&self) -> f64 {
        self.loss
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fate, Flow, Report};
    use super::*;

    #[test]
    fn it_grows_without_loss_and_halves_with_it() {
        let mut classic = Classic::new(2e6);
        for _ in 0..10 {
            classic.report(0.0, 2e6);
        }
        assert!((classic.target() - 2e6).abs() < 1.0);
        classic.report(0.05, 2e6);
        assert!((classic.target() - 2e6).abs() < 1.0, "what many links lose anyway");
        for _ in 0..40 {
            classic.report(0.4, 2e6);
        }
        assert!((classic.target() - f64::from(FLOOR)).abs() < 1.0);
    }

    #[test]
    fn it_counts_only_where_nothing_better_is_reported() {
        let mut flow = Flow::new(2_000_000);
        flow.receiver_report(0.5);
        assert_eq!(flow.target(0), START * 3 / 4);
        assert_eq!(flow.state(0).loss, Some(0.5));
        flow.sent(0, 1, 1_000);
        flow.reported(20_000, &[Report { number: 1, departed_us: 0, bytes: 1_000, fate: Fate::Arrived(10_000) }]);
        flow.receiver_report(0.9);
        assert!(flow.target(20_000) >= START, "{}", flow.target(20_000));
    }
}
