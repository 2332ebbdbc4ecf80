//! Who says how the instance is used, and what all of them come to. Each sender (a control plane) has one lease. Pure: the
//! time is told.

use crate::caps::Ceiling;
use loco_model::usage::Use;
use std::time::Duration;
use tokio::time::Instant;

/// Senders that have a lease at once.
pub(crate) const MAX_SENDERS: usize = 8;

/// Every lease is taken: another sender is heard when one of them ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManySenders;

/// What one sender says.
#[derive(Debug)]
struct Lease {
    order: Use,
    until: Instant,
    /// Since when it names the holder that it names.
    holder_since: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    live: Vec<Lease>,
}

/// What they come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// Whether anyone says that it is in use; `None` while nobody says anything.
    pub(super) in_use: Option<bool>,
    /// What it may take while nobody uses it.
    pub(super) ceiling: Ceiling,
    /// The viewer whose input is taken.
    pub(super) holder: Option<String>,
}

// === impl Leases ===

impl Leases {
    /// Takes what a sender says, instead of what it said before.
    ///
    /// # Errors
    /// When it is one too many.
    pub(super) fn take(&mut self, order: Use, now: Instant) -> Result<(), TooManySenders> {
        self.expire(now);
        let until = now + Duration::from_secs(order.lease_s.into());
        let is_full = self.live.len() == MAX_SENDERS;
        match self.live.iter_mut().find(|lease| lease.order.sender == order.sender) {
            Some(lease) => {
                let is_same = lease.order.input_holder == order.input_holder;
                let holder_since = if is_same { lease.holder_since } else { now };
                *lease = Lease { order, until, holder_since };
            }
            None if is_full => return Err(TooManySenders),
            None => self.live.push(Lease { order, until, holder_since: now }),
        }
        Ok(())
    }

    /// Forgets leases that have ended; says whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.live.len();
        self.live.retain(|lease| lease.until > now);
        self.live.len() != before
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.live.iter().map(|lease| lease.until).min()
    }

    /// Whether nobody says anything.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// What all of them come to: it is in use for all when it is for one; it is capped when all cap it, as little as any of
    /// them would; and the holder is the one that was named last, so that saying the same again takes no input from anyone.
    pub(super) fn total(&self) -> Total {
        let orders = || self.live.iter().map(|lease| &lease.order);
        let in_use = orders().map(|order| order.in_use).reduce(|one, other| one || other);
        // Without a cap from one of them there is none.
        let highest = |cap: fn(&Use) -> Option<u32>| orders().map(cap).collect::<Option<Vec<u32>>>()?.into_iter().max();
        let ceiling = match in_use {
            Some(false) => {
                Ceiling { fps: highest(|order| order.max_fps), bit_rate: highest(|order| order.max_bit_rate) }
            }
            Some(true) | None => Ceiling::default(),
        };
        let named = self.live.iter().filter(|lease| lease.order.input_holder.is_some());
        let holder = named.max_by_key(|lease| lease.holder_since).and_then(|lease| lease.order.input_holder.clone());
        Total { in_use, ceiling, holder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(sender: &str, in_use: bool, fps: Option<u32>, holder: Option<&str>) -> Use {
        Use {
            in_use,
            max_fps: fps,
            max_bit_rate: fps.map(|fps| fps * 50_000),
            lease_s: 60,
            input_holder: holder.map(str::to_owned),
            // A control plane of before names no sender.
            sender: (!sender.is_empty()).then(|| sender.to_owned()),
        }
    }

    #[test]
    fn one_that_uses_it_is_enough_and_all_must_cap_it() {
        let capped = |fps: u32| Ceiling { fps: Some(fps), bit_rate: Some(fps * 50_000) };
        let none = Ceiling::default();
        for (orders, in_use, ceiling) in [
            (&[][..], None, none),
            (&[("a", false, Some(10))], Some(false), capped(10)),
            (&[("a", false, Some(10)), ("b", false, Some(20))], Some(false), capped(20)),
            (&[("a", false, Some(10)), ("b", false, None)], Some(false), none),
            (&[("a", false, Some(10)), ("b", true, None)], Some(true), none),
            (&[("a", true, None), ("b", false, Some(10)), ("", false, Some(5))], Some(true), none),
            // The same one says otherwise.
            (&[("a", true, None), ("", false, Some(20)), ("a", false, Some(10))], Some(false), capped(20)),
        ] {
            let (mut leases, now) = (Leases::default(), Instant::now());
            for (sender, in_use, fps) in orders {
                leases.take(says(sender, *in_use, *fps, None), now).expect("taken");
            }
            let total = leases.total();
            assert_eq!((total.in_use, total.ceiling), (in_use, ceiling), "{orders:?}");
        }
    }

    #[test]
    fn a_lease_ends_by_itself_and_the_others_go_on() {
        let (mut leases, begun) = (Leases::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        leases.take(says("a", true, None, Some("ada")), at(0)).expect("taken");
        leases.take(says("b", false, Some(10), None), at(30)).expect("taken");
        assert_eq!(leases.next_end(), Some(at(60)));
        assert!(!leases.expire(at(59)) && leases.expire(at(60)));
        let total = leases.total();
        assert_eq!((total.in_use, total.ceiling.fps, total.holder), (Some(false), Some(10), None));
        assert!(leases.expire(at(90)) && leases.is_empty());
        assert_eq!(leases.total(), Total::default());
    }

    #[test]
    fn the_input_is_whose_was_named_last_and_saying_it_again_changes_nothing() {
        let (mut leases, begun) = (Leases::default(), Instant::now());
        let mut holder = |seconds, sender: &str, holder: Option<&str>| {
            leases.take(says(sender, true, None, holder), begun + Duration::from_secs(seconds)).expect("taken");
            leases.total().holder
        };
        assert_eq!(holder(0, "a", Some("ada")).as_deref(), Some("ada"));
        assert_eq!(holder(1, "b", None).as_deref(), Some("ada"), "nobody of its own");
        assert_eq!(holder(2, "b", Some("bo")).as_deref(), Some("bo"));
        assert_eq!(holder(3, "a", Some("ada")).as_deref(), Some("bo"), "a renewal");
        assert_eq!(holder(4, "b", None).as_deref(), Some("ada"));
    }

    #[test]
    fn one_too_many_is_heard_when_another_has_ended() {
        let (mut leases, begun) = (Leases::default(), Instant::now());
        for number in 0..MAX_SENDERS {
            leases.take(says(&number.to_string(), false, Some(10), None), begun).expect("taken");
        }
        let late = || says("late", true, None, None);
        assert_eq!(leases.take(late(), begun), Err(TooManySenders));
        leases.take(says("3", false, Some(10), None), begun + Duration::from_secs(10)).expect("it has a lease");
        assert_eq!(leases.total().in_use, Some(false));
        leases.take(late(), begun + Duration::from_secs(60)).expect("the others have ended");
        assert_eq!(leases.total().in_use, Some(true));
    }
}
