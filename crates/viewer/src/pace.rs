//! How often the wall is drawn. Pure: times in, times out.
//!
//! On a graphics card: as often as the screen shows. On a CPU rasteriser every drawing takes time from the guests, so
//! the rate follows what this process uses; it holds in the mean, and a few may come at once, since a guest's pictures
//! come as unevenly as its link lets them, and one that waits is lost to the next. Frames that answer an input do not
//! ask here.

use std::time::{Duration, Instant};

/// Slowest and fastest rate on a CPU rasteriser, in drawings a second. The fastest is twice that of the guests' pictures,
/// which are more than their rate says while keys are answered.
const CPU_RATES: (f64, f64) = (10.0, 60.0);
/// Its rate at first: a little above that of one guest's pictures.
const CPU_START: f64 = 33.0;
/// Drawings that may be made at once there after a pause as long as they would have taken.
const CPU_BURST: u32 = 3;
/// Share of one core that this process may use there; above it the rate falls, well below it rises.
const CPU_BUDGET: f64 = 0.65;
const CPU_SPARE: f64 = 0.5;
/// Of what nobody uses it may take all but so many cores: who runs the guests beside it wants room for their peaks.
const LEFT_FREE: f64 = 0.4;
/// Share of wall time that the device may be busy, so that an input never waits long for a drawing.
const BUSY_BUDGET: f64 = 0.7;
/// How long the use is measured before the rate is changed.
const WINDOW: Duration = Duration::from_secs(1);

/// Says when the next drawing is due.
#[derive(Debug)]
pub struct Pacer {
    on_cpu: bool,
    rate: f64,
    /// When the last drawing was due at the steady rate; of one that came early within its burst, that is yet to come.
    last_due: Option<Instant>,
    /// Mean time of a drawing until the device was done.
    took_secs: f64,
    window: Option<(Instant, Used)>,
}

/// Processor time, counted up.
#[derive(Clone, Copy, Debug)]
struct Used {
    cpu: Duration,
    /// That nobody used; `None` where it is not known.
    idle: Option<Duration>,
}

impl Pacer {
    /// For a device that draws by itself, on a screen of `refresh_hz`.
    #[must_use]
    pub fn for_gpu(refresh_hz: f64) -> Self {
        Self::new(false, refresh_hz.clamp(24.0, 500.0))
    }

    /// For a rasteriser on this computer's own cores.
    #[must_use]
    pub fn for_cpu() -> Self {
        Self::new(true, CPU_START)
    }

    fn new(on_cpu: bool, rate: f64) -> Self {
        Self { on_cpu, rate, last_due: None, took_secs: 0.0, window: None }
    }

    /// Drawings a second at most.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.on_cpu && self.took_secs > 0.0 {
            // Not below the slowest rate: one drawing is in flight at most, so a slow device is never flooded, and the
            // first drawings, in which a rasteriser compiles its shaders, must not stall the wall for seconds.
            self.rate.min(BUSY_BUDGET / self.took_secs).max(CPU_RATES.0)
        } else {
            self.rate
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.rate().max(1.0))
    }

    /// When the next drawing may be; `now` or later.
    #[must_use]
    pub fn due(&self, now: Instant) -> Instant {
        let early = if self.on_cpu { self.interval() * (CPU_BURST - 1) } else { Duration::ZERO };
        self.last_due.and_then(|last| (last + self.interval()).checked_sub(early)).map_or(now, |due| due.max(now))
    }

    /// A drawing was made at `now`.
    pub fn drew(&mut self, now: Instant) {
        let on_beat = self.last_due.map(|last| last + self.interval());
        self.last_due = Some(match on_beat {
            // The generic cell rate algorithm (ITU-T I.371): early ones are charged, a pause fills the burst again.
            Some(due) if self.on_cpu => due.max(now),
            // Steady steps where there is always something to draw, no debt after a pause.
            Some(due) if now < due + self.interval() => due.min(now),
            _ => now,
        });
    }

    /// A drawing took so long until the device was done.
    pub fn finished(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.took_secs = if self.took_secs == 0.0 { took } else { self.took_secs * 0.9 + took * 0.1 };
    }

    /// Tells what this process has used of all cores since its start, and how to know what nobody has; adapts once a
    /// second.
    pub fn used(&mut self, now: Instant, cpu: Duration, idle: impl FnOnce() -> Option<Duration>) {
        let passed = self.window.map(|(since, _)| now.saturating_duration_since(since));
        if !self.on_cpu || passed.is_some_and(|passed| passed < WINDOW) {
            return;
        }
        let used = Used { cpu, idle: idle() };
        let before = self.window.replace((now, used));
        let (Some((_, before)), Some(passed)) = (before, passed) else { return };
        let cores = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / passed.as_secs_f64();
        let share = cores(used.cpu, before.cpu);
        let idle = used.idle.zip(before.idle).map(|(now, before)| cores(now, before));
        let budget = idle.map_or(CPU_BUDGET, |idle| CPU_BUDGET.max(share + idle - LEFT_FREE));
        if share > budget {
            self.rate *= budget / share;
        } else if share < budget * CPU_SPARE / CPU_BUDGET {
            self.rate *= 1.15;
        }
        self.rate = self.rate.clamp(CPU_RATES.0, CPU_RATES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_is_due_at_once_and_a_pause_leaves_no_debt() {
        let (mut pacer, start) = (Pacer::for_gpu(50.0), Instant::now());
        assert_eq!(pacer.due(start), start);
        pacer.drew(start);
        assert_eq!(pacer.due(start), start + ms(20));
        pacer.drew(start + ms(23));
        assert_eq!(pacer.due(start + ms(23)), start + ms(40), "a late drawing does not shift the beat");
        pacer.drew(start + ms(500));
        assert_eq!(pacer.due(start + ms(500)), start + ms(520));
        assert_eq!(pacer.due(start + ms(900)), start + ms(900));
    }

    /// Times of drawings in `for_ms` when pictures come at `arrivals` and each is drawn as soon as it may be.
    fn drawn_at(pacer: &mut Pacer, arrivals: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut drawn: Vec<Instant> = Vec::new();
        for &at in arrivals {
            let at = start + ms(at);
            // One that still waits when the next comes is drawn as that one.
            if drawn.last().is_some_and(|last| *last > at) {
                continue;
            }
            let due = pacer.due(at);
            pacer.drew(due);
            drawn.push(due);
        }
        drawn.iter().map(|at| (*at - start).as_millis() as u64).collect()
    }

    #[test]
    fn uneven_pictures_are_drawn_at_once_by_a_rasteriser_and_its_rate_holds_in_the_mean() {
        let uneven = [0, 20, 66, 80, 133, 150, 200, 230, 266];
        assert_eq!(drawn_at(&mut Pacer::for_cpu(), &uneven), uneven, "as they come, about 30 a second");
        let flood: Vec<u64> = (0..1000).map(|n| n * 2).collect();
        let drawn = drawn_at(&mut Pacer::for_cpu(), &flood);
        assert!((66..=70).contains(&drawn.len()), "{} in two seconds", drawn.len());
        let longest = drawn.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest.is_some_and(|gap| gap <= 36), "{longest:?}");
    }

    #[test]
    fn a_rasteriser_slows_down_under_load_and_recovers() {
        let (mut pacer, start) = (Pacer::for_cpu(), Instant::now());
        let mut cpu = Duration::ZERO;
        let mut second = |pacer: &mut Pacer, n: u64, share: f64| {
            cpu += Duration::from_secs_f64(share);
            pacer.used(start + Duration::from_secs(n), cpu, || None);
            pacer.rate()
        };
        second(&mut pacer, 0, 0.0);
        let slower = second(&mut pacer, 1, 1.3);
        assert!((slower - 16.5).abs() < 0.01, "{slower}");
        assert!(second(&mut pacer, 2, 9.0) >= CPU_RATES.0);
        let floor = second(&mut pacer, 3, 0.6);
        assert!((floor - CPU_RATES.0).abs() < 0.01, "inside the budget nothing changes: {floor}");
        let last = (4..20).map(|n| second(&mut pacer, n, 0.2)).last();
        assert!(last.is_some_and(|rate| (rate - CPU_RATES.1).abs() < 0.01), "{last:?}");
    }

    #[test]
    fn what_nobody_uses_may_be_used_but_for_a_rest() {
        let (mut pacer, start) = (Pacer::for_cpu(), Instant::now());
        let (mut cpu, mut free) = (Duration::ZERO, Duration::ZERO);
        let mut second = |pacer: &mut Pacer, n: u64, share: f64, idle: f64| {
            cpu += Duration::from_secs_f64(share);
            free += Duration::from_secs_f64(idle);
            pacer.used(start + Duration::from_secs(n), cpu, || Some(free));
            pacer.rate()
        };
        let begun = second(&mut pacer, 0, 0.0, 0.0);
        assert!(second(&mut pacer, 1, 0.9, 0.9) > begun, "half of two cores is free");
        let before = pacer.rate();
        assert!((second(&mut pacer, 2, 0.9, 0.45) - before).abs() < 0.01, "just enough is left");
        assert!((second(&mut pacer, 3, 0.9, 0.3) - before * 0.8 / 0.9).abs() < 0.01);
        let full = pacer.rate();
        assert!((second(&mut pacer, 4, 1.3, 0.0) - full * 0.9 / 1.3).abs() < 0.01, "all is used: it gives way");
        let less = pacer.rate();
        assert!((second(&mut pacer, 5, 0.65, 0.0) - less).abs() < 0.01, "but keeps its own share");
    }

    #[test]
    fn slow_drawings_leave_room_for_inputs() {
        let mut pacer = Pacer::for_cpu();
        for _ in 0..100 {
            pacer.finished(ms(70));
        }
        assert!((pacer.rate() - 10.0).abs() < 0.1, "{}", pacer.rate());
        pacer.finished(ms(5_000));
        assert!(pacer.rate() >= CPU_RATES.0, "one slow drawing does not stall the wall: {}", pacer.rate());
        let mut gpu = Pacer::for_gpu(60.0);
        gpu.finished(ms(70));
        assert!((gpu.rate() - 60.0).abs() < 0.01);
    }
}
