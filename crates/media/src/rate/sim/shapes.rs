//! Links as people have them, and what the stream must be on them.
//!
//! The ceiling is 2 Mbit/s, the picture always moves and fills what there is, unless said otherwise. Figures in ms and
//! bits a second.

use super::*;

const CEILING: u32 = 2_000_000;
/// What a stream at its ceiling gets at least, with some room for the encoder's own variation.
const FULL: f64 = 1_700_000.0;
const STEPS_MS: u64 = 8_000;
const END_MS: u64 = 24_000;

fn streams(count: usize, content: &[(u64, Content)], apart_ms: u64) -> Vec<Stream> {
    (0..count).map(|i| Stream::new(i, CEILING, content, i as u64 * apart_ms)).collect()
}

fn run(link: LinkConfig) -> World {
    let mut world = World::new(link, streams(1, &[(0, Content::Busy)], 0), vec![]);
    world.run(END_MS);
    world
}

/// `high`, then `low`, then `high` again, 8 s each.
fn steps(high: f64, low: f64) -> LinkConfig {
    LinkConfig::new(&[(0, high), (STEPS_MS, low), (2 * STEPS_MS, high)])
}

/// Fewest pictures in any second.
fn least_fps(world: &World, from: u64, to: u64) -> f64 {
    (from..=to - 1_000).step_by(100).map(|ms| world.fps(0, ms, ms + 1_000)).fold(f64::MAX, f64::min)
}

/// The rules for a link that falls and rises again: pictures go on, and all comes back within `back_ms`.
fn check_steps(world: &World, least: f64, back_ms: u64) {
    let fewest = least_fps(world, 1_000, END_MS);
    assert!(fewest >= least, "only {fewest} pictures in a second\n{}", world.story(0, END_MS));
    let back = world.back_after(0, 2 * STEPS_MS, FULL.min(world.link.rate(0) * 0.75));
    assert!(back.is_some_and(|ms| ms <= back_ms), "back after {back:?} ms\n{}", world.story(0, END_MS));
    let low = world.link.rate(STEPS_MS * 1_000);
    let used = world.rate(0, STEPS_MS + 2_000, 2 * STEPS_MS) / low.min(f64::from(CEILING));
    assert!(used > 0.7, "stuck at {used:.2} of the low rate\n{}", world.story(0, END_MS));
}

/// Jain's index: 1 where all get the same, 1/n where one gets all.
fn fairness(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    sum * sum / (rates.len() as f64 * rates.iter().map(|rate| rate * rate).sum::<f64>())
}

#[test]
fn a_cliff_of_ten() {
    let world = run(steps(5e6, 0.5e6));
    check_steps(&world, 16.0, 1_500);
    let worst = world.worst_ping(STEPS_MS, 2 * STEPS_MS);
    assert!(worst < 300.0, "round trip of {worst} ms\n{}", world.story(0, END_MS));
    let fps = world.fps(0, STEPS_MS, 2 * STEPS_MS);
    assert!(fps >= 20.0, "{fps} pictures a second\n{}", world.story(0, END_MS));
    let gap = world.longest_gap(0, 1_000, END_MS);
    assert!(gap < 250.0, "a gap of {gap} ms");
}

#[test]
fn a_cliff_of_five_and_one_to_little() {
    check_steps(&run(steps(5e6, 1e6)), 20.0, 1_000);
    let world = run(steps(2e6, 0.3e6));
    check_steps(&world, 8.0, 1_500);
    let worst = world.worst_ping(STEPS_MS, 2 * STEPS_MS);
    assert!(worst < 550.0, "{worst} ms\n{}", world.story(0, END_MS));
}

#[test]
fn a_cliff_to_next_to_nothing() {
    // The picture is halved, and comes back.
    check_steps(&run(steps(5e6, 0.15e6)), 2.0, 3_500);
}

#[test]
fn a_cliff_on_a_long_way() {
    check_steps(&run(LinkConfig { delay_ms: 50, ..steps(5e6, 0.5e6) }), 8.0, 1_500);
    check_steps(&run(LinkConfig { delay_ms: 150, ..steps(5e6, 0.5e6) }), 5.0, 2_000);
}

#[test]
fn a_cliff_with_random_loss() {
    check_steps(&run(LinkConfig { loss: 0.02, ..steps(5e6, 0.5e6) }), 12.0, 1_500);
    check_steps(&run(LinkConfig { loss: 0.02, delay_ms: 50, ..steps(5e6, 0.5e6) }), 5.0, 1_500);
}

#[test]
fn a_cliff_with_jitter() {
    let world = run(LinkConfig { jitter_ms: 50, ..steps(5e6, 0.5e6) });
    check_steps(&world, 10.0, 4_000);
    let before = world.rate(0, 2_000, STEPS_MS);
    assert!(before > FULL, "jitter alone costs rate: {before}\n{}", world.story(0, END_MS));
}

#[test]
fn a_cliff_with_a_short_and_with_a_long_queue() {
    check_steps(&run(LinkConfig { queue: 10_000, ..steps(5e6, 0.5e6) }), 12.0, 1_500);
    let world = run(LinkConfig { queue: 1_000_000, ..steps(5e6, 0.5e6) });
    check_steps(&world, 16.0, 1_500);
    assert!(world.worst_ping(STEPS_MS, 2 * STEPS_MS) < 300.0, "nothing may sit in the long queue");
}

#[test]
fn a_cliff_with_bursts_of_loss() {
    // Every 2 s nothing gets through for 80 ms, in neither direction.
    check_steps(&run(LinkConfig { bursts: Some((2_000, 80)), ..steps(5e6, 0.5e6) }), 10.0, 2_000);
}

#[test]
fn random_loss_alone_costs_nothing() {
    for delay_ms in [10, 50, 150] {
        let world = run(LinkConfig { loss: 0.02, delay_ms, ..LinkConfig::new(&[(0, 5e6)]) });
        let rate = world.rate(0, 2_000, END_MS);
        assert!(rate > FULL, "{rate} at {delay_ms} ms\n{}", world.story(0, END_MS));
    }
}

#[test]
fn much_loss_does_not_starve() {
    let world = run(LinkConfig { loss: 0.10, ..LinkConfig::new(&[(0, 5e6)]) });
    let rate = world.rate(0, 4_000, END_MS);
    assert!(rate > 0.6 * f64::from(CEILING), "{rate}\n{}", world.story(0, END_MS));
}

#[test]
fn a_steady_link_below_the_ceiling_is_filled_and_not_flooded() {
    for (rate, queue, ping) in
        [(1e6, 100_000, 200.0), (1e6, 5_000, 100.0), (0.5e6, 100_000, 250.0), (0.2e6, 100_000, 350.0)]
    {
        let world = run(LinkConfig { queue, ..LinkConfig::new(&[(0, rate)]) });
        let got = world.rate(0, 4_000, END_MS);
        assert!(got > 0.72 * rate, "{got} of {rate}\n{}", world.story(0, END_MS));
        let worst = world.worst_ping(4_000, END_MS);
        assert!(worst < ping, "{worst} ms on {rate}\n{}", world.story(0, END_MS));
        assert!(least_fps(&world, 3_000, END_MS) >= 15.0, "{}", world.story(0, END_MS));
    }
}

#[test]
fn a_link_that_people_could_play_on() {
    // 3 Mbit/s, 100 ms, 2 % loss, some jitter.
    let world = run(LinkConfig { loss: 0.02, delay_ms: 50, jitter_ms: 10, ..LinkConfig::new(&[(0, 3e6)]) });
    assert!(world.rate(0, 2_000, END_MS) > FULL, "{}", world.story(0, END_MS));
    assert!(world.fps(0, 2_000, END_MS) > 28.0);
    assert!(world.worst_ping(2_000, END_MS) < 200.0);
}

#[test]
fn ramps_down_and_up() {
    let rate = |i: u64| 2.5e6 - 2.2e6 * (1.0 - ((i as f64 - 24.0) / 24.0).abs());
    let ramp: Vec<_> = (0..48).map(|i| (i * 500, rate(i))).collect();
    let world = run(LinkConfig::new(&ramp));
    assert!(world.worst_ping(1_000, END_MS) < 250.0, "{}", world.story(0, END_MS));
    assert!(least_fps(&world, 1_000, END_MS) >= 12.0, "{}", world.story(0, END_MS));
    for from in (2_000..END_MS - 1_000).step_by(1_000) {
        let (got, there) = (world.rate(0, from, from + 1_000), world.link.rate(from * 1_000).min(f64::from(CEILING)));
        assert!(got > 0.6 * there, "{got} of {there} at {from}\n{}", world.story(0, END_MS));
    }
}

#[test]
fn a_link_that_changes_every_two_seconds() {
    let square: Vec<_> = (0..12).map(|i| (i * 2_000, if i % 2 == 0 { 3e6 } else { 0.6e6 })).collect();
    let world = run(LinkConfig::new(&square));
    assert!(least_fps(&world, 1_000, END_MS) >= 12.0, "{}", world.story(0, END_MS));
    assert!(world.worst_ping(1_000, END_MS) < 300.0, "{}", world.story(0, END_MS));
    assert!(world.rate(0, 1_000, END_MS) > 0.6 * (2e6 + 0.6e6) / 2.0, "{}", world.story(0, END_MS));
}

#[test]
fn an_outage_ends() {
    let world = run(LinkConfig { outage: Some((10_000, 12_000)), ..LinkConfig::new(&[(0, 5e6)]) });
    let back = world.back_after(0, 12_000, FULL);
    assert!(back.is_some_and(|ms| ms <= 1_500), "back after {back:?}\n{}", world.story(0, END_MS));
    assert!(world.longest_gap(0, 12_000, END_MS) < 1_000.0, "{}", world.story(0, END_MS));
}

#[test]
fn a_still_picture_proves_nothing_and_forgets_nothing() {
    let content = [(0, Content::Busy), (4_000, Content::Still), (16_000, Content::Busy)];
    let mut world = World::new(LinkConfig::new(&[(0, 5e6)]), streams(1, &content, 0), vec![]);
    world.run(END_MS);
    let back = world.back_after(0, 16_000, FULL);
    assert!(back.is_some_and(|ms| ms <= 700), "{back:?}\n{}", world.story(0, END_MS));

    // Nothing but a cursor blinks: the target stays far below what was never tried.
    let mut world = World::new(LinkConfig::new(&[(0, 20e6)]), streams(1, &[(0, Content::Small(200.0))], 0), vec![]);
    world.streams[0].ceiling = 10_000_000;
    world.streams[0].flow.set_ceiling(10_000_000);
    world.run(END_MS);
    let target = world.target(0, END_MS);
    assert!(target <= 1.5e6, "{target} of which nothing was sent");

    // The link falls meanwhile: the first motion must not flood it for long.
    let link = LinkConfig::new(&[(0, 5e6), (8_000, 0.5e6)]);
    let content = [(0, Content::Busy), (4_000, Content::Small(200.0)), (16_000, Content::Busy)];
    let mut world = World::new(link, streams(1, &content, 0), vec![]);
    world.run(END_MS);
    assert!(world.worst_ping(16_000, END_MS) < 350.0, "{}", world.story(0, END_MS));
    assert!(least_fps(&world, 16_000, END_MS) >= 10.0, "{}", world.story(0, END_MS));
}

/// Rates of `count` streams on one link over the second half of a minute.
fn share(count: usize, rate: f64, queue: u64, apart_ms: u64) -> (World, Vec<f64>) {
    let link = LinkConfig { queue, ..LinkConfig::new(&[(0, rate)]) };
    let mut world = World::new(link, streams(count, &[(0, Content::Busy)], apart_ms), vec![]);
    world.run(60_000);
    let rates = (0..count).map(|i| world.rate(i, 30_000, 60_000)).collect();
    (world, rates)
}

#[test]
fn nine_streams_share_a_link() {
    for (rate, queue, apart_ms) in
        [(9e6, 300_000, 0), (9e6, 300_000, 1_000), (6e6, 30_000, 1_000), (3e6, 100_000, 1_000), (1.5e6, 100_000, 1_000)]
    {
        let (world, rates) = share(9, rate, queue, apart_ms);
        let index = fairness(&rates);
        assert!(index > 0.9, "{index} on {rate}: {rates:?}");
        let sum: f64 = rates.iter().sum();
        assert!(sum > 0.85 * rate, "{sum} of {rate}");
        let least = rates.iter().copied().fold(f64::MAX, f64::min);
        assert!(least > 0.4 * rate / 9.0, "one starves on {rate}: {rates:?}");
        let fps: Vec<_> = (0..9).map(|i| world.fps(i, 30_000, 60_000)).collect();
        assert!(
            fps.iter().all(|fps| *fps > 12.0),
            "{fps:?} on {rate}\n{}\n{}",
            world.story(0, 60_000),
            world.story(8, 60_000)
        );
        // Nine that start one after another on a link for one and a half fill its queue at first.
        let worst = world.worst_ping(25_000, 60_000);
        assert!(worst < 350.0, "{worst} ms on {rate}");
    }
}

#[test]
fn two_streams_share_a_link() {
    let (_, rates) = share(2, 2e6, 100_000, 5_000);
    assert!(fairness(&rates) > 0.9, "{rates:?}");
}

/// A stream beside a download from 5 s to 45 s.
fn beside(is_cubic: bool, rate: f64, queue: u64, delay_ms: u64) -> World {
    let link = LinkConfig { queue, delay_ms, ..LinkConfig::new(&[(0, rate)]) };
    let tcp = vec![Tcp::new(is_cubic, (5_000, 45_000))];
    let mut world = World::new(link, streams(1, &[(0, Content::Busy)], 0), tcp);
    world.run(60_000);
    world
}

#[test]
fn a_download_neither_starves_the_stream_nor_is_starved() {
    for is_cubic in [false, true] {
        for (rate, queue, delay_ms) in [
            (8e6, 250_000, 10),
            (8e6, 1_000_000, 20),
            (3e6, 100_000, 10),
            (3e6, 30_000, 10),
            (2e6, 250_000, 10),
            (20e6, 500_000, 25),
        ] {
            let world = beside(is_cubic, rate, queue, delay_ms);
            let story = || format!("cubic {is_cubic}, {rate}, {queue} bytes\n{}", world.story(0, 60_000));
            let fair = (rate / 2.0).min(f64::from(CEILING));
            let got = world.rate(0, 9_000, 45_000);
            assert!(got > 0.35 * fair, "{got} of a fair {fair}; {}", story());
            let download = world.downloads[0].delivered as f64 * 8.0 / 40.0;
            assert!(download > 0.25 * rate, "the download got {download}; {}", story());
            // And the queue is yielded to again once the download is over.
            let late = world.worst_ping(53_000, 60_000);
            assert!(late < 200.0, "{late} ms afterwards; {}", story());
            assert!(!world.streams[0].flow.state(60_000_000).rival, "{}", story());
        }
    }
}
