//! Sound from a guest's voice to a real sound server: frequency, level, silence, and what a sound server can do to us.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: a panic is its message")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test: what was measured is shown beside its name")]

mod player;

use anyhow::{Context as _, Result, ensure};
use loco_media::sound::{SoundEncoder, SoundPacket, packet_ring};
use loco_tests::ears::{Kind, Recorder, SINK, SoundServer, record};
use loco_tests::recording::{Recording, dbfs};
use loco_tests::wait::wait_for;
use player::{Answer, Player};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const TONE_HZ: f64 = 997.0;
const TONE_DBFS: f64 = -12.0;
const SOON: Duration = Duration::from_secs(30);

/// Waits until a sink plays the tone.
async fn heard(server: &SoundServer, sink: &str) -> Result<()> {
    wait_for("the tone", SOON, async || {
        let recording = record(server, sink, 0.2).await?;
        ensure!(!recording.is_silent(-20.0), "peak {} dB", recording.peak_dbfs());
        Ok(())
    })
    .await
}

fn is_the_tone(recording: &Recording, level_dbfs: f64) -> Result<()> {
    let frequency = recording.frequency_hz().context("silence")?;
    ensure!((frequency - TONE_HZ).abs() < 2.0, "{frequency} Hz");
    for channel in 0..2 {
        let level = recording.tone_dbfs(channel, frequency);
        ensure!((level - level_dbfs).abs() < 0.3, "{level} dB instead of {level_dbfs}");
    }
    Ok(())
}

/// A server of that kind; `None`, said aloud, where PipeWire is not installed: on some systems it excludes PulseAudio.
async fn server(kind: Kind) -> Result<Option<SoundServer>> {
    let has = |program: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file())
    };
    let is_there = match kind {
        Kind::PulseAudio => true,
        Kind::PipeWire => ["pipewire", "wireplumber", "pipewire-pulse", "dbus-daemon"].iter().all(|name| has(name)),
    };
    if !is_there {
        eprintln!("not tested: PipeWire is not installed");
        return Ok(None);
    }
    SoundServer::start_kind(kind).await.map(Some)
}

/// Whether something holds in one of a few tries: a busy machine may disturb a recording, but not all of them.
async fn in_one_of_three(what: &str, mut check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..3 {
        last = check().await;
        match &last {
            Ok(()) => break,
            Err(error) => eprintln!("{what}: {error:#}"),
        }
    }
    last
}

async fn tone_and_mute(kind: Kind) -> Result<()> {
    let Some(server) = server(kind).await? else { return Ok(()) };
    let mut player = Player::start(&server, 1, 0).await?;
    heard(&server, SINK).await?;
    in_one_of_three("tone and mute", async || is_as_played(&server, &mut player).await).await
}

async fn is_as_played(server: &SoundServer, player: &mut Player) -> Result<()> {
    player.order("dim false").await?;
    let mut recorder = Recorder::start(server, SINK).await?;
    recorder.take(1.0).await?;
    let before = player.order("tell now").await?.underruns;
    let recording = recorder.take(2.0).await?;
    let answer = player.order("tell now").await?;
    eprintln!(
        "{:?} Hz, {} dB, {} clicks, {} LUFS; {}",
        recording.frequency_hz(),
        recording.tone_dbfs(0, TONE_HZ),
        recording.clicks(TONE_HZ),
        answer.loudness,
        answer.stats
    );
    is_the_tone(&recording, TONE_DBFS)?;
    ensure!((answer.peak_dbfs - TONE_DBFS).abs() < 0.3, "meter {}", answer.peak_dbfs);
    // A stereo sine near 1 kHz is as loud in LUFS as its peak in dB (EBU Tech 3341).
    ensure!((answer.loudness - TONE_DBFS).abs() < 0.4, "{} LUFS", answer.loudness);

    // What lies between is recorded too: no click when muting, none when coming back.
    player.order("mute true").await?;
    let fading = recorder.take(0.5).await?;
    let silence = recorder.take(1.0).await?;
    ensure!(silence.is_silent(-100.0), "{} dB", silence.peak_dbfs());
    player.order("mute false").await?;
    let back = recorder.take(1.0).await?;
    is_the_tone(&back.part(24_000..48_000), TONE_DBFS)?;
    player.order("dim true").await?;
    let dimming = recorder.take(0.7).await?;
    is_the_tone(&recorder.take(0.5).await?, TONE_DBFS + 20.0 * 0.25f64.log10())?;
    let underruns = player.order("tell now").await?.underruns - before;
    let clicks = [&recording, &fading, &back, &dimming].map(|r| r.clicks(TONE_HZ));
    ensure!(
        clicks == [0; 4] && underruns == 0,
        "{clicks:?} clicks before, at mute, unmute and dimming; {underruns} underruns"
    );
    Ok(())
}

async fn faults(kind: Kind) -> Result<()> {
    let Some(mut server) = server(kind).await? else { return Ok(()) };
    server.kill().await?;

    // None at all: a reduced feature, not an end; meters live on.
    let mut player = Player::start(&server, 1, 0).await?;
    let answer = player.until("the meter", |a| (a.peak_dbfs - TONE_DBFS).abs() < 0.5).await?;
    assert!(answer.status.starts_with("no sound device: ") && answer.status.ends_with("; trying again"), "{answer:?}");

    server.restart().await?;
    heard(&server, SINK).await?;
    player.until("the device", |a| a.status.contains("PulseAudio") && a.trouble.is_empty()).await?;

    // Killed in the middle.
    server.kill().await?;
    player.until("the loss", |a| a.trouble.starts_with("no sound device")).await?;
    player.until("the meter", |a| (a.peak_dbfs - TONE_DBFS).abs() < 0.5).await?;
    server.restart().await?;
    heard(&server, SINK).await?;

    // Hung: no error ever comes.
    let began = Instant::now();
    server.signal(Signal::STOP)?;
    player.until("the hang", |a| a.trouble.starts_with("no sound device")).await?;
    eprintln!("{kind:?}: hang seen after {:?}", began.elapsed());
    player.until("the meter", |a| (a.peak_dbfs - TONE_DBFS).abs() < 0.5).await?;
    server.signal(Signal::CONT)?;
    heard(&server, SINK).await?;

    // The last device unplugged, and another one plugged in. PipeWire makes a stand-in for it at once.
    server.remove_sinks().await?;
    if kind == Kind::PulseAudio {
        player.until("the loss", |a| a.trouble.starts_with("no sound device")).await?;
    } else {
        player.until("the stand-in", |a| a.status.contains("Dummy")).await?;
    }
    server.add_sink("headset").await?;
    server.set_default_sink("headset").await?;
    heard(&server, "headset").await?;
    player.until("all well", |a| a.trouble.is_empty()).await?;
    Ok(())
}

async fn choice_of_devices(kind: Kind) -> Result<()> {
    let Some(server) = server(kind).await? else { return Ok(()) };
    server.add_sink("headset").await?;
    server.set_default_sink(SINK).await?;
    let mut player = Player::start(&server, 1, 0).await?;
    heard(&server, SINK).await?;
    server.set_default_sink("headset").await?;
    heard(&server, "headset").await?;

    player.order("devices list").await?;
    let both = |a: &Answer| ["pulseaudio:loco", "pulseaudio:headset"].iter().all(|id| a.devices.contains(id));
    player.until("the list", both).await?;
    // Plugged in later: the list knows by itself.
    server.add_sink("speakers").await?;
    player.until("the list", |a| a.devices.contains("pulseaudio:speakers")).await?;
    player.order("device pulseaudio:loco").await?;
    heard(&server, SINK).await?;
    assert!(record(&server, "headset", 0.3).await?.is_silent(-80.0));

    // A device that is away is stood in for by the default one, and that is said.
    server.set_default_sink("headset").await?;
    player.order("device pulseaudio:nowhere").await?;
    player.until("the stand-in", |a| a.trouble.contains("no device pulseaudio:nowhere: playing on")).await?;
    heard(&server, "headset").await?;
    server.add_sink("nowhere").await?;
    heard(&server, "nowhere").await?;
    player.until("all well", |a| a.trouble.is_empty()).await?;
    player.order("device default").await?;
    server.set_default_sink("headset").await?;
    heard(&server, "headset").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulseaudio_records_the_tone_as_it_was_played_and_mute_is_silence() -> Result<()> {
    tone_and_mute(Kind::PulseAudio).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipewire_records_the_tone_as_it_was_played_and_mute_is_silence() -> Result<()> {
    tone_and_mute(Kind::PipeWire).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_comes_back_whatever_pulseaudio_does() -> Result<()> {
    faults(Kind::PulseAudio).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_comes_back_whatever_pipewire_does() -> Result<()> {
    faults(Kind::PipeWire).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulseaudios_default_is_followed_and_a_chosen_device_is_kept() -> Result<()> {
    choice_of_devices(Kind::PulseAudio).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipewires_default_is_followed_and_a_chosen_device_is_kept() -> Result<()> {
    choice_of_devices(Kind::PipeWire).await
}

/// Without any sound server ALSA plays. There is no card here, so what ALSA calls its default device is its part that
/// hands on to PulseAudio, at an address that only its configuration has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alsa_plays_where_there_is_no_sound_server() -> Result<()> {
    let server = SoundServer::start().await?;
    let address = server.environment().into_iter().find(|(name, _)| name == "PULSE_SERVER").context("no address")?.1;
    let folder = tempfile::tempdir()?;
    let configuration = folder.path().join("asound.conf");
    let device = format!("{{ type pulse server \"{address}\" device {SINK} }}");
    let text = format!("</usr/share/alsa/alsa.conf>\npcm.!default {device}\nctl.!default {device}\n");
    std::fs::write(&configuration, text)?;
    let configuration = configuration.to_str().context("the path is no text")?;
    let elsewhere = [("ALSA_CONFIG_PATH", configuration), ("PULSE_SERVER", "unix:/nowhere/native")];
    let mut player = Player::start_in(&server, 1, 0, &elsewhere).await?;
    player.until("ALSA", |answer| answer.status.contains("ALSA") && answer.trouble.is_empty()).await?;
    heard(&server, SINK).await?;
    in_one_of_three("a tone by ALSA", async || {
        let mut recorder = Recorder::start(&server, SINK).await?;
        recorder.take(1.0).await?;
        let recording = recorder.take(2.0).await?;
        let answer = player.order("tell now").await?;
        eprintln!("{:?} Hz, {}", recording.frequency_hz(), answer.stats);
        // Two sound systems one after the other: on a busy machine the second one's clicks are not ours.
        is_the_tone(&recording, TONE_DBFS)
    })
    .await
}

/// In virtual time: what the sound device would get, exactly.
#[test]
fn two_percent_of_packets_lost_are_not_heard_in_a_tone() -> Result<()> {
    let (mut writer, mut reader) = packet_ring()?;
    let (sender, sent) = std::sync::mpsc::channel();
    let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
        let _ = sender.send((p.timestamp, p.marker, p.payload.to_vec()));
    })?;
    let amplitude = 32768.0 * 10f64.powf(TONE_DBFS / 20.0);
    let (mut frame, mut random, mut sequence) = (0u32, 0x9e37_79b9_7f4a_7c15_u64, 0u16);
    let mut heard = Vec::new();
    for callback in 0u32..3000 {
        // Pieces of 1024 frames and callbacks of 480, as between QEMU 7.2 and PulseAudio.
        while frame < (callback + 1) * 480 {
            let piece: Vec<i16> = (frame..frame + 1024)
                .flat_map(|n| {
                    let phase = (f64::from(n) * TONE_HZ / 48_000.0).fract();
                    [(amplitude * (std::f64::consts::TAU * phase).sin()) as i16; 2]
                })
                .collect();
            encoder.push(1, &piece);
            frame += 1024;
        }
        for (timestamp, marker, payload) in sent.try_iter() {
            sequence = sequence.wrapping_add(1);
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if (random >> 16) % 1000 >= 20 {
                writer.push(sequence, timestamp, marker, &payload)?;
            }
        }
        let mut block = [0f32; 960];
        reader.fill(&mut block);
        heard.extend(block.iter().flat_map(|sample| sample.to_le_bytes()));
    }
    let all = Recording::from_f32le(&heard);
    let recording = all.part(48_000..all.frames());
    let stats = reader.stats().read();
    let parts = (0..recording.frames() / 4800).map(|n| recording.part(n * 4800..(n + 1) * 4800));
    // By power: where a packet was made up the phase is another.
    let power =
        |part: &Recording| part.channels[0].iter().map(|s| f64::from(s * s)).sum::<f64>() / part.frames() as f64;
    let mut levels: Vec<f64> = parts.map(|part| dbfs((2.0 * power(&part)).sqrt())).collect();
    levels.sort_by(f64::total_cmp);
    let (least, median, most) = (levels[0], levels[levels.len() / 2], levels[levels.len() - 1]);
    let frequency = recording.frequency_hz().context("silence")?;
    let clicks = recording.clicks(TONE_HZ);
    eprintln!("{frequency:.2} Hz, {least:.2} / {median:.2} / {most:.2} dBFS, {clicks} clicks, {stats:?}");
    assert!(stats.concealed_lost > 80, "{stats:?}");
    assert_eq!((clicks, stats.underruns), (0, 0));
    // Opus fades what it makes up: the worst tenth of a second of half a minute is 2.6 dB lower.
    assert!((median - TONE_DBFS).abs() < 0.1 && least > TONE_DBFS - 3.0 && most < TONE_DBFS + 0.5);
    assert!((frequency - TONE_HZ).abs() < 1.0, "{frequency} Hz");
    Ok(())
}

/// The same, heard at a sound server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tone_over_a_lossy_way_is_recorded_without_clicks() -> Result<()> {
    let server = SoundServer::start().await?;
    let mut player = Player::start(&server, 1, 20).await?;
    heard(&server, SINK).await?;
    in_one_of_three("a lossy way", async || {
        let mut recorder = Recorder::start(&server, SINK).await?;
        recorder.take(1.0).await?;
        let before = player.order("tell now").await?;
        let recording = recorder.take(4.0).await?;
        let after = player.order("tell now").await?;
        let (clicks, underruns) = (recording.clicks(TONE_HZ), after.underruns - before.underruns);
        let concealed = after.concealed - before.concealed;
        eprintln!("{concealed} concealed, {clicks} clicks, {underruns} underruns; {}", after.stats);
        ensure!(concealed > 5 && clicks == 0 && underruns == 0, "{clicks} clicks, {underruns} underruns");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_sounds_over_lossy_ways_play_on() -> Result<()> {
    let server = SoundServer::start().await?;
    let mut player = Player::start(&server, 9, 20).await?;
    player.until("nine", |a| a.playing == 9).await?;
    heard(&server, SINK).await?;
    in_one_of_three("nine sounds", async || {
        let before = player.order("tell now").await?.underruns;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let answer = player.order("tell now").await?;
        let underruns = answer.underruns - before;
        ensure!(answer.playing == 9 && underruns == 0, "{underruns} underruns, {answer:?}");
        Ok(())
    })
    .await?;
    // One alone: the other eight, 20 dB lower and apart from it, are gone.
    player.order("solo true").await?;
    let mut recorder = Recorder::start(&server, SINK).await?;
    recorder.take(0.7).await?;
    let recording = recorder.take(1.0).await?;
    for other in 1..9 {
        let level = recording.tone_dbfs(0, TONE_HZ + 100.0 * f64::from(other));
        // Heard, it would be at -32 dB; the tone itself leaks by -62 dB into so short a look.
        assert!(level < -42.0, "tone {other} is heard at {level} dB");
    }
    let peak = recording.peak_dbfs();
    assert!((peak - TONE_DBFS).abs() < 0.5, "{peak} dB");
    Ok(())
}
