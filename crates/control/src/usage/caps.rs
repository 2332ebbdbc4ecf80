//! How much each instance may take. Pure.

use super::InstanceUse;
use loco_model::InstanceId;
use loco_model::usage::Use;
use std::collections::BTreeMap;
use std::time::Duration;

/// For how long an order holds without being given again. An instance whose control plane died is not slow for ever.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// When it is given again: twice within a lease, so that one that got lost does no harm.
pub(super) const RENEWAL: Duration = Duration::from_secs(25);

/// What an instance may take that nobody uses; `None`: as much as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    pub(super) max_fps: u32,
    pub(super) max_bit_rate: u32,
}

/// What an agent is to be told of its instance, of which there are `count`; `None` where there is nothing to say: nothing
/// is used anywhere, so there is nobody for whom it would have to step back, and nobody holds its input. Who says so is
/// added when it is told.
pub(super) fn order(
    id: InstanceId,
    count: usize,
    uses: &BTreeMap<InstanceId, InstanceUse>,
    caps: Option<Caps>,
) -> Option<Use> {
    let own = uses.get(&id);
    let in_use = own.is_some_and(|used| used.in_use);
    let input_holder = own.and_then(|used| used.holder.as_ref()).map(|holder| holder.viewer.clone());
    let any_in_use = uses.values().any(|used| used.in_use);
    if !any_in_use && input_holder.is_none() {
        return None;
    }
    // Whoever is alone takes nothing from anyone.
    let caps = caps.filter(|_| any_in_use && !in_use && count > 1);
    Some(Use {
        in_use,
        max_fps: caps.map(|caps| caps.max_fps),
        max_bit_rate: caps.map(|caps| caps.max_bit_rate),
        lease_s: u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX),
        input_holder,
        sender: None,
    })
}

/// What undoes an order when there is nothing more to say.
pub(super) fn nothing() -> Use {
    Use { in_use: false, max_fps: None, max_bit_rate: None, lease_s: 1, input_holder: None, sender: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::usage::InputHolder;

    fn id(index: usize) -> InstanceId {
        InstanceId::try_new(index).expect("index")
    }

    fn used(indices: &[usize]) -> BTreeMap<InstanceId, InstanceUse> {
        indices.iter().map(|index| (id(*index), InstanceUse { in_use: true, ..InstanceUse::default() })).collect()
    }

    #[test]
    fn only_what_nobody_uses_steps_back_and_only_for_someone() {
        let caps = Some(Caps { max_fps: 10, max_bit_rate: 500_000 });
        let capped = |index, count, uses: &BTreeMap<_, _>, caps| {
            order(id(index), count, uses, caps).map(|order| (order.in_use, order.max_fps, order.max_bit_rate))
        };
        let full = (Some(10), Some(500_000));
        // Which one, of how many, used ones; what it is told.
        for (index, count, uses, want) in [
            (0, 9, &[][..], None),
            (0, 9, &[0], Some((true, None, None))),
            (1, 9, &[0], Some((false, full.0, full.1))),
            (1, 9, &[0, 1], Some((true, None, None))),
            (2, 9, &[0, 1], Some((false, full.0, full.1))),
            (0, 1, &[0], Some((true, None, None))),
            // The list may name one that is gone.
            (0, 1, &[5], Some((false, None, None))),
        ] {
            assert_eq!(capped(index, count, &used(uses), caps), want, "{index} of {count}, used {uses:?}");
        }
        assert_eq!(capped(1, 9, &used(&[0]), None), Some((false, None, None)), "switched off");
    }

    #[test]
    fn a_holder_is_told_also_when_nothing_is_in_use() {
        let holder = InputHolder { viewer: "a".into(), name: "ada".into() };
        let uses = [(id(0), InstanceUse { holder: Some(holder), ..InstanceUse::default() })].into();
        let caps = Some(Caps { max_fps: 10, max_bit_rate: 500_000 });
        let told = order(id(0), 9, &uses, caps).expect("told");
        assert_eq!((told.in_use, told.max_fps, told.input_holder.as_deref()), (false, None, Some("a")));
        assert_eq!(order(id(1), 9, &uses, caps), None);
        assert_eq!(nothing().max_fps, None);
    }
}
