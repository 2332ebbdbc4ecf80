use super::*;
use crate::impairment::Bursts;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// When each packet arrives, on a link that is asked exactly when it says.
fn arrivals(link: &mut Link<u32>, until: Duration) -> Vec<(u32, f64)> {
    let mut all = Vec::new();
    while let Some(at) = link.next_at().filter(|at| *at <= until) {
        while let Some(item) = link.pop(at) {
            all.push((item, at.as_secs_f64() * 1e3));
        }
    }
    all
}

#[test]
fn a_good_link_passes_at_once_and_in_order() {
    let mut link = Link::new(Impairment::default(), 1);
    assert_eq!(link.next_at(), None);
    for i in 0..3 {
        assert_eq!(link.push(ms(5), 100, i), Verdict::Passes);
    }
    assert_eq!(link.next_at(), Some(ms(5)));
    assert_eq!((link.pop(ms(5)), link.pop(ms(5)), link.pop(ms(5)), link.pop(ms(5))), (Some(0), Some(1), Some(2), None));
}

#[test]
fn the_rate_spaces_and_the_delay_adds() {
    // 1000 bytes at 1 Mbit/s take 8 ms.
    let mut link = Link::new(Impairment::rate(1_000_000, 100_000).with_delay(ms(50)), 1);
    for i in 0..3 {
        link.push(ms(0), 1000, i);
    }
    link.push(ms(100), 1000, 3);
    assert_eq!(arrivals(&mut link, ms(1000)), [(0, 58.0), (1, 66.0), (2, 74.0), (3, 158.0)]);
    let counters = link.counters(ms(1000));
    assert_eq!((counters.packets_out, counters.bytes_out, counters.queue_bytes), (4, 4000, 0));
    assert_eq!((counters.most_queue_bytes, counters.longest_queue_delay), (3000, ms(24)));
}

#[test]
fn a_full_queue_drops_what_comes_on_top() {
    let mut link = Link::new(Impairment::rate(1_000_000, 2500), 1);
    let fates: Vec<_> = (0..4).map(|i| link.push(ms(0), 1000, i)).collect();
    assert_eq!(fates, [Verdict::Passes, Verdict::Passes, Verdict::Full, Verdict::Full]);
    // One has left after 8 ms.
    assert_eq!(link.push(ms(8), 1000, 4), Verdict::Passes);
    assert_eq!(link.counters(ms(8)).overflowed, 2);
}

#[test]
fn a_new_rate_holds_for_what_waits() {
    let mut link = Link::new(Impairment::rate(1_000_000, 100_000), 1);
    link.push(ms(0), 1000, 0);
    link.push(ms(0), 1000, 1);
    // Half of the first is through; the rest takes ten times longer.
    link.set(ms(4), Impairment::rate(100_000, 100_000));
    assert_eq!(arrivals(&mut link, ms(1000)), [(0, 44.0), (1, 124.0)]);
    // A stopped link keeps what waits until it goes on.
    link.set(ms(1000), Impairment { rate: Some(0), ..Impairment::default() });
    link.push(ms(1000), 1000, 2);
    assert_eq!((link.next_at(), link.pop(ms(5000))), (None, None));
    link.set(ms(5000), Impairment::default());
    assert_eq!(link.pop(ms(5000)), Some(2));
}

/// The bottleneck that is asked late gives the same as one that is asked in time.
#[test]
fn asking_late_changes_nothing_but_when_it_is_told() {
    let run = |step: u64| {
        let mut link = Link::new(Impairment::rate(800_000, 20_000).with_loss(0.1).with_delay(ms(10)), 7);
        let mut order = Vec::new();
        for t in 0..2000u64 {
            if t % 5 == 0 {
                link.push(ms(t), 700, t as u32);
            }
            if t % step == 0 {
                while let Some(item) = link.pop(ms(t)) {
                    order.push(item);
                }
            }
        }
        while let Some(item) = link.pop(ms(10_000)) {
            order.push(item);
        }
        let counters = link.counters(ms(10_000));
        (order, Counters { most_queue_bytes: 0, ..counters })
    };
    assert_eq!(run(1), run(50));
}

#[test]
fn chance_follows_its_share_and_its_seed() {
    let run = |seed, impairment: Impairment| {
        let mut link = Link::new(impairment, seed);
        let fates: Vec<_> = (0..20_000u32).map(|i| link.push(ms(u64::from(i)), 100, i)).collect();
        while link.pop(ms(100_000)).is_some() {}
        (fates, link.counters(ms(100_000)))
    };
    let impairment = Impairment::default().with_loss(0.02).with_duplication(0.05);
    let (fates, counters) = run(1, impairment.clone());
    assert_eq!(run(1, impairment.clone()).0, fates);
    assert_ne!(run(2, impairment).0, fates);
    assert!((300..500).contains(&counters.lost), "{counters:?}");
    assert!((850..1150).contains(&counters.duplicated), "{counters:?}");
    assert_eq!(counters.packets_out, counters.packets_in - counters.lost + counters.duplicated);
    // Mean length of a burst 10, one in 500 packets begins one: about 2 % in all, in runs.
    let bursts = Bursts { begin: 0.002, end: 0.1, loss: 1.0 };
    let (fates, counters) = run(1, Impairment::default().with_bursts(bursts));
    let runs = fates.chunk_by(|a, b| a == b).filter(|run| run[0] == Verdict::Lost).count() as f64;
    let mean = counters.lost as f64 / runs;
    assert!((200..700).contains(&counters.lost) && (6.0..15.0).contains(&mean), "{counters:?} {mean}");
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let order = |impairment| {
        let mut link = Link::new(impairment, 3);
        for i in 0..500u32 {
            link.push(ms(u64::from(i)), 100, i);
        }
        arrivals(&mut link, ms(10_000))
    };
    let jittered = order(Impairment::default().with_delay(ms(20)).with_jitter(ms(50)));
    assert!(jittered.is_sorted_by_key(|(item, _)| *item));
    let spread = jittered
        .iter()
        .map(|(item, at)| at - f64::from(*item))
        .fold((f64::MAX, 0.0f64), |(least, most), x| (least.min(x), most.max(x)));
    assert!(spread.0 >= 20.0 && spread.1 <= 70.0 && spread.1 - spread.0 > 20.0, "{spread:?}");
    let reordered = order(Impairment::default().with_reordering(0.1, ms(8)));
    let overtaken = reordered.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
    assert!((20..80).contains(&overtaken), "{overtaken}");
}

#[test]
fn the_series_shows_rate_queue_and_loss() {
    let mut link = Link::new(Impairment::rate(800_000, 1_000_000), 1);
    for t in 0..1000 {
        // 1.6 Mbit/s into 0.8.
        link.push(ms(t), 200, 0);
    }
    let series = link.series(ms(1000));
    assert_eq!(series.len(), 10);
    assert!(series.iter().all(|s| (s.bits_out_per_second() - 800_000.0).abs() < 20_000.0), "{series:?}");
    assert!(series.is_sorted_by_key(|s| s.queue_bytes));
    let last = series[9];
    assert!((95_000..105_000).contains(&last.queue_bytes) && last.bytes_in == 20_000, "{last:?}");
    assert!((ms(430)..ms(510)).contains(&last.queue_delay), "{last:?}");
    // What happens between two looks is there, also when nothing does.
    assert_eq!(link.series(ms(5000)).len(), 50);
}
