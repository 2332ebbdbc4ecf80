//! Pixels' rectangles.

/// A rectangle of pixels; empty when a side is not positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    /// First column.
    pub left: i32,
    /// First row.
    pub top: i32,
    /// Columns.
    pub width: i32,
    /// Rows.
    pub height: i32,
}

impl Rect {
    /// A rectangle.
    #[must_use]
    pub const fn new(left: i32, top: i32, width: i32, height: i32) -> Self {
        Self { left, top, width, height }
    }

    /// Column after the last.
    #[must_use]
    pub const fn right(&self) -> i32 {
        self.left + self.width
    }

    /// Row after the last.
    #[must_use]
    pub const fn bottom(&self) -> i32 {
        self.top + self.height
    }

    /// Whether it has no pixels.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.width <= 0 || self.height <= 0
    }

    /// The pixels in both.
    #[must_use]
    pub fn intersection(&self, other: Self) -> Self {
        let (left, top) = (self.left.max(other.left), self.top.max(other.top));
        let (right, bottom) = (self.right().min(other.right()), self.bottom().min(other.bottom()));
        Self::new(left, top, (right - left).max(0), (bottom - top).max(0))
    }

    /// The least rectangle around both; an empty one adds nothing.
    #[must_use]
    pub fn union(&self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return *self;
        }
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        let (right, bottom) = (self.right().max(other.right()), self.bottom().max(other.bottom()));
        Self::new(left, top, right - left, bottom - top)
    }

    /// Whether they share a pixel.
    #[must_use]
    pub fn touches(&self, other: Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Pixels in it.
    #[must_use]
    pub fn area(&self) -> i64 {
        if self.is_empty() { 0 } else { self.width as i64 * self.height as i64 }
    }
}
