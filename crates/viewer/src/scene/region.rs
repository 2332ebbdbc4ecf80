//! Which pixels must be drawn again: a few rectangles, joined where that costs little.

use loco_model::Rect;

/// Most rectangles that are kept apart; each costs a pass over what lies under it.
const MAX_RECTS: usize = 24;

/// A set of pixels, as rectangles. May cover more than was added, never less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    rects: Vec<Rect>,
}

fn area(rect: Rect) -> u64 {
    u64::from(rect.width) * u64::from(rect.height)
}

/// Pixels that joining two rectangles would draw in vain.
fn waste(a: Rect, b: Rect) -> u64 {
    area(a.union(b)).saturating_sub(area(a) + area(b) - area(a.intersection(b)))
}

impl Region {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { rects: Vec::with_capacity(MAX_RECTS + 1) }
    }

    /// Adds a rectangle.
    pub fn add(&mut self, rect: Rect) {
        if rect.is_empty() {
            return;
        }
        let mut rect = rect;
        // Joining may make it touch others, so look again until nothing changes.
        while let Some(near) = self.rects.iter().position(|other| {
            let overlap = !other.intersection(rect).is_empty();
            overlap || waste(*other, rect) * 8 <= area(rect)
        }) {
            rect = rect.union(self.rects.swap_remove(near));
        }
        self.rects.push(rect);
        if self.rects.len() > MAX_RECTS {
            self.join_cheapest();
        }
    }

    fn join_cheapest(&mut self) {
        let mut best = (u64::MAX, 0, 1);
        for a in 0..self.rects.len() {
            for b in a + 1..self.rects.len() {
                best = best.min((waste(self.rects[a], self.rects[b]), a, b));
            }
        }
        let second = self.rects.swap_remove(best.2);
        let first = self.rects.swap_remove(best.1);
        self.add(first.union(second));
    }

    /// Its rectangles; none overlaps another.
    #[must_use]
    pub fn rects(&self) -> &[Rect] {
        &self.rects
    }

    /// Whether nothing must be drawn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rects.is_empty()
    }

    /// Whether any pixel of `rect` is in it.
    #[must_use]
    pub fn touches(&self, rect: Rect) -> bool {
        self.rects.iter().any(|r| !r.intersection(rect).is_empty())
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.rects.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(rects: &[Rect]) -> Region {
        let mut region = Region::new();
        for rect in rects {
            region.add(*rect);
        }
        region
    }

    #[test]
    fn far_rectangles_stay_apart_and_near_ones_join() {
        let (a, b) = (Rect::new(0, 0, 10, 10), Rect::new(500, 500, 10, 10));
        assert_eq!(region(&[a, b]).rects().len(), 2);
        assert_eq!(region(&[a, Rect::new(10, 0, 10, 10)]).rects(), [Rect::new(0, 0, 20, 10)]);
        assert_eq!(region(&[a, Rect::new(5, 5, 10, 10)]).rects(), [Rect::new(0, 0, 15, 15)], "overlaps always join");
        assert!(region(&[Rect::new(3, 3, 0, 5)]).is_empty());
    }

    #[test]
    fn a_rectangle_that_bridges_two_joins_all() {
        let r = region(&[Rect::new(0, 0, 10, 10), Rect::new(20, 0, 10, 10), Rect::new(5, 0, 20, 10)]);
        assert_eq!(r.rects(), [Rect::new(0, 0, 30, 10)]);
    }

    #[test]
    fn many_rectangles_stay_few_disjoint_and_cover_all() {
        let added: Vec<_> = (0..40u32).map(|n| Rect::new(n * 37 % 1200, n * 91 % 900, 9, 7)).collect();
        let r = region(&added);
        assert!(r.rects().len() <= MAX_RECTS);
        for rect in &added {
            let covered: u64 = r.rects().iter().map(|c| area(c.intersection(*rect))).sum();
            assert_eq!(covered, area(*rect), "{rect:?}");
        }
        for (n, a) in r.rects().iter().enumerate() {
            assert!(r.rects()[n + 1..].iter().all(|b| a.intersection(*b).is_empty()));
        }
    }
}
