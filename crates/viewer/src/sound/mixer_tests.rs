use super::*;
use loco_media::sound::{PacketWriter, SoundEncoder, SoundPacket, packet_ring};
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
}

impl Guest {
    fn new(frequency_hz: f64) -> (Self, Reader) {
        let (to, sent) = mpsc::channel();
        let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
            let _ = to.send((p.timestamp, p.marker, p.payload.to_vec()));
        });
        let (writer, reader) = packet_ring().unwrap();
        (Self { encoder: encoder.unwrap(), sent, writer, sequence: 0, frame: 0, frequency_hz }, reader)
    }

    fn play(&mut self, frames: usize) {
        let piece: Vec<i16> = (self.frame..self.frame + frames)
            .flat_map(|n| {
                let sine = (std::f64::consts::TAU * (n as f64 * self.frequency_hz / 48_000.0).fract()).sin();
                [(0.25 * 32768.0 * sine) as i16; 2]
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
}

impl Wall {
    fn new(frequencies: &[f64]) -> Self {
        let board = Arc::new(Board::default());
        let wakes = Arc::new(AtomicU32::new(0));
        let counting = wakes.clone();
        let (waker, _thread) = Waker::start(Arc::new(move || {
            counting.fetch_add(1, Relaxed);
        }));
        let (mut desk, mixer) = mixer(board.clone(), Arc::new(waker));
        let mut guests = Vec::new();
        for (index, &frequency) in frequencies.iter().enumerate() {
            let (guest, reader) = Guest::new(frequency);
            assert!(desk.commands.push(Command { id: id(index), reader: Some(reader) }).is_ok());
            guests.push(guest);
        }
        Self { board, desk, mixer, guests, wakes }
    }

    /// Plays in callbacks of 10 ms; the left channel.
    fn play(&mut self, secs: f64) -> Vec<f32> {
        let mut left = Vec::new();
        let mut out = [0.0; 960];
        for _ in 0..(secs * 100.0).round() as usize {
            for guest in &mut self.guests {
                guest.play(480);
            }
            self.mixer.fill(&mut out);
            left.extend(out.iter().step_by(2));
        }
        left
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
fn louder_than_full_scale_is_cut_and_shown() {
    let mut wall = Wall::new(&[440.0; 9]);
    let heard = wall.play(0.5);
    assert!(heard.iter().all(|s| s.abs() <= 1.0));
    assert!(wall.board.master.meter.read(wall.board.now_us()).clipped);
    assert!(!wall.meter(0).clipped);
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
