//! The whole way of sound on virtual time: guest's clock -> encoder -> network -> ring -> reader -> device's clock.

use super::*;
use crate::{PacketWriter, ReaderStats, SoundEncoder, SoundPacket, packet_ring};
use std::sync::mpsc;

/// A small deterministic generator (xorshift64), 0..1.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Clone)]
struct Sent {
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// A guest's voice and its encoder.
struct Agent {
    encoder: SoundEncoder,
    sent: mpsc::Receiver<Sent>,
    frame: usize,
}

const TONE_HZ: f64 = 997.0;

impl Agent {
    fn new() -> Self {
        let (to, sent) = mpsc::channel();
        let mut sequence = 65_500u16; // wraps soon
        let encoder = SoundEncoder::new(move |packet: SoundPacket<'_>| {
            sequence = sequence.wrapping_add(1);
            let SoundPacket { timestamp, marker, payload } = packet;
            let _ = to.send(Sent { sequence, timestamp, marker, payload: payload.to_vec() });
        });
        Self { encoder: encoder.unwrap(), sent, frame: 0 }
    }

    fn tone(&mut self, frames: usize) -> Vec<Sent> {
        let piece: Vec<i16> = (self.frame..self.frame + frames)
            .flat_map(|n| {
                let sine = (std::f64::consts::TAU * (n as f64 * TONE_HZ / 48_000.0).fract()).sin();
                [(0.25 * 32768.0 * sine) as i16; 2]
            })
            .collect();
        self.push(&piece)
    }

    fn silence(&mut self, frames: usize) -> Vec<Sent> {
        self.push(&vec![0; frames * 2])
    }

    fn push(&mut self, piece: &[i16]) -> Vec<Sent> {
        self.frame += piece.len() / 2;
        self.encoder.push(1, piece);
        self.sent.try_iter().collect()
    }
}

fn give(writer: &mut PacketWriter, packets: &[Sent]) {
    for p in packets {
        writer.push(p.sequence, p.timestamp, p.marker, &p.payload).unwrap();
    }
}

/// Plays `secs` in callbacks of 10 ms; the left channel.
fn play(reader: &mut Reader, secs: f64) -> Vec<f32> {
    let mut out = vec![0.0; 960];
    let mut left = Vec::new();
    for _ in 0..(secs * 100.0).round() as usize {
        reader.fill(&mut out);
        left.extend(out.iter().step_by(2));
    }
    left
}

/// Least-squares level (amplitude) of the tone and the rest's RMS.
fn fit(samples: &[f32], frequency_hz: f64) -> (f64, f64) {
    let (mut sin2, mut cos2, mut sincos, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let wave = |n: usize| (std::f64::consts::TAU * frequency_hz * n as f64 / 48_000.0).sin_cos();
    for (n, &x) in samples.iter().enumerate() {
        let (s, c) = wave(n);
        sin2 += s * s;
        cos2 += c * c;
        sincos += s * c;
        xs += f64::from(x) * s;
        xc += f64::from(x) * c;
    }
    let det = sin2 * cos2 - sincos * sincos;
    let (a, b) = ((xs * cos2 - xc * sincos) / det, (xc * sin2 - xs * sincos) / det);
    let rest: f64 =
        samples.iter().enumerate().map(|(n, &x)| (f64::from(x) - a * wave(n).0 - b * wave(n).1).powi(2)).sum();
    (a.hypot(b), (rest / samples.len() as f64).sqrt())
}

/// Biggest second difference: what a click has and a 997 Hz tone of amplitude 0.25 has not (0.0043).
fn roughest(samples: &[f32]) -> f32 {
    samples.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
}

#[test]
fn a_tone_arrives_with_its_level_and_without_clicks_and_ends_in_silence() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut heard = Vec::new();
    for _ in 0..100 {
        give(&mut writer, &agent.tone(480));
        heard.extend(play(&mut reader, 0.01));
    }
    let stats = reader.stats().read();
    assert!(stats.playing && stats.buffer_ms > 5.0 && stats.buffer_ms < 40.0, "{stats:?}");
    give(&mut writer, &agent.silence(4800));
    heard.extend(play(&mut reader, 0.2));
    let (level, rest) = fit(&heard[9600..38_400], TONE_HZ);
    assert!((20.0 * (level / 0.25).log10()).abs() < 0.1, "{level}");
    assert!(rest < 0.003, "{rest}");
    assert!(roughest(&heard) < 0.03, "{}", roughest(&heard));
    assert!(heard[heard.len() - 960..].iter().all(|s| *s == 0.0));
    let stats = reader.stats().read();
    let ReaderStats { underruns, concealed_late, concealed_lost, skips, stretches, playing, .. } = stats;
    assert_eq!((underruns, concealed_late, concealed_lost, skips, stretches, playing), (0, 0, 0, 0, 1, false));
    assert_eq!(stats.packets_received, 200 + 1 + 4 + 1);
}

/// 60 s with clocks that differ, QEMU's 21 ms pieces, jitter and loss.
fn chain(ppm: f64) -> (ReaderStats, f64, f64) {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut chance = Chance(7919);
    let mut on_the_way: std::collections::VecDeque<(f64, Sent)> = Default::default();
    let (mut piece_due, mut buffer_sum, mut callbacks) = (0.0, 0.0, 0.0);
    let mut losses = 0.0;
    let mut out = vec![0.0; 960];
    for n in 0..6000 {
        let now = f64::from(n) * 0.01;
        while piece_due <= now {
            let arrives = piece_due + 0.005 * chance.next() + if chance.next() < 0.01 { 0.01 } else { 0.0 };
            for packet in agent.tone(1024) {
                if chance.next() < 0.02 {
                    losses += 1.0;
                } else {
                    on_the_way.push_back((arrives, packet));
                }
            }
            piece_due += 1024.0 / 48_000.0 / (1.0 + ppm * 1e-6);
        }
        while on_the_way.front().is_some_and(|(arrives, _)| *arrives <= now) {
            give(&mut writer, &[on_the_way.pop_front().unwrap().1]);
        }
        reader.fill(&mut out);
        if n > 3000 {
            buffer_sum += reader.stats().read().buffer_ms;
            callbacks += 1.0;
        }
    }
    (reader.stats().read(), buffer_sum / callbacks, losses)
}

#[test]
fn clocks_200_ppm_apart_with_jitter_and_loss_make_no_underrun() {
    for ppm in [-200.0, 200.0] {
        let (stats, buffer_ms, losses) = chain(ppm);
        assert_eq!((stats.underruns, stats.skips), (0, 0), "{ppm} ppm: {stats:?}");
        assert!((stats.concealed_lost as f64 - losses).abs() <= 0.1 * losses + 3.0, "{losses} lost: {stats:?}");
        assert!(stats.concealed_late < 60, "{ppm} ppm: {stats:?}");
        assert!(buffer_ms < 35.0, "{ppm} ppm: {buffer_ms} ms in store");
    }
}

/// Underruns in each half minute of two minutes, where a busy host holds the guest up for `stall_secs` every ten seconds.
fn underruns_over_time(stall_secs: f64) -> Vec<u64> {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let (mut piece, mut out, mut counts) = (0u32, vec![0.0; 480], Vec::new());
    for n in 1..=24_000 {
        let now = f64::from(n) * 0.005;
        loop {
            let made = f64::from(piece) * 1024.0 / 48_000.0;
            let (stall, end) = (made % 10.0 - 5.0, made - made % 10.0 + 5.0 + stall_secs);
            if (if (0.0..stall_secs).contains(&stall) { end } else { made }) > now {
                break;
            }
            give(&mut writer, &agent.tone(1024));
            piece += 1;
        }
        reader.fill(&mut out);
        if n % 6000 == 0 {
            counts.push(reader.stats().read().underruns - counts.iter().sum::<u64>());
        }
    }
    assert_eq!(reader.stats().read().skips, 0, "{:?}", reader.stats().read());
    counts
}

#[test]
fn a_long_stall_interrupts_once() {
    let underruns = underruns_over_time(0.3);
    assert!(
        underruns.iter().all(|count| (1..=3).contains(count)),
        "one for each, nothing skipped besides: {underruns:?}"
    );
}

#[test]
fn stalls_that_come_again_are_soon_outlived() {
    assert_eq!(underruns_over_time(0.05), [0; 4], "50 ms are bridged");
    let underruns = underruns_over_time(0.09);
    assert!(underruns[0] >= 1, "90 ms are more than what is spare and made up at first: {underruns:?}");
    assert!(underruns[0] <= 2 && underruns[1..].iter().sum::<u64>() == 0, "{underruns:?}");
}

#[test]
fn a_lost_packet_is_concealed_like_the_tone_it_replaces() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut heard = Vec::new();
    for n in 0..100 {
        let mut packets = agent.tone(480);
        if n == 50 {
            packets.remove(0);
        }
        give(&mut writer, &packets);
        heard.extend(play(&mut reader, 0.01));
    }
    let stats = reader.stats().read();
    assert_eq!((stats.concealed_lost, stats.concealed_late, stats.underruns), (1, 0, 0));
    let around = &heard[48 * 480..56 * 480];
    assert!(roughest(around) < 0.03, "{}", roughest(around));
    let quietest = around.chunks(240).map(|c| c.iter().fold(0.0f32, |m, s| m.max(s.abs()))).fold(1.0, f32::min);
    assert!(quietest > 0.1, "a hole: {quietest}");
}

#[test]
fn a_late_packet_is_played_afterwards_and_the_delay_grows_by_it() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    for _ in 0..20 {
        give(&mut writer, &agent.tone(480));
        play(&mut reader, 0.01);
    }
    let before = reader.stats().read().buffer_ms;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.extend(agent.tone(480));
        play(&mut reader, 0.01);
    }
    give(&mut writer, &held);
    for _ in 0..20 {
        give(&mut writer, &agent.tone(480));
        play(&mut reader, 0.01);
    }
    let stats = reader.stats().read();
    assert!((1..=3).contains(&stats.concealed_late), "{stats:?}");
    assert_eq!((stats.concealed_lost, stats.underruns, stats.packets_stale), (0, 0, 0), "{stats:?}");
    let (grown, late_ms) = (stats.buffer_ms - before, 5.0 * stats.concealed_late as f64);
    let repeated_ms = 15.0 * stats.splices as f64;
    assert!(grown > late_ms - 1.0 && grown < late_ms + repeated_ms + 1.0, "grown by {grown} ms: {stats:?}");
}

#[test]
fn a_way_that_breaks_in_the_middle_of_sound_is_one_underrun_and_fades() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut heard = Vec::new();
    for _ in 0..50 {
        give(&mut writer, &agent.tone(480));
        heard.extend(play(&mut reader, 0.01));
    }
    heard.extend(play(&mut reader, 1.0));
    let stats = reader.stats().read();
    assert_eq!((stats.underruns, stats.concealed_late, stats.playing), (1, 8, false), "{stats:?}");
    assert!(roughest(&heard) < 0.03, "{}", roughest(&heard));
    for _ in 0..50 {
        give(&mut writer, &agent.tone(480));
        heard.extend(play(&mut reader, 0.01));
    }
    let stats = reader.stats().read();
    assert_eq!((stats.underruns, stats.stretches, stats.playing), (1, 2, true), "{stats:?}");
    assert!(roughest(&heard) < 0.03, "{}", roughest(&heard));
}

#[test]
fn an_underrun_fades_whatever_the_callbacks_length() {
    for frames in [160, 256, 333, 441] {
        let (mut writer, mut reader) = packet_ring().unwrap();
        let mut agent = Agent::new();
        let (mut heard, mut out) = (Vec::new(), vec![0.0; frames * 2]);
        give(&mut writer, &agent.tone(24_000));
        for _ in 0..48_000 / frames {
            reader.fill(&mut out);
            heard.extend(out.iter().step_by(2).copied());
        }
        assert_eq!(reader.stats().read().underruns, 1);
        assert!(roughest(&heard) < 0.03, "callbacks of {frames}: {}", roughest(&heard));
        let last = heard.iter().rposition(|sample| *sample != 0.0).unwrap();
        assert!(heard[last].abs() < 0.002, "callbacks of {frames}: it ends at {}", heard[last]);
    }
}

#[test]
fn the_end_is_known_even_when_its_packet_is_lost() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    give(&mut writer, &agent.tone(2400));
    let mut tail = agent.silence(2400);
    assert_eq!(tail.pop().unwrap().payload.len(), 1);
    give(&mut writer, &tail);
    play(&mut reader, 0.5);
    let stats = reader.stats().read();
    assert_eq!((stats.underruns, stats.concealed_late, stats.playing), (0, 0, false), "{stats:?}");
    // The next stretch begins although the end before it is missing.
    give(&mut writer, &agent.tone(2400));
    play(&mut reader, 0.02);
    let stats = reader.stats().read();
    assert_eq!((stats.playing, stats.concealed_lost, stats.stretches), (true, 0, 2), "{stats:?}");
}

#[test]
fn a_sound_shorter_than_the_start_level_is_heard_whole() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut packets = agent.tone(240);
    packets.extend(agent.silence(2400));
    give(&mut writer, &packets);
    let heard = play(&mut reader, 0.1);
    let energy: f32 = heard.iter().map(|s| s * s).sum();
    let sent = 240.0 * 0.25 * 0.25 / 2.0;
    assert!((energy / sent - 1.0).abs() < 0.2, "{energy} of {sent}");
    assert_eq!(reader.stats().read().underruns, 0);
}

#[test]
fn a_gap_between_two_stretches_is_as_long_as_it_was() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut heard = Vec::new();
    for n in 0..60 {
        let packets = if (20..30).contains(&n) { agent.silence(480) } else { agent.tone(480) };
        give(&mut writer, &packets);
        heard.extend(play(&mut reader, 0.01));
    }
    let quiet: Vec<usize> = (0..heard.len()).filter(|&n| heard[n].abs() < 1e-3).collect();
    let longest = quiet.chunk_by(|a, b| b - a < 5).filter(|run| run[0] > 9600).map(<[usize]>::len).max().unwrap_or(0);
    assert!((4300..5800).contains(&longest), "100 ms of silence became {longest} frames");
    assert_eq!(reader.stats().read().underruns, 0);
}

#[test]
fn packets_out_of_order_twice_broken_or_stale_do_no_harm() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    for n in 0..100 {
        let mut packets = agent.tone(960);
        packets.swap(1, 2);
        packets.push(packets[0].clone());
        if n == 40 {
            packets[1].payload = vec![0xff; 3];
        }
        give(&mut writer, &packets);
        play(&mut reader, 0.02);
    }
    let stats = reader.stats().read();
    assert_eq!((stats.concealed_lost, stats.underruns, stats.packets_stale), (0, 0, 100), "{stats:?}");
    assert_eq!(stats.packets_broken, 1);
}

#[test]
fn what_is_far_too_much_is_skipped() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    for _ in 0..20 {
        give(&mut writer, &agent.tone(480));
        play(&mut reader, 0.01);
    }
    give(&mut writer, &agent.tone(48 * 500));
    play(&mut reader, 0.01);
    let stats = reader.stats().read();
    assert_eq!((stats.skips, stats.underruns), (1, 0));
    assert!(stats.buffer_ms < 30.0, "{stats:?}");
    // So many that neither ring nor places hold them: bounded, and playing goes on at the newest.
    for p in (0..10).flat_map(|_| agent.tone(4800)).collect::<Vec<_>>() {
        let _ = writer.push(p.sequence, p.timestamp, p.marker, &p.payload);
    }
    for _ in 0..800 {
        play(&mut reader, 0.01);
        give(&mut writer, &agent.tone(480));
    }
    let stats = reader.stats().read();
    assert!(stats.packets_overflowed > 50 && stats.playing && stats.buffer_ms < 45.0, "{stats:?}");
}

#[test]
fn a_sound_server_that_stood_still_and_catches_up_interrupts_nothing() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut heard = Vec::new();
    for n in 0..500 {
        give(&mut writer, &agent.tone(480));
        match n {
            200..230 => {}
            230 => heard.extend(play(&mut reader, 0.31)),
            _ => heard.extend(play(&mut reader, 0.01)),
        }
    }
    let stats = reader.stats().read();
    assert_eq!((stats.skips, stats.underruns, stats.stretches), (0, 0, 1), "{stats:?}");
    assert!(roughest(&heard) < 0.03, "{}", roughest(&heard));
}

#[test]
fn what_the_sound_server_left_out_is_caught_up_with_unheard() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut agent = Agent::new();
    let mut heard = Vec::new();
    for n in 0..700 {
        give(&mut writer, &agent.tone(480));
        // 250 ms that are never asked for.
        if !(100..125).contains(&n) {
            heard.extend(play(&mut reader, 0.01));
        }
        assert!(n != 200 || reader.stats().read().buffer_ms > 200.0, "they may still be asked for");
    }
    let stats = reader.stats().read();
    assert_eq!((stats.skips, stats.underruns, stats.stretches), (0, 0, 1), "{stats:?}");
    assert!(stats.splices > 10 && stats.buffer_ms < 40.0, "five seconds later: {stats:?}");
    assert!(roughest(&heard) < 0.03, "{}", roughest(&heard));
    for block in heard[24_000..].chunks_exact(960) {
        let level = (block.iter().map(|sample| sample * sample).sum::<f32>() / 480.0).sqrt();
        assert!((level / 0.25 - 1.0).abs() < 0.15, "a hole or a bump: {level}");
    }
}

#[test]
fn a_new_session_has_numbers_of_its_own() {
    let (mut writer, mut reader) = packet_ring().unwrap();
    for _ in 0..3 {
        let mut agent = Agent::new();
        writer.new_session();
        for _ in 0..30 {
            give(&mut writer, &agent.tone(480));
            play(&mut reader, 0.01);
        }
    }
    let stats = reader.stats().read();
    assert_eq!((stats.stretches, stats.packets_stale, stats.concealed_lost), (3, 0, 0), "{stats:?}");
}

#[test]
fn payloads_of_a_wrong_length_are_refused() {
    let (mut writer, _reader) = packet_ring().unwrap();
    assert!(writer.push(1, 0, false, &[]).is_err());
    assert!(writer.push(1, 0, false, &[0; 513]).is_err());
    assert!(writer.push(1, 0, false, &[0; 512]).is_ok());
    assert_eq!(writer.stats().read().packets_refused, 2);
}
