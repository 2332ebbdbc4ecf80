use super::super::place;
use super::*;
use crate::{PacketWriter, SoundEncoder, SoundPacket, packet_ring};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;

/// A guest that plays a tone, as far as the reader.
struct Guest {
    encoder: SoundEncoder,
    sent: mpsc::Receiver<(u32, bool, Vec<u8>)>,
    writer: PacketWriter,
    sequence: u16,
    frame: usize,
    frequency_hz: f64,
    amplitude: f64,
}

impl Guest {
    fn new(frequency_hz: f64) -> (Self, Reader) {
        let (to, sent) = mpsc::channel();
        let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
            let _ = to.send((p.timestamp, p.marker, p.payload.to_vec()));
        });
        let (writer, reader) = packet_ring().unwrap();
        (Self { encoder: encoder.unwrap(), sent, writer, sequence: 0, frame: 0, frequency_hz, amplitude: 0.25 }, reader)
    }

    fn play(&mut self, frames: usize) {
        let piece: Vec<i16> = (self.frame..self.frame + frames)
            .flat_map(|n| {
                let sine = (std::f64::consts::TAU * (n as f64 * self.frequency_hz / 48_000.0).fract()).sin();
                [(self.amplitude * 32768.0 * sine) as i16; 2]
            })
            .collect();
        self.frame += frames;
        self.encoder.push(1, &piece);
        for (timestamp, marker, payload) in self.sent.try_iter() {
            self.sequence = self.sequence.wrapping_add(1);
            self.writer.push(self.sequence, timestamp, marker, &payload).unwrap();
        }
    }
}

struct Wall {
    board: Arc<Board>,
    desk: Desk,
    mixer: Mixer,
    guests: Vec<Guest>,
    wakes: Arc<AtomicU32>,
    /// Virtual time of the callbacks.
    now_us: u64,
}

impl Wall {
    fn new(frequencies: &[f64]) -> Self {
        let board = Arc::new(Board::default());
        let wakes = Arc::new(AtomicU32::new(0));
        let counting = wakes.clone();
        let (waker, _thread) = Waker::start(Arc::new(move || {
            counting.fetch_add(1, Relaxed);
        }));
        let (mut desk, mixer) = mixer(board.clone(), Arc::new(waker)).unwrap();
        let mut guests = Vec::new();
        for (index, &frequency) in frequencies.iter().enumerate() {
            let (guest, reader) = Guest::new(frequency);
            assert!(desk.commands.push(Command { id: id(index), reader: Some(reader) }).is_ok());
            guests.push(guest);
        }
        Self { board, desk, mixer, guests, wakes, now_us: 1_000_000 }
    }

    /// Plays in callbacks of 10 ms; the left channel.
    fn play(&mut self, secs: f64) -> Vec<f32> {
        let [left, _right] = self.play_both(secs);
        left
    }

    fn play_both(&mut self, secs: f64) -> [Vec<f32>; 2] {
        let mut heard = [Vec::new(), Vec::new()];
        let mut out = [0.0; 960];
        for _ in 0..(secs * 100.0).round() as usize {
            for guest in &mut self.guests {
                guest.play(480);
            }
            self.mixer.fill(&mut out, Moment { began_us: self.now_us, latency_us: Some(10_000) }, 0);
            self.now_us += 10_000;
            for (channel, heard) in heard.iter_mut().enumerate() {
                heard.extend(out[channel..].iter().step_by(2));
            }
        }
        heard
    }

    fn meter(&self, index: usize) -> Reading {
        self.board.strips[index].meter.read(self.board.now_us())
    }
}

fn id(index: usize) -> InstanceId {
    InstanceId::try_new(index).unwrap()
}

/// Amplitude of a tone by correlation over whole periods of 1 Hz multiples.
fn amplitude(samples: &[f32], frequency_hz: f64) -> f64 {
    let (mut s, mut c) = (0.0, 0.0);
    for (n, &x) in samples.iter().enumerate() {
        let (sin, cos) = (std::f64::consts::TAU * frequency_hz * n as f64 / 48_000.0).sin_cos();
        s += f64::from(x) * sin;
        c += f64::from(x) * cos;
    }
    2.0 * s.hypot(c) / samples.len() as f64
}

#[track_caller]
fn near_db(amplitude: f64, want: f64) {
    let off = 20.0 * (amplitude / want).log10();
    // Opus itself changes a tone's level by up to 0.2 dB.
    assert!(off.abs() < 0.25, "{off} dB off {want}");
}

fn roughest(samples: &[f32]) -> f32 {
    samples.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
}

#[test]
fn mixes_with_faders_mute_solo_and_master() {
    let mut wall = Wall::new(&[440.0, 1000.0, 3000.0]);
    wall.board.strips[1].fader.set_position(0.5);
    wall.board.strips[2].fader.set_mute(true);
    wall.play(0.5);
    let heard = wall.play(1.0);
    near_db(amplitude(&heard, 440.0), 0.25);
    near_db(amplitude(&heard, 1000.0), 0.25 / 8.0);
    assert!(amplitude(&heard, 3000.0) < 1e-4);

    wall.board.strips[1].fader.set_solo(true);
    wall.board.master.fader.set_position(0.5);
    wall.play(0.2);
    let heard = wall.play(1.0);
    near_db(amplitude(&heard, 1000.0), 0.25 / 64.0);
    assert!(amplitude(&heard, 440.0) < 1e-4);

    wall.board.master.fader.set_mute(true);
    wall.play(0.2);
    assert!(wall.play(0.2).iter().all(|s| *s == 0.0));
}

#[test]
fn mute_and_volume_change_without_clicks() {
    let mut wall = Wall::new(&[440.0]);
    wall.play(0.5);
    let mut heard = wall.play(0.1);
    for (muted, position) in [(true, 1.0), (false, 1.0), (false, 0.3), (false, 0.9), (true, 0.1)] {
        wall.board.strips[0].fader.set_mute(muted);
        wall.board.strips[0].fader.set_position(position);
        heard.extend(wall.play(0.1));
    }
    // The tone's own is 0.0008; a step in the middle of it would be up to 0.25.
    assert!(roughest(&heard) < 0.005, "{}", roughest(&heard));
    assert!(heard[heard.len() - 1920..].iter().all(|s| *s == 0.0));
}

#[test]
fn meters_are_after_gain_and_mute_and_the_input_peak_before() {
    let mut wall = Wall::new(&[440.0, 1000.0]);
    wall.board.strips[0].fader.set_position(0.5);
    wall.board.strips[1].fader.set_mute(true);
    wall.play(3.0);
    let (first, second) = (wall.meter(0), wall.meter(1));
    let near = |is: f32, want: f32| assert!((is - want).abs() < 0.25, "{is} dB, wanted {want}");
    near(first.peak_dbfs[0], -12.04 - 18.06);
    near(first.magnitude_dbfs[1], -12.04 - 18.06 - 3.01);
    near(first.input_peak_dbfs, -12.04);
    assert_eq!(second.peak_dbfs, [f32::NEG_INFINITY; 2]);
    near(second.input_peak_dbfs, -12.04);
    near(wall.board.master.meter.read(wall.board.now_us()).peak_dbfs[0], -12.04 - 18.06);
    assert_eq!(wall.meter(2), Reading::SILENT, "no sound attached");
}

#[test]
fn solo_fades_within_50_ms_and_back() {
    let mut wall = Wall::new(&[440.0, 1000.0]);
    wall.play(0.5);
    wall.board.strips[1].fader.set_solo(true);
    let mut heard = wall.play(0.05);
    let after = wall.play(0.5);
    assert!(amplitude(&after[..19_200], 440.0) < 1e-4, "gone after 50 ms");
    near_db(amplitude(&after[..19_200], 1000.0), 0.25);
    heard.extend(after);
    wall.board.strips[1].fader.set_solo(false);
    heard.extend(wall.play(0.05));
    let back = wall.play(0.4);
    near_db(amplitude(&back, 440.0), 0.25);
    // The tones' own is 0.005.
    assert!(roughest(&heard) < 0.01, "{}", roughest(&heard));
    // Halfway through a fade the gain is a half.
    wall.board.strips[0].fader.set_solo(true);
    let fading = wall.play(0.05);
    let middle = amplitude(&fading[960..1440], 1000.0);
    assert!((middle - 0.125).abs() < 0.02, "{middle}");
}

#[test]
fn the_others_are_dimmed_but_not_what_is_solo() {
    let mut wall = Wall::new(&[440.0, 1000.0]);
    wall.board.strips[1].fader.set_dimmed(true);
    wall.play(0.5);
    near_db(amplitude(&wall.play(1.0), 1000.0), 0.25);
    wall.board.set_dim(0.35);
    wall.play(0.2);
    let heard = wall.play(1.0);
    near_db(amplitude(&heard, 440.0), 0.25);
    near_db(amplitude(&heard, 1000.0), 0.25 * 0.35);
    wall.board.strips[1].fader.set_solo(true);
    wall.play(0.2);
    near_db(amplitude(&wall.play(1.0), 1000.0), 0.25);
    for (set, is) in [(f32::NAN, 1.0), (-1.0, 0.0), (7.0, 1.0)] {
        wall.board.set_dim(set);
        assert_eq!(wall.board.dim(), is);
    }
}

#[test]
fn a_side_moves_sound_there_with_the_same_power() {
    let mut wall = Wall::new(&[440.0]);
    wall.play(0.5);
    let middle = wall.play_both(0.5).map(|channel| amplitude(&channel, 440.0));
    for side in [-0.7f32, 0.3, 1.0] {
        wall.board.strips[0].fader.set_side(side);
        wall.play(0.2);
        let heard = wall.play_both(0.5).map(|channel| amplitude(&channel, 440.0));
        for ((heard, middle), gain) in heard.into_iter().zip(middle).zip(place::gains(side)) {
            let want = middle * f64::from(gain);
            assert!((heard - want).abs() < want * 0.0116 + 1e-4, "{heard} for {want} at {side}: a tenth of a dB");
        }
    }
}

#[test]
fn loudness_is_measured_after_the_gain() {
    let mut wall = Wall::new(&[1000.0, 1000.0]);
    wall.board.strips[0].fader.set_position(0.5);
    wall.board.strips[1].fader.set_mute(true);
    wall.play(2.0);
    let now_us = wall.board.now_us();
    let lufs = [&wall.board.strips[0], &wall.board.strips[1], &wall.board.master].map(|s| s.meter.loudness(now_us));
    let want = -12.04 - 18.06;
    assert!((lufs[0] - want).abs() < 0.3 && lufs[1] == f32::NEG_INFINITY && (lufs[2] - want).abs() < 0.3, "{lufs:?}");
}

#[test]
fn all_meters_fall_as_chosen() {
    for decay in [Decay::Slow, Decay::Medium, Decay::Fast] {
        let mut wall = Wall::new(&[440.0]);
        wall.board.set_decay(decay);
        wall.play(0.5);
        let before = wall.meter(0).peak_dbfs[0];
        wall.board.strips[0].fader.set_mute(true);
        wall.play(0.05);
        let faded = wall.meter(0).peak_dbfs[0];
        wall.play(1.0);
        let fell = faded - wall.meter(0).peak_dbfs[0];
        assert!(faded > before - 2.0 && (fell - decay.db_per_sec()).abs() < 0.1, "{decay:?}: {fell} dB in a second");
    }
}

#[test]
fn a_click_is_told_with_its_callback() {
    let mut wall = Wall::new(&[440.0]);
    wall.board.strips[0].heard.wanted.store(true, Relaxed);
    wall.guests[0].amplitude = 0.003;
    wall.play(1.0);
    assert_eq!(wall.board.strips[0].heard.read(), None);
    wall.guests[0].amplitude = 0.5;
    let from_us = wall.now_us;
    let heard = wall.play(0.2);
    let at = heard.iter().position(|s| s.abs() >= 0.25).unwrap() as u64;
    let click = wall.board.strips[0].heard.read().unwrap();
    assert_eq!((click.count, click.latency_us), (1, Some(10_000)));
    assert_eq!(click.handed_us, from_us + at / 480 * 10_000);
    assert!(click.offset_us.abs_diff(at % 480 * 1000 / 48) < 30, "{click:?}, heard at {at}");
}

#[test]
fn rests_when_all_is_silent_and_not_before() {
    let mut wall = Wall::new(&[440.0]);
    wall.play(0.5);
    assert!(!wall.mixer.is_idle());
    wall.guests[0].encoder.close(1);
    let guests = std::mem::take(&mut wall.guests);
    assert!(!wall.mixer.is_idle(), "meters have to fall");
    wall.play(4.0);
    assert!(wall.mixer.is_idle());
    wall.mixer.pass(48_000 * 60);
    assert_eq!(wall.mixer.channels[0].output.meter.reading(), Reading::SILENT, "no data: nothing is held");
    wall.guests = guests;
    wall.guests[0].play(4800);
    assert!(!wall.mixer.is_idle(), "packets wait");
    // The pause was long enough for the sound to begin as soon as anything does.
    let heard = wall.play(0.5);
    let first = heard.iter().position(|s| s.abs() > 0.01).unwrap();
    assert!(first < 2400, "began after {first} frames");
}

#[test]
fn louder_than_full_scale_is_cut_and_shown() {
    let mut wall = Wall::new(&[440.0; 9]);
    let heard = wall.play(0.5);
    assert!(heard.iter().all(|s| s.abs() <= 1.0));
    assert!(wall.board.master.meter.read(wall.board.now_us()).clipped);
    assert!(!wall.meter(0).clipped);
}

#[test]
fn what_two_learnt_by_a_stall_all_keep_in_store_and_what_one_did_alone_none_else() {
    let mut wall = Wall::new(&[440.0, 1000.0, 3000.0]);
    wall.play(0.5);
    let kept = |wall: &Wall| {
        [0, 1, 2].map(|n| wall.mixer.channels[n].reader.as_ref().unwrap().stats().read().spare_ms.round() as u32)
    };
    let quiet = kept(&wall);
    assert_eq!(quiet, [6; 3]);
    for stalled in 0..2 {
        let late = wall.guests.remove(stalled);
        wall.play(0.06);
        wall.guests.insert(stalled, late);
        wall.play(0.5);
        let spare = kept(&wall);
        assert!(spare[0] > 20, "the one that was late: {spare:?}");
        if stalled == 0 {
            assert_eq!(spare[1..], quiet[1..], "one way may be bad by itself");
        } else {
            assert!(spare[1] > 20 && spare[2] > 20, "all: {spare:?}");
        }
    }
}

#[test]
fn a_replaced_or_detached_reader_is_given_back() {
    let mut wall = Wall::new(&[440.0]);
    wall.play(0.2);
    let (_guest, reader) = Guest::new(1000.0);
    assert!(wall.desk.commands.push(Command { id: id(0), reader: Some(reader) }).is_ok());
    assert!(wall.desk.commands.push(Command { id: id(0), reader: None }).is_ok());
    assert!(wall.play(0.1).iter().all(|s| *s == 0.0));
    assert!(wall.desk.retired.pop().is_ok());
    assert!(wall.desk.retired.pop().is_ok());
    assert!(wall.desk.retired.pop().is_err());
}

#[test]
fn a_source_that_takes_anothers_place_begins_without_its_levels() {
    let mut wall = Wall::new(&[440.0]);
    wall.play(0.5);
    assert!(wall.meter(0).hold_dbfs[0] > -20.0);
    let (_guest, reader) = Guest::new(1000.0);
    assert!(wall.desk.commands.push(Command { id: id(0), reader: Some(reader) }).is_ok());
    wall.play(0.05);
    let held = wall.meter(0).hold_dbfs[0];
    assert!(held <= FLOOR_DBFS, "{held} dBFS of another source are held");
    assert_eq!(wall.board.strips[0].meter.loudness(wall.board.now_us()), f32::NEG_INFINITY);
}

#[test]
fn the_window_is_woken_for_what_moves_and_left_alone_otherwise() {
    let mut wall = Wall::new(&[440.0]);
    wall.play(0.5);
    // A steady tone: the meter has settled.
    wall.play(3.0);
    let drawn = wall.mixer.channels[0].output.drawn;
    wall.play(1.0);
    assert_eq!(wall.mixer.channels[0].output.drawn, drawn);
    wall.board.strips[0].fader.set_mute(true);
    wall.play(0.1);
    assert_ne!(wall.mixer.channels[0].output.drawn, drawn);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while wall.wakes.load(Relaxed) == 0 {
        assert!(std::time::Instant::now() < deadline, "never woken");
        std::thread::yield_now();
    }
}
