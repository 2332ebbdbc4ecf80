//! Sound from a guest's voice to a real sound server: frequency, level, silence, and what a sound server can do to us.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: a panic is its message")]

use anyhow::{Context as _, Result, ensure};
use loco_media::sound::{SoundEncoder, SoundPacket, packet_ring};
use loco_model::InstanceId;
use loco_process::{DeathSignal, Spawner};
use loco_tests::pulse::{PulseServer, SINK};
use loco_tests::recording::Recording;
use loco_tests::wait::wait_for;
use loco_viewer::sound::{Output, SoundConfig, SoundSystem};
use rustix::process::Signal;
use std::io::BufRead as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Set in the process that plays: this test program itself, since the sound server's address is in the environment.
const PLAYER: &str = "LOCO_TEST_PLAYER";
const TONE_HZ: f64 = 997.0;
const TONE_DBFS: f64 = -12.0;
const SOON: Duration = Duration::from_secs(30);

// === the process that plays ===

/// Plays a tone as a guest would, and does what its stdin says. In an ordinary run this is no test.
#[test]
fn player() {
    if std::env::var_os(PLAYER).is_none() {
        return;
    }
    let (mut writer, reader) = packet_ring().unwrap();
    let mut sequence = 0u16;
    let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
        sequence = sequence.wrapping_add(1);
        let _ = writer.push(sequence, p.timestamp, p.marker, p.payload);
    })
    .unwrap();
    std::thread::spawn(move || {
        let amplitude = 32768.0 * 10f64.powf(TONE_DBFS / 20.0);
        let began = Instant::now();
        for piece in 0u32.. {
            let samples: Vec<i16> = (piece * 1024..(piece + 1) * 1024)
                .flat_map(|n| {
                    let phase = (f64::from(n) * TONE_HZ / 48_000.0).fract();
                    [(amplitude * (std::f64::consts::TAU * phase).sin()) as i16; 2]
                })
                .collect();
            encoder.push(1, &samples);
            let due = Duration::from_secs_f64(f64::from(piece + 1) * 1024.0 / 48_000.0);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    });
    let system = SoundSystem::start(SoundConfig { output: Output::Default, wake: Arc::new(|| {}) }).unwrap();
    let id = InstanceId::try_new(0).unwrap();
    system.attach(id, reader);
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().split_once(' ').unwrap() {
            ("mute", yes) => system.set_mute(id, yes == "true"),
            ("device", "default") => system.set_device(Output::Default),
            ("device", name) => system.set_device(Output::Device(name.into())),
            ("devices", _) => system.watch_devices(true),
            ("tell", _) => {}
            other => panic!("{other:?}"),
        }
        let levels = system.levels(id).unwrap();
        println!("\nstatus {}", system.status().line);
        println!("trouble {}", system.status().trouble().unwrap_or_default());
        println!("peak {}", levels.peak_dbfs[0]);
        println!("underruns {}", system.reader_stats(id).unwrap().underruns);
        let devices: Vec<_> = system.devices().into_iter().map(|d| d.id).collect();
        println!("stats {:?} {:?}", system.status(), system.reader_stats(id).unwrap());
        println!("devices {}", devices.join(","));
    }
}

struct Player {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

#[derive(Debug, Default)]
struct Answer {
    status: String,
    trouble: String,
    peak_dbfs: f64,
    underruns: u64,
    stats: String,
    devices: String,
}

impl Player {
    async fn start(environment: Vec<(String, String)>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["player", "--exact", "--nocapture"]).envs(environment).env(PLAYER, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = Spawner::shared()?.spawn(command, DeathSignal::Kill).await?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Self { _child: child, orders, answers })
    }

    async fn order(&mut self, order: &str) -> Result<Answer> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        let mut answer = Answer::default();
        loop {
            let line = self.answers.next_line().await?.context("the player has ended")?;
            match line.split_once(' ') {
                Some(("status", rest)) => answer.status = rest.into(),
                Some(("trouble", rest)) => answer.trouble = rest.into(),
                Some(("peak", rest)) => answer.peak_dbfs = rest.parse()?,
                Some(("underruns", rest)) => answer.underruns = rest.parse()?,
                Some(("stats", rest)) => answer.stats = rest.into(),
                Some(("devices", rest)) => {
                    answer.devices = rest.into();
                    return Ok(answer);
                }
                _ => {}
            }
        }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Answer) -> bool) -> Result<Answer> {
        wait_for(what, SOON, async || {
            let answer = self.order("tell now").await?;
            ensure!(holds(&answer), "{answer:?}");
            Ok(answer)
        })
        .await
    }
}

/// Waits until a sink plays the tone.
async fn heard(server: &PulseServer, sink: &str) -> Result<()> {
    wait_for("the tone", SOON, async || {
        let recording = server.record_sink(sink, 0.2).await?;
        ensure!(!recording.is_silent(-20.0), "peak {} dB", recording.peak_dbfs());
        Ok(())
    })
    .await
}

#[track_caller]
fn is_the_tone(recording: &Recording) {
    let frequency = recording.frequency_hz().expect("silence");
    assert!((frequency - TONE_HZ).abs() < 2.0, "{frequency} Hz");
    for channel in 0..2 {
        let level = recording.tone_dbfs(channel, frequency);
        assert!((level - TONE_DBFS).abs() < 0.3, "{level} dB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tone_is_recorded_as_it_was_played_and_mute_is_silence() -> Result<()> {
    let server = PulseServer::start().await?;
    let mut player = Player::start(server.environment()).await?;
    heard(&server, SINK).await?;
    let mut recorder = server.recorder(SINK).await?;
    let recording = recorder.take(2.0).await?;
    let answer = player.order("tell now").await?;
    eprintln!(
        "{:?} Hz, {} dB, {} clicks; {}",
        recording.frequency_hz(),
        recording.tone_dbfs(0, TONE_HZ),
        recording.clicks(TONE_HZ),
        answer.stats
    );
    is_the_tone(&recording);
    assert!((answer.peak_dbfs - TONE_DBFS).abs() < 0.3, "meter {}", answer.peak_dbfs);

    // What lies between is recorded too: no click when muting, none when coming back.
    player.order("mute true").await?;
    let fading = recorder.take(0.5).await?;
    let silence = recorder.take(1.0).await?;
    assert!(silence.is_silent(-100.0), "{} dB", silence.peak_dbfs());
    player.order("mute false").await?;
    let back = recorder.take(1.0).await?;
    is_the_tone(&back.part(24_000..48_000));
    let underruns = player.order("tell now").await?.underruns;
    let clicks = [&recording, &fading, &back].map(|r| r.clicks(TONE_HZ));
    assert_eq!((clicks, underruns), ([0; 3], 0), "clicks before, at mute, at unmute; underruns");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_comes_back_whatever_the_sound_server_does() -> Result<()> {
    let mut server = PulseServer::start().await?;
    let environment = server.environment();
    server.kill().await?;

    // None at all: a reduced feature, not an end; meters live on.
    let mut player = Player::start(environment).await?;
    let answer = player.until("the meter", |a| (a.peak_dbfs - TONE_DBFS).abs() < 0.5).await?;
    assert!(answer.status.starts_with("no sound device: ") && answer.status.ends_with("; trying again"), "{answer:?}");

    server.restart().await?;
    heard(&server, SINK).await?;
    player.until("the device", |a| a.status.contains("PulseAudio")).await?;

    // Killed in the middle.
    server.kill().await?;
    player.until("the loss", |a| a.status.starts_with("no sound device")).await?;
    player.until("the meter", |a| (a.peak_dbfs - TONE_DBFS).abs() < 0.5).await?;
    server.restart().await?;
    heard(&server, SINK).await?;

    // Hung: no error ever comes.
    server.signal(Signal::STOP)?;
    player.until("the hang", |a| a.status.starts_with("no sound device")).await?;
    player.until("the meter", |a| (a.peak_dbfs - TONE_DBFS).abs() < 0.5).await?;
    server.signal(Signal::CONT)?;
    heard(&server, SINK).await?;

    // The last device unplugged, and another one plugged in.
    server.remove_sinks().await?;
    player.until("the loss", |a| a.status.starts_with("no sound device")).await?;
    server.add_sink("headset").await?;
    heard(&server, "headset").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_device_is_followed_and_a_chosen_one_is_kept() -> Result<()> {
    let server = PulseServer::start().await?;
    server.add_sink("headset").await?;
    server.set_default_sink(SINK).await?;
    let mut player = Player::start(server.environment()).await?;
    heard(&server, SINK).await?;
    server.set_default_sink("headset").await?;
    heard(&server, "headset").await?;

    player.order("devices list").await?;
    let answer = player.until("the list", |a| !a.devices.is_empty()).await?;
    assert_eq!(answer.devices, "pulseaudio:loco,pulseaudio:headset");
    player.order("device pulseaudio:loco").await?;
    heard(&server, SINK).await?;
    assert!(server.record_sink("headset", 0.3).await?.is_silent(-80.0));
    player.order("device pulseaudio:nowhere").await?;
    // A device that is away is stood in for by the default one, and that is said.
    player.until("the stand-in", |a| a.trouble.contains("no device pulseaudio:nowhere: playing on")).await?;
    heard(&server, "headset").await?;
    server.add_sink("nowhere").await?;
    heard(&server, "nowhere").await?;
    player.until("all well", |a| a.trouble.is_empty()).await?;
    player.order("device default").await?;
    heard(&server, "headset").await
}
