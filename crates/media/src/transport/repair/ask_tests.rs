use super::*;

const MS: Duration = Duration::from_millis(1);

struct Bed {
    asker: Asker,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        Self { asker: Asker::new(), now: Instant::now() }
    }

    fn packet(&mut self, sequence: u16, timestamp: u32) -> Arrival {
        self.asker.packet(sequence, timestamp, true, self.now)
    }

    /// One that does not end its frame.
    fn begin(&mut self, sequence: u16, timestamp: u32) -> Arrival {
        self.asker.packet(sequence, timestamp, false, self.now)
    }

    fn repaired(&mut self, sequence: u16) {
        assert!(self.asker.repaired(sequence, 0, true, self.now));
    }

    /// Lets time pass, and returns when what was asked for.
    fn pass(&mut self, ms: u32) -> Vec<(u128, Vec<u16>)> {
        let (start, end) = (self.now, self.now + MS * ms);
        let mut all = Vec::new();
        while let Some(due) = self.asker.next().filter(|due| *due <= end) {
            self.now = due;
            let asked = self.asker.due(Some(MS * 20), due).to_vec();
            if !asked.is_empty() {
                all.push(((due - start).as_millis(), asked));
            }
        }
        self.now = end;
        all
    }
}

#[test]
fn an_intact_stream_asks_nothing_and_has_no_timer() {
    let mut bed = Bed::new();
    for i in 0..1_000u16 {
        assert_eq!(bed.packet(65_000u16.wrapping_add(i), u32::from(i)), Arrival::Newer);
        assert_eq!(bed.asker.next(), None);
    }
    assert_eq!(bed.packet(463, 0), Arrival::Useless, "a duplicate");
}

#[test]
fn a_gap_is_asked_for_at_once_in_pairs_and_not_for_ever() {
    let mut bed = Bed::new();
    bed.packet(65_535, 1);
    bed.packet(1, 1);
    let asked = bed.pass(1_000);
    assert!(asked.iter().all(|(_, asked)| asked == &[0]));
    let at: Vec<u128> = asked.iter().map(|(at, _)| *at).collect();
    assert_eq!(at[..4], [3, 11, 35, 43], "in pairs, a round trip apart");
    assert!(at.len() <= usize::from(MOST_ASKINGS) && at.iter().all(|at| *at < 400), "{at:?}");
    assert_eq!(bed.asker.next(), None, "a still stream has no timer");
    assert_eq!(bed.packet(0, 1), Arrival::Useless, "too late");
}

#[test]
fn a_repaired_packet_is_not_asked_for_again() {
    let mut bed = Bed::new();
    bed.packet(1, 1);
    bed.packet(4, 1);
    assert_eq!(bed.pass(5), [(3, vec![2, 3])]);
    assert_eq!(bed.packet(2, 1), Arrival::Asked);
    assert_eq!(bed.pass(10), [(6, vec![3])]);
    bed.repaired(3);
    assert_eq!(bed.asker.next(), None);
}

#[test]
fn an_overtaken_packet_is_not_asked_for() {
    let mut bed = Bed::new();
    bed.packet(1, 1);
    bed.packet(3, 1);
    bed.now += MS * 2;
    assert_eq!(bed.packet(2, 1), Arrival::Overtaken);
    assert!(bed.pass(500).is_empty());
    // Three later ones are enough to know.
    bed.packet(5, 1);
    bed.packet(6, 1);
    bed.packet(7, 1);
    assert_eq!(bed.pass(0), [(0, vec![4])]);
}

#[test]
fn parity_is_waited_for() {
    let mut bed = Bed::new();
    bed.packet(1, 1);
    bed.asker.parity(bed.now);
    // Repaired in time: nothing is asked.
    bed.packet(3, 2);
    bed.packet(6, 2);
    bed.pass(10);
    for sequence in [2, 4, 5] {
        bed.repaired(sequence);
    }
    bed.asker.parity(bed.now);
    assert!(bed.pass(100).is_empty());
    // Parity came and did not help.
    bed.packet(8, 3);
    assert!(bed.pass(5).is_empty());
    bed.asker.parity(bed.now);
    assert_eq!(bed.pass(0), [(0, vec![7])]);
    bed.repaired(7);
    // Parity was lost: the next frame shows it, or time.
    bed.packet(10, 4);
    bed.now += MS * 2;
    bed.packet(11, 5);
    assert_eq!(bed.pass(3), [(3, vec![9])]);
    bed.repaired(9);
    bed.packet(13, 6);
    assert_eq!(bed.pass(25)[0], (6, vec![12]), "it follows the frame's last packet at once");
    bed.repaired(12);
    // A path so slow that packets of one frame are 10 ms apart is given time.
    bed.begin(14, 7);
    bed.pass(10);
    bed.begin(15, 7);
    bed.pass(10);
    bed.packet(17, 7);
    assert_eq!(bed.pass(25)[0], (25, vec![16]));
    bed.repaired(16);
    // No parity any more: at once.
    bed.now += PARITY_MEMORY;
    bed.packet(19, 8);
    assert_eq!(bed.pass(3), [(3, vec![18])]);
}

#[test]
fn the_last_packet_of_a_frame_is_missed_before_the_next_frame() {
    let mut bed = Bed::new();
    bed.packet(1, 1);
    bed.begin(2, 2);
    assert_eq!(bed.pass(20), [(6, vec![3]), (14, vec![3])], "once in a pair: it may not be sent yet");
    assert_eq!(bed.packet(3, 2), Arrival::Asked);
    assert_eq!(bed.asker.next(), None, "the frame is whole");
    // The next frame shows that it is lost, and the asking was in vain.
    bed.begin(4, 3);
    assert_eq!(bed.pass(300).len(), 2);
    bed.begin(6, 4);
    let asked = bed.pass(40);
    assert!(asked.contains(&(6, vec![7])) && asked.iter().any(|(at, what)| *at > 15 && what == &[5]), "{asked:?}");
    assert_eq!((bed.packet(5, 3), bed.packet(7, 4)), (Arrival::Asked, Arrival::Asked));
    // It came by itself, sooner than an answer can.
    bed.begin(8, 5);
    bed.pass(8);
    assert_eq!(bed.packet(9, 5), Arrival::Newer);
    assert_eq!(bed.asker.next(), None);
    // Two of them, and the parity, which cannot help but shows it.
    bed.begin(10, 6);
    bed.asker.parity(bed.now);
    assert_eq!(bed.pass(0), [(0, vec![11])]);
}

#[test]
fn one_that_was_held_up_itself_reads_first() {
    let mut bed = Bed::new();
    bed.begin(1, 1);
    bed.now += MS * 20;
    assert!(bed.asker.due(None, bed.now).is_empty());
    assert_eq!(bed.packet(2, 1), Arrival::Newer);
    assert_eq!(bed.asker.next(), None);
}

#[test]
fn a_flood_of_gaps_is_bounded() {
    let mut bed = Bed::new();
    let (mut asked, mut sequence) = (0, 0u16);
    for _ in 0..1_000 {
        sequence = sequence.wrapping_add(50);
        bed.packet(sequence, 1);
        asked += bed.pass(1).iter().map(|(_, asked)| asked.len()).sum::<usize>();
        assert!(bed.asker.missing.len() <= MOST_MISSING);
    }
    assert!(asked as f64 <= ASKINGS_AT_ONCE + ASKINGS_PER_SECOND, "{asked} askings in a second");
    bed.packet(sequence.wrapping_add(5_000), 1);
    assert_eq!(bed.asker.next(), None, "a new stream owes nothing");
}

#[test]
fn a_short_round_trip_is_learned() {
    let mut bed = Bed::new();
    bed.asker.packet(0, 1, true, bed.now);
    for i in 1..50u16 {
        bed.packet(i * 2, 1);
        bed.pass(5);
        assert_eq!(bed.packet(i * 2 - 1, 1), Arrival::Asked);
    }
    assert!(bed.asker.round_trip.is_some_and(|time| time <= MS * 3), "{:?}", bed.asker.round_trip);
}
