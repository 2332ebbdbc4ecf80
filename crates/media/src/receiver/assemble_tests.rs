//! What the assembler makes of packets in any order.

use super::*;

fn packet(sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> InboundRtp {
    let payload = Bytes::copy_from_slice(payload);
    InboundRtp { sequence, timestamp, marker, bytes: 12 + payload.len(), repair: None, payload }
}

const KEY: [u8; 3] = [0x67, 1, 2];
const IDR: [u8; 3] = [0x65, 1, 2];
const DELTA: [u8; 3] = [0x41, 3, 4];

struct Bed {
    assembler: Assembler,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        Self { assembler: Assembler::new(), now: Instant::now() }
    }

    fn push(&mut self, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) {
        self.assembler.push(packet(sequence, timestamp, marker, payload), self.now);
    }

    fn push_repaired(&mut self, sequence: u16, timestamp: u32, marker: bool, repair: Repair) {
        let packet = InboundRtp { repair: Some(repair), ..packet(sequence, timestamp, marker, &DELTA) };
        self.assembler.push(packet, self.now);
    }

    fn timestamps(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.assembler.pop(self.now)).map(|frame| frame.timestamp).collect()
    }
}

#[test]
fn an_intact_stream_passes_at_once_across_the_wrap() {
    let mut bed = Bed::new();
    bed.push(65_534, 0, true, &KEY);
    assert_eq!(bed.timestamps(), [0]);
    for i in 1..5u16 {
        bed.push(65_534u16.wrapping_add(i), u32::from(i), true, &DELTA);
        assert_eq!(bed.timestamps(), [u32::from(i)]);
    }
    assert_eq!(bed.assembler.counts(), Counts { received: 5, expected: 5, dropped: 0, skipped: 0, seen: 5 });
    assert_eq!(bed.assembler.deadline(), None);
    assert!(!bed.assembler.needs_key());
}

#[test]
fn units_are_put_together() {
    let mut bed = Bed::new();
    bed.push(1, 7, false, &[0x78, 0, 2, 0x67, 9, 0, 1, 0x68]); // SPS and PPS
    bed.push(2, 7, false, &[0x7c, 0x85, 1]); // IDR in three parts
    bed.push(4, 7, true, &[0x7c, 0x45, 3]);
    assert!(bed.timestamps().is_empty());
    bed.push(3, 7, false, &[0x7c, 0x05, 2]);
    let frame = bed.assembler.pop(bed.now).expect("whole");
    assert_eq!(frame.bytes, [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 1, 2, 3]);
}

#[test]
fn a_gap_waits_for_its_repair() {
    let mut bed = Bed::new();
    bed.push(1, 1, true, &KEY);
    bed.push(3, 3, true, &DELTA);
    assert_eq!(bed.timestamps(), [1]);
    let deadline = bed.assembler.deadline().expect("it waits");
    bed.now = deadline - Duration::from_millis(1);
    assert!(bed.timestamps().is_empty());
    bed.push(2, 2, true, &DELTA);
    assert_eq!(bed.timestamps(), [2, 3]);
    assert!(!bed.assembler.needs_key());
    bed.push(2, 2, true, &DELTA); // once more
    assert!(bed.timestamps().is_empty());
    assert_eq!(bed.assembler.counts().received, 3);
}

#[test]
fn after_the_deadline_only_a_key_frame_helps() {
    let mut bed = Bed::new();
    bed.push(1, 1, true, &KEY);
    bed.push(3, 3, true, &DELTA);
    assert_eq!(bed.timestamps(), [1]);
    bed.now = bed.assembler.deadline().expect("it waits");
    assert!(bed.timestamps().is_empty());
    assert!(bed.assembler.needs_key());
    bed.push(4, 4, true, &DELTA);
    assert!(bed.timestamps().is_empty());
    bed.push(5, 5, true, &KEY);
    bed.push(6, 6, true, &DELTA);
    assert_eq!(bed.timestamps(), [5, 6]);
    assert_eq!(bed.assembler.counts().dropped, 1);
}

#[test]
fn a_frame_without_its_end_is_given_up_too() {
    let mut bed = Bed::new();
    bed.push(1, 1, true, &KEY);
    bed.push(2, 2, false, &DELTA);
    assert_eq!(bed.timestamps(), [1]);
    bed.now = bed.assembler.deadline().expect("the last packet may be lost for good");
    assert!(bed.timestamps().is_empty());
    assert!(bed.assembler.needs_key());
}

#[test]
fn a_frame_that_a_slow_path_brings_in_order_is_not_given_up() {
    let mut bed = Bed::new();
    for i in 0..20u16 {
        bed.push(i, 7, i == 19, if i == 0 { &KEY } else { &IDR });
        assert_eq!(bed.timestamps().len(), usize::from(i == 19), "packet {i}");
        assert!(bed.assembler.deadline().is_none_or(|at| at == bed.now + DEADLINE));
        bed.now += Duration::from_millis(100);
    }
    // A packet that is lost in the middle of it waits no longer than any other.
    bed.push(20, 8, false, &DELTA);
    assert!(bed.timestamps().is_empty());
    bed.now += Duration::from_millis(300);
    bed.push(22, 8, false, &DELTA);
    assert!(bed.timestamps().is_empty());
    let deadline = bed.now + DEADLINE;
    for i in 23..26 {
        bed.now += Duration::from_millis(90);
        bed.push(i, 8, false, &DELTA);
        assert!(bed.timestamps().is_empty());
        assert_eq!(bed.assembler.deadline(), Some(deadline));
    }
}

#[test]
fn a_key_frame_that_begins_behind_a_gap_survives_the_gap() {
    let mut bed = Bed::new();
    bed.push(1, 1, true, &KEY);
    assert_eq!(bed.timestamps(), [1]);
    bed.push(3, 3, false, &KEY);
    assert!(bed.timestamps().is_empty());
    bed.now = bed.assembler.deadline().expect("it waits");
    bed.push(4, 3, false, &IDR);
    assert!(bed.timestamps().is_empty(), "the frame before it is given up");
    assert!(!bed.assembler.needs_key(), "no other key frame is to be asked for");
    bed.push(5, 3, true, &IDR);
    assert_eq!(bed.timestamps(), [3]);
    let counts = bed.assembler.counts();
    assert_eq!((counts.dropped, counts.skipped, counts.seen), (1, 0, 3));
}

#[test]
fn each_frame_tells_its_fate_and_its_wait() {
    let mut bed = Bed::new();
    bed.push(1, 1, true, &KEY);
    bed.push(2, 2, false, &DELTA);
    bed.push(4, 2, true, &DELTA);
    bed.now += Duration::from_millis(7);
    bed.push_repaired(3, 2, false, Repair::Rebuilt);
    bed.push(6, 4, true, &DELTA);
    bed.push(8, 5, true, &DELTA);
    bed.now += Duration::from_millis(30);
    bed.push_repaired(5, 3, true, Repair::Resent);
    bed.push_repaired(7, 5, false, Repair::Rebuilt);
    let fates: Vec<_> = std::iter::from_fn(|| bed.assembler.pop(bed.now))
        .map(|frame| (frame.timestamp, frame.fate, frame.waited.as_millis()))
        .collect();
    let want = [
        (1, Fate::Intact, 0),
        (2, Fate::Rebuilt, 7),
        (3, Fate::Resent, 30),
        (4, Fate::Intact, 0),
        (5, Fate::Rebuilt, 30),
    ];
    assert_eq!(fates, want);
}

#[test]
fn a_whole_key_frame_behind_a_gap_ends_the_wait() {
    let mut bed = Bed::new();
    bed.push(1, 1, true, &KEY);
    assert_eq!(bed.timestamps(), [1]);
    bed.push(3, 3, true, &DELTA);
    bed.push(5, 5, false, &KEY);
    assert!(bed.timestamps().is_empty(), "the key frame is not whole yet");
    bed.push(6, 5, true, &DELTA);
    bed.push(7, 7, true, &DELTA);
    assert_eq!(bed.timestamps(), [5, 7]);
    let counts = bed.assembler.counts();
    assert_eq!((counts.skipped, counts.dropped, counts.seen), (1, 0, 4));
    assert!(!bed.assembler.needs_key());
}

#[test]
fn a_key_frame_without_parameter_sets_is_no_beginning() {
    let mut bed = Bed::new();
    bed.push(2, 1, false, &IDR);
    bed.push(3, 1, true, &IDR);
    assert!(bed.timestamps().is_empty() && bed.assembler.needs_key());
    bed.push(1, 1, false, &KEY);
    assert_eq!(bed.timestamps(), [1], "the repaired beginning makes it one");
}

#[test]
fn the_lost_beginning_of_a_key_frame_may_be_repaired() {
    let mut bed = Bed::new();
    bed.push(1, 1, true, &KEY);
    bed.push(3, 3, true, &DELTA);
    assert_eq!(bed.timestamps(), [1]);
    bed.now = bed.assembler.deadline().expect("it waits");
    assert!(bed.timestamps().is_empty() && bed.assembler.needs_key());
    bed.push(5, 5, false, &DELTA);
    bed.push(6, 5, true, &DELTA);
    assert!(bed.timestamps().is_empty());
    bed.now += Duration::from_millis(100);
    bed.push(4, 5, false, &KEY);
    assert_eq!(bed.timestamps(), [5]);
}

#[test]
fn order_and_repetition_do_not_matter() {
    // Every frame of three packets in a different order, some packets twice.
    let mut bed = Bed::new();
    for frame in 0..1_000u16 {
        let kind = if frame == 0 { &KEY } else { &DELTA };
        for i in 0..4u16 {
            let part = (i * (1 + frame % 2) + frame) % 3;
            bed.push(frame * 3 + part, u32::from(frame), part == 2, kind);
            bed.push(frame * 3 + part, u32::from(frame), part == 2, kind);
        }
        let missing = (0..3).filter(|part| !(0..4).any(|i| (i * (1 + frame % 2) + frame) % 3 == *part));
        missing.for_each(|part| bed.push(frame * 3 + part, u32::from(frame), part == 2, kind));
        assert_eq!(bed.timestamps(), [u32::from(frame)]);
    }
    let counts = bed.assembler.counts();
    assert_eq!((counts.received, counts.expected, counts.dropped, counts.skipped), (3_000, 3_000, 0, 0));
}

#[test]
fn junk_does_no_harm() {
    let mut bed = Bed::new();
    for (i, payload) in [&[][..], &[0x78], &[0x78, 0], &[0x78, 255, 255, 0x67], &[0x7c], &[0x7c, 0x85], &[30, 0], &[0]]
        .into_iter()
        .enumerate()
    {
        bed.push(i as u16 * 2, i as u32, true, payload);
        bed.now += DEADLINE;
        bed.timestamps();
    }
    for sequence in 0..10_000u16 {
        bed.push(sequence.wrapping_mul(7_919), u32::from(sequence), sequence % 3 == 0, &KEY);
        bed.timestamps();
    }
    assert!(bed.assembler.packets.len() <= MAX_PACKETS);
}
