use super::*;
use QualityLevel::{Excellent, Fair, Good, Lost, Poor};

/// 30 frames a second that all come, by a good path.
fn well() -> Signs {
    Signs {
        sent: Some(30.0),
        shown: Some(30.0),
        loss: Some(0.0),
        round_trip_ms: Some(2.0),
        limits: Some(limits(Limiter::Still, 2_000_000)),
        ..Signs::default()
    }
}

fn limits(limiter: Limiter, bit_rate: u32) -> StreamLimits {
    StreamLimits { limiter, bit_rate, ceiling: 2_000_000, max_fps: 60, ..StreamLimits::default() }
}

#[test]
fn each_sign_has_its_level() {
    let table: &[(&str, Signs, QualityLevel, &str, Option<&str>)] = &[
        ("all well", well(), Excellent, "nothing lost, nothing late", None),
        ("nothing known", Signs::default(), Excellent, "nothing lost", None),
        ("still", Signs { sent: Some(0.0), shown: Some(0.0), ..well() }, Excellent, "nothing", None),
        (
            "a slow clock's second hand",
            Signs { sent: Some(1.0), shown: Some(0.0), ..well() },
            Excellent,
            "nothing",
            None,
        ),
        ("one frame of 30", Signs { shown: Some(28.5), ..well() }, Excellent, "nothing", None),
        ("a tenth missing", Signs { shown: Some(26.0), ..well() }, Good, "26 of 30 fps are shown", Some("26 fps")),
        ("half missing", Signs { shown: Some(15.0), ..well() }, Fair, "15 of 30 fps", Some("15 fps")),
        ("most missing", Signs { shown: Some(9.0), ..well() }, Poor, "9 of 30 fps", Some("9 fps")),
        ("all missing", Signs { shown: Some(0.0), ..well() }, Poor, "0 of 30 fps", Some("0 fps")),
        ("some loss, repaired", Signs { loss: Some(0.003), ..well() }, Excellent, "nothing", None),
        ("1 % lost", Signs { loss: Some(0.01), ..well() }, Good, "1.0 % of packets lost", Some("1 % lost")),
        ("5 % lost", Signs { loss: Some(0.05), ..well() }, Fair, "5.0 %", Some("5 % lost")),
        ("30 % lost", Signs { loss: Some(0.3), ..well() }, Poor, "30.0 %", Some("30 % lost")),
        ("a far agent", Signs { round_trip_ms: Some(80.0), ..well() }, Good, "round trip 80 ms", Some("80 ms")),
        ("another continent", Signs { round_trip_ms: Some(220.0), ..well() }, Fair, "220 ms", Some("220 ms")),
        ("the moon", Signs { round_trip_ms: Some(2_600.0), ..well() }, Poor, "2600 ms", Some("2600 ms")),
        ("a hitch", Signs { freezes: 1, frozen_ms: 180, ..well() }, Good, "1 freeze of 180 ms", Some("1 freeze")),
        ("a stop", Signs { freezes: 1, frozen_ms: 900, ..well() }, Fair, "1 freeze of 900 ms", Some("1 freeze")),
        ("stutter", Signs { freezes: 4, frozen_ms: 400, ..well() }, Fair, "4 freezes", Some("4 freezes")),
        ("hardly moving", Signs { freezes: 5, frozen_ms: 4_000, ..well() }, Poor, "4000 ms", Some("5 freezes")),
        ("a late frame", Signs { late_ms: Some(900), ..well() }, Excellent, "nothing", None),
        ("no frame for 2 s", Signs { late_ms: Some(2_000), ..well() }, Fair, "no new picture for 2 s", Some("frozen")),
        (
            "no frame for 4 s",
            Signs { late_ms: Some(4_000), ..well() },
            Poor,
            "4 s, though some are sent",
            Some("frozen"),
        ),
        ("no frame for 8 s", Signs { late_ms: Some(8_000), ..well() }, Lost, "8 s", Some("frozen")),
        (
            "a narrow path",
            Signs { limits: Some(limits(Limiter::Network, 1_200_000)), ..well() },
            Good,
            "limited by the network: 1.2 Mbit/s of 2.0",
            Some("1.2 Mbit/s"),
        ),
        (
            "narrower",
            Signs { limits: Some(limits(Limiter::Network, 500_000)), ..well() },
            Fair,
            "network",
            Some("0.5 Mbit/s"),
        ),
        (
            "a trickle",
            Signs { limits: Some(limits(Limiter::Network, 100_000)), ..well() },
            Poor,
            "network",
            Some("0.1 Mbit/s"),
        ),
        (
            "frames given up for the path",
            Signs { sent: Some(8.0), shown: Some(8.0), limits: Some(limits(Limiter::Network, 1_200_000)), ..well() },
            Poor,
            "network",
            Some("8 fps"),
        ),
        (
            "half the pixels",
            Signs { limits: Some(StreamLimits { halved: true, ..limits(Limiter::Network, 1_500_000) }), ..well() },
            Fair,
            "picture halved",
            Some("1.5 Mbit/s"),
        ),
        (
            "a slow encoder",
            Signs { limits: Some(limits(Limiter::Encoder, 2_000_000)), ..well() },
            Good,
            "encoder",
            Some("encoder"),
        ),
        (
            "another viewer",
            Signs { limits: Some(limits(Limiter::Viewer, 600_000)), ..well() },
            Good,
            "slower viewer",
            Some("0.6 Mbit/s"),
        ),
        (
            "as it is set",
            Signs { sent: Some(5.0), shown: Some(5.0), limits: Some(limits(Limiter::Setting, 200_000)), ..well() },
            Excellent,
            "nothing",
            None,
        ),
        (
            "the worst of several",
            Signs { loss: Some(0.01), shown: Some(9.0), round_trip_ms: Some(80.0), ..well() },
            Poor,
            "9 of 30 fps",
            Some("9 fps"),
        ),
        (
            "of two as bad the first",
            Signs { loss: Some(0.01), round_trip_ms: Some(80.0), ..well() },
            Good,
            "1.0 % of packets lost",
            Some("1 % lost"),
        ),
    ];
    for (name, signs, level, reason, short) in table {
        let quality = assess(signs);
        assert_eq!(quality.level, *level, "{name}: {quality:?}");
        assert!(quality.reason.contains(reason), "{name}: {quality:?}");
        assert_eq!(quality.short.as_deref(), *short, "{name}");
    }
}

/// One instance, looked at once a second.
struct Bench {
    gauge: Gauge,
    stats: ReceiverStats,
    at: Instant,
}

impl Bench {
    fn new() -> Self {
        let stats = ReceiverStats {
            fps_sent: Some(30.0),
            fps_decoded: Some(30.0),
            last_frame_age_ms: Some(10),
            ..ReceiverStats::default()
        };
        let mut bench = Self { gauge: Gauge::default(), stats, at: Instant::now() };
        (0..SETTLING).for_each(|_| assert_eq!(bench.live(), Some(Excellent)));
        bench
    }

    fn look(&mut self, session: &SessionState) -> bool {
        self.at += LOOK;
        self.stats.packets_received += 100;
        let (now, stats) = (self.at, &self.stats);
        self.gauge.look(Sight { now, session: Some(session), has_picture: true, stats, shown: None })
    }

    fn live(&mut self) -> Option<QualityLevel> {
        self.look(&SessionState::Connected);
        self.gauge.quality().map(|quality| quality.level)
    }
}

fn retrying(attempts: u32) -> SessionState {
    SessionState::Retrying { reason: "no path for the media was found in time".into(), attempts }
}

#[test]
fn one_bad_second_is_no_change_and_two_are() {
    let mut bench = Bench::new();
    assert_eq!(bench.live(), Some(Excellent));
    bench.stats.fps_decoded = Some(8.0);
    assert_eq!(bench.live(), Some(Excellent));
    bench.stats.fps_decoded = Some(30.0);
    assert_eq!(bench.live(), Some(Excellent));
    bench.stats.fps_decoded = Some(8.0);
    assert_eq!((bench.live(), bench.live()), (Some(Excellent), Some(Poor)));
    bench.stats.fps_decoded = Some(30.0);
    assert_eq!((bench.live(), bench.live()), (Some(Poor), Some(Excellent)));
}

#[test]
fn a_lost_one_is_lost_at_once_and_back_at_once() {
    let mut bench = Bench::new();
    bench.live();
    assert!(bench.look(&retrying(1)), "a change");
    assert_eq!(bench.gauge.quality().map(|q| q.level), Some(Lost));
    assert!(!bench.look(&retrying(1)), "the same again");
    assert_eq!(bench.live(), Some(Excellent));
}

#[test]
fn loss_is_of_the_last_seconds() {
    let mut bench = Bench::new();
    bench.live();
    bench.stats.packets_lost += 60;
    bench.live();
    assert_eq!(bench.live(), Some(Poor), "60 of some 400");
    for _ in 0..=KEPT {
        bench.live();
    }
    assert_eq!(bench.live(), Some(Excellent), "it is long ago");
}

#[test]
fn a_session_that_begins_is_not_judged_by_its_first_seconds() {
    let mut bench = Bench::new();
    bench.stats.sessions += 1;
    (bench.stats.fps_decoded, bench.stats.freezes, bench.stats.frozen_ms) = (Some(3.0), 2, 900);
    for _ in 0..SETTLING {
        assert_eq!(bench.live(), Some(Excellent));
    }
    bench.stats.fps_decoded = Some(30.0);
    assert_eq!((bench.live(), bench.live(), bench.live()), (Some(Excellent), Some(Excellent), Some(Excellent)));
}

#[test]
fn without_a_picture_there_is_no_level() {
    let (mut gauge, now, stats) = (Gauge::default(), Instant::now(), ReceiverStats::default());
    let session = Some(&SessionState::Connecting);
    assert!(!gauge.look(Sight { now, session, has_picture: false, stats: &stats, shown: None }));
    assert_eq!(gauge.quality(), None);
}

#[test]
fn faults_of_this_end() {
    let mut bench = Bench::new();
    bench.live();
    assert_eq!(bench.gauge.fault(), None);
    // Nobody answers: not ours.
    for attempts in 1..9 {
        bench.look(&retrying(attempts));
    }
    assert_eq!(bench.gauge.fault(), None);
    // The agent accepts, and the media do not come.
    for attempts in 1..4 {
        bench.stats.sessions_accepted += 1;
        bench.look(&retrying(attempts));
    }
    assert!(bench.gauge.fault().is_some_and(|fault| fault.contains("again and again: no path")));
    bench.live();
    assert_eq!(bench.gauge.fault(), None, "it stands again");
    bench.look(&SessionState::Failed { reason: "no decoder".into() });
    assert_eq!(bench.gauge.fault(), Some("no decoder"));
    bench.live();
    bench.stats.frames_refused += 3;
    bench.live();
    assert!(bench.gauge.fault().is_some_and(|fault| fault.contains("refused 3 frames")));
}
