//! Tiles, watched by the pixels that the viewer presented.

use crate::automation::{Automation, Shown, Wall};
use anyhow::{Context, Result, bail};
use loco_demo_guest::barcode::Reading;
use loco_model::{InstanceId, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// A key that the demo guest counts and otherwise ignores.
pub const PLAIN_KEY: Key = Key::named("KeyZ");
/// A picture without a change may take this long to show a key.
const PATIENCE: Duration = Duration::from_secs(2);

/// A viewer whose tiles' barcodes are followed.
pub struct Tiles {
    /// The viewer.
    pub automation: Automation,
    last: BTreeMap<InstanceId, Reading>,
    watched: BTreeMap<InstanceId, [u32; 4]>,
    following: bool,
}

/// What one tile presented over some time: when, and the barcode then.
pub type Trace = Vec<(u64, Reading)>;

impl Tiles {
    /// Follows the viewer at `socket`, which may take until `deadline` to appear.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn connect(socket: &Path, deadline: Instant) -> Result<Self> {
        let automation = Automation::connect(socket, deadline).await?;
        Ok(Self { automation, last: BTreeMap::new(), watched: BTreeMap::new(), following: true })
    }

    /// What the viewer shows now; where the pictures have moved, the barcodes are followed to their new places.
    ///
    /// # Errors
    /// When the viewer is gone.
    pub async fn wall(&mut self) -> Result<Wall> {
        let wall = self.automation.wall().await?;
        let pictures: BTreeMap<InstanceId, [u32; 4]> =
            wall.tiles.iter().filter_map(|tile| Some((tile.id, tile.picture?))).collect();
        if self.following && pictures != self.watched {
            self.automation.watch(&wall).await?;
            self.watched = pictures;
        }
        Ok(wall)
    }

    /// Follows no barcodes for now, since reading them back costs time; [`Tiles::watch_again`] does again.
    ///
    /// # Errors
    /// When the viewer is gone.
    pub async fn unwatch(&mut self) -> Result<()> {
        self.following = false;
        self.watched.clear();
        self.automation.unwatch().await
    }

    /// Follows the barcodes again.
    pub fn watch_again(&mut self) {
        self.following = true;
    }

    /// The newest barcode seen on a tile.
    #[must_use]
    pub fn last(&self, id: InstanceId) -> Option<Reading> {
        self.last.get(&id).copied()
    }

    fn note(&mut self, shown: Shown) -> Option<(u64, Reading)> {
        let reading = shown.reading?;
        self.last.insert(shown.id, reading);
        Some((shown.at_us, reading))
    }

    /// Everything that is presented from now on for `duration`.
    ///
    /// # Errors
    /// When the viewer is gone.
    pub async fn collect(&mut self, duration: Duration) -> Result<BTreeMap<InstanceId, Trace>> {
        self.automation.clear();
        let mut traces: BTreeMap<InstanceId, Trace> = BTreeMap::new();
        let end = Instant::now() + duration;
        while let Some(shown) = self.automation.shown(end.saturating_duration_since(Instant::now())).await? {
            let id = shown.id;
            if let Some(point) = self.note(shown) {
                traces.entry(id).or_default().push(point);
            }
        }
        Ok(traces)
    }

    /// Waits until all tiles of `ids` have presented an advancing counter under their own number, asking the viewer
    /// for new places meanwhile. Returns those that did not by `deadline`.
    ///
    /// # Errors
    /// When the viewer is gone.
    pub async fn wait_live(&mut self, ids: &[InstanceId], deadline: Instant) -> Result<BTreeSet<InstanceId>> {
        let mut missing: BTreeSet<InstanceId> = ids.iter().copied().collect();
        let mut seen: BTreeMap<InstanceId, u64> = BTreeMap::new();
        while !missing.is_empty() && Instant::now() < deadline {
            self.wall().await?;
            let look_again = Instant::now() + Duration::from_millis(50);
            while !missing.is_empty()
                && let Some(shown) = self.automation.shown(look_again.saturating_duration_since(Instant::now())).await?
            {
                let id = shown.id;
                let Some((_, reading)) = self.note(shown) else { continue };
                if usize::from(reading.instance) == id.index() {
                    let first = *seen.entry(id).or_insert(reading.counter);
                    if reading.counter > first {
                        missing.remove(&id);
                    }
                }
            }
        }
        Ok(missing)
    }

    /// Waits until a tile presents a barcode of its own number with a counter that `is` takes; when that was, in microseconds
    /// of the monotonic clock. The tile may lose its picture meanwhile, and get it back.
    ///
    /// # Errors
    /// When it does not within `patience`, or the viewer is gone.
    pub async fn wait_counter(
        &mut self,
        id: InstanceId,
        patience: Duration,
        is: impl Fn(u64) -> bool,
    ) -> Result<(u64, Reading)> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            self.wall().await?;
            let look_again = Instant::now() + Duration::from_millis(50);
            while let Some(shown) = self.automation.shown(look_again.saturating_duration_since(Instant::now())).await? {
                let of_tile = shown.id == id;
                let Some((at_us, reading)) = self.note(shown) else { continue };
                if of_tile && usize::from(reading.instance) == id.index() && is(reading.counter) {
                    return Ok((at_us, reading));
                }
            }
        }
        bail!("{id} did not show the counter that was waited for within {patience:?}; its last: {:?}", self.last(id))
    }

    /// Presses `key` in a tile and lets it go once the barcode counts it. Milliseconds from its injection until the
    /// presented target showed it; nothing when it did not in time.
    ///
    /// # Errors
    /// When the viewer is gone, or never showed a barcode of that tile.
    pub async fn press(&mut self, id: InstanceId, key: Key) -> Result<Option<f64>> {
        self.drain();
        let before = self.last(id).with_context(|| format!("{id} has not shown a barcode yet"))?.input_count;
        let injected_us = self.automation.key(id, key, true).await?;
        let end = Instant::now() + PATIENCE;
        let mut latency = None;
        while latency.is_none()
            && let Some(shown) = self.automation.shown(end.saturating_duration_since(Instant::now())).await?
        {
            let of_tile = shown.id == id;
            if let Some((at_us, reading)) = self.note(shown)
                && of_tile
                && reading.input_count == before.wrapping_add(1)
            {
                if at_us < injected_us {
                    bail!("{id} showed a key {} µs before it was pressed", injected_us - at_us);
                }
                latency = Some((at_us - injected_us) as f64 / 1000.0);
            }
        }
        self.automation.key(id, key, false).await?;
        Ok(latency)
    }

    /// Makes sure that a barcode of the tile is known, by pressing a key where a still picture shows none.
    ///
    /// # Errors
    /// When the viewer is gone, or the tile shows no barcode.
    pub async fn prime(&mut self, id: InstanceId) -> Result<Reading> {
        self.drain();
        if self.last(id).is_none() {
            self.automation.key(id, PLAIN_KEY, true).await?;
            let end = Instant::now() + PATIENCE;
            // Not only any barcode: one that shows this very press, or it would be counted with the next one.
            let code = u16::from(PLAIN_KEY.qnum());
            while self.last(id).is_none_or(|reading| reading.input_code != code || reading.held == 0)
                && let Some(shown) = self.automation.shown(end.saturating_duration_since(Instant::now())).await?
            {
                self.note(shown);
            }
            self.automation.key(id, PLAIN_KEY, false).await?;
        }
        self.last(id).with_context(|| format!("{id} shows no barcode"))
    }

    fn drain(&mut self) {
        while let Some(shown) = self.automation.try_shown() {
            self.note(shown);
        }
    }
}

/// Distinct counters presented per second over `duration`.
#[must_use]
pub fn shown_per_second(trace: &Trace, duration: Duration) -> f64 {
    let distinct: BTreeSet<u64> = trace.iter().map(|(_, reading)| reading.counter).collect();
    distinct.len() as f64 / duration.as_secs_f64()
}

/// Whether the counter advanced in each of the `seconds` seconds that end at `end_us`, under the tile's own number.
#[must_use]
pub fn advanced_each_second(trace: &Trace, id: InstanceId, end_us: u64, seconds: u64) -> bool {
    let own = || trace.iter().filter(|(_, reading)| usize::from(reading.instance) == id.index());
    (0..seconds).all(|second| {
        let to = end_us.saturating_sub(second * 1_000_000);
        let from = to.saturating_sub(1_000_000);
        let before = own().filter(|(at, _)| *at <= from).map(|(_, reading)| reading.counter).next_back();
        let mut within = own().filter(|(at, _)| *at > from && *at <= to).map(|(_, reading)| reading.counter);
        let Some(first) = within.next() else { return false };
        let last = within.next_back().unwrap_or(first);
        last > before.unwrap_or(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(instance: u8, counter: u64) -> Reading {
        let mode = loco_demo_guest::Mode::Town;
        Reading {
            instance,
            mode,
            flash: false,
            counter,
            input_code: 0,
            input_count: 0,
            held: 0,
            cursor_x: 0,
            cursor_y: 0,
        }
    }

    fn trace(instance: u8, points: impl IntoIterator<Item = (u64, u64)>) -> Trace {
        points.into_iter().map(|(ms, counter)| (ms * 1000, reading(instance, counter))).collect()
    }

    #[test]
    fn live_is_an_advance_in_each_second() {
        let id = InstanceId::try_new(2).unwrap();
        let live = |trace: &Trace| advanced_each_second(trace, id, 5_000_000, 5);
        assert!(live(&trace(2, (0..150).map(|i| (i * 33 + 1, i)))));
        assert!(live(&trace(2, (0..10).map(|i| (i * 500 + 10, i)))), "slow, but it advances");
        assert!(!live(&trace(3, (0..150).map(|i| (i * 33 + 1, i)))), "another guest's picture");
        assert!(!live(&trace(2, (0..150).map(|i| (i * 33 + 1, 7)))), "presented, but it stands");
        assert!(!live(&trace(2, (0..150).filter(|i| !(60..95).contains(i)).map(|i| (i * 33 + 1, i)))), "a gap");
        assert!(!live(&Trace::new()));
    }

    #[test]
    fn repeated_counters_are_shown_once() {
        let duration = Duration::from_secs(2);
        assert_eq!(shown_per_second(&trace(0, [(0, 1), (10, 1), (20, 2), (30, 3)]), duration), 1.5);
        assert_eq!(shown_per_second(&Trace::new(), duration), 0.0);
    }
}
