//! A viewer that follows the shared active list: its focus is the list's first entry, and it puts its own focus there.
//! Pure. What it set itself comes back from the control plane later, and must not move the focus again.

use loco_model::InstanceId;
use std::collections::VecDeque;
use std::time::Duration;

/// An own setting that was not heard of after this long was no change.
const ECHO_WITHIN: Duration = Duration::from_secs(5);

/// The list, and who follows it.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    on: bool,
    active: Vec<InstanceId>,
    set: VecDeque<(Vec<InstanceId>, Duration)>,
}

impl Follow {
    /// Follows, or only knows the list.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Whether it follows.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// The list as heard last.
    #[must_use]
    pub fn active(&self) -> &[InstanceId] {
        &self.active
    }

    /// A person moved the focus: what the list is to be; `None`: as it is.
    pub fn focused(&mut self, id: InstanceId, now: Duration) -> Option<Vec<InstanceId>> {
        let expected = self.set.back().map_or(&self.active, |(list, _)| list);
        if !self.on || expected.first() == Some(&id) {
            return None;
        }
        // One of the list comes to its front; another one is the list.
        let list: Vec<_> = if expected.contains(&id) {
            std::iter::once(id).chain(expected.iter().copied().filter(|other| *other != id)).collect()
        } else {
            vec![id]
        };
        self.set.push_back((list.clone(), now));
        Some(list)
    }

    /// The list is this: where the focus goes (`Some(None)`: nowhere); `None`: it stays.
    pub fn heard(&mut self, active: Vec<InstanceId>, now: Duration) -> Option<Option<InstanceId>> {
        self.set.retain(|(_, at)| now < *at + ECHO_WITHIN);
        let echo = self.set.iter().position(|(list, _)| *list == active);
        let had_first = self.active.first().copied();
        self.active = active;
        if let Some(echo) = echo {
            self.set.drain(..=echo);
            return None;
        }
        let first = self.active.first().copied();
        (self.on && self.set.is_empty() && first != had_first).then_some(first)
    }

    /// The control plane is another one, or back: what was set is not heard of any more.
    pub fn restart(&mut self) {
        self.set.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[usize]) -> Vec<InstanceId> {
        list.iter().map(|n| InstanceId::try_new(*n).unwrap()).collect()
    }

    fn id(n: usize) -> InstanceId {
        ids(&[n])[0]
    }

    const NOW: Duration = Duration::from_secs(50);

    #[test]
    fn the_focus_follows_the_first_entry() {
        let mut follow = Follow::new(true);
        assert_eq!(follow.heard(vec![], NOW), None, "an empty list at the start moves nothing");
        assert_eq!(follow.heard(ids(&[3, 5]), NOW), Some(Some(id(3))));
        assert_eq!(follow.heard(ids(&[3, 6]), NOW), None, "the first is the same");
        assert_eq!(follow.heard(ids(&[6]), NOW), Some(Some(id(6))));
        assert_eq!(follow.heard(vec![], NOW), Some(None));
    }

    #[test]
    fn the_list_follows_the_focus_and_its_echo_moves_nothing() {
        let mut follow = Follow::new(true);
        follow.heard(ids(&[3, 5]), NOW);
        assert_eq!(follow.focused(id(3), NOW), None);
        assert_eq!(follow.focused(id(5), NOW), Some(ids(&[5, 3])));
        assert_eq!(follow.focused(id(8), NOW), Some(ids(&[8])));
        assert_eq!(follow.heard(ids(&[5, 3]), NOW), None, "the focus is at 8 already");
        assert_eq!(follow.heard(ids(&[8]), NOW), None);
        assert_eq!(follow.heard(ids(&[5, 3]), NOW), Some(Some(id(5))), "someone else did that");
    }

    #[test]
    fn a_setting_that_is_never_heard_of_is_forgotten() {
        let mut follow = Follow::new(true);
        assert_eq!(follow.focused(id(1), NOW), Some(ids(&[1])));
        assert_eq!(follow.heard(ids(&[2]), NOW + ECHO_WITHIN), Some(Some(id(2))));
    }

    #[test]
    fn who_does_not_follow_neither_moves_nor_sets() {
        let mut follow = Follow::new(false);
        assert_eq!(follow.heard(ids(&[3]), NOW), None);
        assert_eq!(follow.focused(id(1), NOW), None);
        assert_eq!(follow.active(), ids(&[3]));
    }
}
