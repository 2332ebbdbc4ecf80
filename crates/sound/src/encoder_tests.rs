use super::*;
use std::sync::mpsc;

struct Sent {
    timestamp: u32,
    marker: bool,
    length: usize,
}

fn encoder() -> (SoundEncoder, mpsc::Receiver<Sent>) {
    let (to, from) = mpsc::channel();
    let link = move |packet: SoundPacket<'_>| {
        let _ = to.send(Sent { timestamp: packet.timestamp, marker: packet.marker, length: packet.payload.len() });
    };
    (SoundEncoder::new(link).unwrap(), from)
}

/// `frames` of a 1 kHz tone from frame `from` on.
fn tone(from: usize, frames: usize, amplitude: f32) -> Vec<i16> {
    (from..from + frames)
        .flat_map(|n| [(amplitude * 32767.0 * (std::f32::consts::TAU * (n % 48) as f32 / 48.0).sin()) as i16; 2])
        .collect()
}

#[test]
fn silence_sends_nothing() {
    let (encoder, sent) = encoder();
    let t0 = Instant::now();
    encoder.open(1);
    for n in 0..100 {
        encoder.push_at(1, &[0; 2048], t0 + Duration::from_micros(21_333 * n));
    }
    assert_eq!(sent.try_iter().count(), 0);
    let stats = encoder.stats_at(t0 + Duration::from_secs(2));
    assert_eq!((stats.packets, stats.voices, stats.peak_dbfs), (0, 1, None));
    assert!(stats.silent_pieces > 420, "{stats:?}");
}

#[test]
fn a_constant_offset_is_silent_too() {
    let (encoder, sent) = encoder();
    encoder.push(1, &[-256; 2048 * 20]);
    let sizes: Vec<_> = sent.try_iter().map(|s| s.length).collect();
    assert_eq!(sizes.len(), 6, "the step, its tail of 4 and the end: {sizes:?}");
}

#[test]
fn a_stretch_has_marker_tail_and_end_and_its_time_goes_on_through_silence() {
    let (encoder, sent) = encoder();
    let t0 = Instant::now();
    encoder.push_at(1, &tone(0, 2400, 0.5), t0);
    encoder.push_at(1, &[0; 9600 * 2], t0 + Duration::from_millis(250));
    encoder.push_at(1, &tone(0, 480, 0.5), t0 + Duration::from_millis(260));
    let all: Vec<_> = sent.try_iter().collect();
    let marked: Vec<_> = all.iter().enumerate().filter(|(_, s)| s.marker).map(|(n, _)| n).collect();
    // 50 ms of tone; the step to zero; 4 silent packets; the end
    assert_eq!(marked, [0, 16]);
    assert_eq!(all[15].length, 1);
    assert!(all[..15].iter().all(|s| s.length > 2));
    for pair in all[..16].windows(2) {
        assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), 240);
    }
    assert_eq!(all[16].timestamp.wrapping_sub(all[0].timestamp), 2400 + 9600);
    let stats = encoder.stats_at(t0 + Duration::from_millis(270));
    assert_eq!(stats.stretches, 2);
    assert!((stats.peak_dbfs.unwrap() + 6.02).abs() < 0.01, "{stats:?}");
}

#[test]
fn a_stopped_voice_is_flushed_and_ended_and_a_later_start_is_later_in_time() {
    let (encoder, sent) = encoder();
    encoder.open(7);
    let t0 = Instant::now();
    encoder.push_at(7, &tone(0, 1000, 0.5), t0);
    assert_eq!(sent.try_iter().count(), 4, "40 frames wait for a whole piece");
    encoder.enable(7, false);
    let rest: Vec<_> = sent.try_iter().collect();
    assert_eq!(rest.iter().map(|s| s.length > 1).collect::<Vec<_>>(), [true, false], "the rest, padded, and the end");
    encoder.enable(7, true);
    encoder.push_at(7, &tone(0, 480, 0.5), t0 + Duration::from_millis(500));
    let next = sent.try_recv().unwrap();
    assert!(next.marker);
    let gap = next.timestamp.wrapping_sub(rest[1].timestamp);
    assert!((21_000..24_000).contains(&gap), "{gap} frames");
}

#[test]
fn a_host_that_stalls_and_catches_up_makes_no_gap() {
    let (encoder, sent) = encoder();
    let t0 = Instant::now();
    encoder.push_at(1, &tone(0, 1024, 0.5), t0);
    for n in 1..13 {
        encoder.push_at(1, &tone(n * 1024, 1024, 0.5), t0 + Duration::from_millis(270));
    }
    let all: Vec<_> = sent.try_iter().collect();
    assert!(all.len() > 50);
    assert!(all.windows(2).all(|p| p[1].timestamp.wrapping_sub(p[0].timestamp) == 240 && !p[1].marker));
    assert_eq!(encoder.stats_at(t0).underruns, 1, "who listens heard it, and it is counted");
}

#[test]
fn voices_are_added_and_cut_at_full_scale() {
    let (encoder, sent) = encoder();
    let t0 = Instant::now();
    encoder.open(1);
    encoder.enable(1, true);
    encoder.open(2);
    encoder.enable(2, true);
    encoder.push_at(1, &tone(0, 480, 0.8), t0);
    assert_eq!(sent.try_iter().count(), 0, "the other voice is waited for");
    encoder.push_at(2, &tone(0, 480, 0.8), t0);
    assert_eq!(sent.try_iter().count(), 2);
    let stats = encoder.stats_at(t0);
    assert!(stats.saturated > 100, "{stats:?}");
    assert!(stats.peak_dbfs.unwrap() > -0.01);
}

#[test]
fn what_a_stopped_voice_has_left_is_mixed_at_its_end_and_not_kept_for_its_next_start() {
    let (encoder, sent) = encoder();
    let t0 = Instant::now();
    for voice in [1, 2] {
        encoder.enable(voice, true);
    }
    encoder.push_at(1, &[8000; 2 * 100], t0);
    encoder.enable(1, false);
    encoder.push_at(2, &[0; 480], t0);
    assert_eq!(sent.try_iter().count(), 1);
    assert!((encoder.stats_at(t0).peak_dbfs.unwrap() + 12.25).abs() < 0.01, "{:?}", encoder.stats_at(t0));
    assert!(encoder.state.lock().voices.iter().all(|voice| voice.queue.is_empty()));
}

#[test]
fn a_voice_that_stalls_does_not_hold_up_the_other() {
    let (encoder, sent) = encoder();
    let t0 = Instant::now();
    encoder.push_at(1, &tone(0, 240, 0.5), t0);
    encoder.push_at(2, &tone(0, 240, 0.5), t0);
    sent.try_iter().count();
    encoder.push_at(2, &tone(0, 1024, 0.5), t0 + Duration::from_millis(21));
    assert_eq!(sent.try_iter().count(), 0);
    encoder.push_at(2, &tone(0, 1024, 0.5), t0 + Duration::from_millis(42));
    assert_eq!(sent.try_iter().count(), 2, "two of QEMU's pieces ahead: it goes on alone");
    encoder.push_at(2, &tone(0, 1024, 0.5), t0 + Duration::from_millis(150));
    assert!(sent.try_iter().count() > 10);
}

#[test]
fn too_many_voices_and_odd_samples_are_refused_quietly() {
    let (encoder, _sent) = encoder();
    for voice in 0..40 {
        encoder.push(voice, &[1, 2, 3]);
    }
    let stats = encoder.stats();
    assert_eq!(stats.voices, 16);
    assert_eq!(stats.dropped, 24 * 2);
    for voice in 0..40 {
        encoder.close(voice);
    }
    assert_eq!(encoder.stats().voices, 0);
}

#[test]
fn without_listeners_only_the_level_is_measured() {
    struct NoOne;
    impl SoundLink for NoOne {
        fn send(&mut self, _: SoundPacket<'_>) {
            panic!("no one listens");
        }
        fn has_listeners(&self) -> bool {
            false
        }
    }
    let encoder = SoundEncoder::new(NoOne).unwrap();
    encoder.push(1, &tone(0, 4800, 0.25));
    assert!((encoder.stats().peak_dbfs.unwrap() + 12.04).abs() < 0.01);
}
