//! The process that plays: this test program itself, since a sound server's address is in the environment.

use super::{SOON, TONE_DBFS, TONE_HZ};
use anyhow::{Context as _, Result, ensure};
use loco_media::sound::{PacketWriter, SoundEncoder, SoundPacket, packet_ring};
use loco_model::InstanceId;
use loco_process::{DeathSignal, Spawner};
use loco_tests::ears::SoundServer;
use loco_tests::wait::wait_for;
use loco_viewer::sound::{Output, SoundConfig, SoundSystem};
use std::io::BufRead as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// Set in the process that plays: how many guests, and packets lost of a thousand.
const PLAYER: &str = "LOCO_TEST_PLAYER";

/// Plays a tone as each of some guests would, and does what its stdin says. In an ordinary run this is no test.
#[test]
fn player() {
    let Ok(guests) = std::env::var(PLAYER) else { return };
    let (count, lost_of_thousand) = guests.split_once(' ').unwrap();
    let lost_of_thousand: u64 = lost_of_thousand.parse().unwrap();
    let system = SoundSystem::start(SoundConfig { output: Output::Default, wake: Arc::new(|| {}) }).unwrap();
    for index in 0..count.parse().unwrap() {
        let (writer, reader) = packet_ring().unwrap();
        play_tone(index, writer, lost_of_thousand);
        system.attach(InstanceId::try_new(index).unwrap(), reader);
    }
    let id = InstanceId::try_new(0).unwrap();
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().split_once(' ').unwrap() {
            ("mute", yes) => system.set_mute(id, yes == "true"),
            ("solo", yes) => system.set_solo(id, yes == "true"),
            ("dim", yes) => {
                system.set_dim(if yes == "true" { 0.25 } else { 1.0 });
                system.set_dimmed(id, yes == "true");
            }
            ("device", "default") => system.set_device(Output::Default),
            ("device", name) => system.set_device(Output::Device(name.into())),
            ("devices", _) => system.watch_devices(true),
            ("tell", _) => {}
            other => panic!("{other:?}"),
        }
        let levels = system.levels(id).unwrap();
        let readers: Vec<_> = InstanceId::all().filter_map(|id| system.reader_stats(id)).collect();
        println!("\nstatus {}", system.status().line);
        println!("trouble {}", system.status().trouble().unwrap_or_default());
        println!("peak {}", levels.peak_dbfs[0]);
        println!("loudness {}", system.loudness(id));
        println!("underruns {}", readers.iter().map(|reader| reader.underruns + reader.skips).sum::<u64>());
        println!("concealed {}", readers.iter().map(|reader| reader.concealed_lost).sum::<u64>());
        println!("playing {}", readers.iter().filter(|reader| reader.playing).count());
        println!("stats {:?} {:?}", system.status(), readers[0]);
        let devices: Vec<_> = system.devices().into_iter().map(|d| d.id).collect();
        println!("devices {}", devices.join(","));
    }
}

/// One guest's card: pieces of 1024 frames, as QEMU 7.2 gives them, and a way that loses packets at random.
fn play_tone(index: usize, mut writer: PacketWriter, lost_of_thousand: u64) {
    let mut sequence = 0u16;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ index as u64;
    let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
        sequence = sequence.wrapping_add(1);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if (random >> 16) % 1000 >= lost_of_thousand {
            let _ = writer.push(sequence, p.timestamp, p.marker, p.payload);
        }
    })
    .unwrap();
    std::thread::spawn(move || {
        let amplitude = 32768.0 * 10f64.powf(TONE_DBFS / 20.0) / if index == 0 { 1.0 } else { 10.0 };
        let frequency = TONE_HZ + 100.0 * index as f64;
        let began = Instant::now() + Duration::from_millis(2 * index as u64);
        for piece in 0u32.. {
            let samples: Vec<i16> = (piece * 1024..(piece + 1) * 1024)
                .flat_map(|n| {
                    let phase = (f64::from(n) * frequency / 48_000.0).fract();
                    [(amplitude * (std::f64::consts::TAU * phase).sin()) as i16; 2]
                })
                .collect();
            encoder.push(1, &samples);
            let due = Duration::from_secs_f64(f64::from(piece + 1) * 1024.0 / 48_000.0);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    });
}

/// That process, as seen from the test.
pub(crate) struct Player {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What it tells after each order.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: String,
    pub(crate) trouble: String,
    pub(crate) peak_dbfs: f64,
    pub(crate) loudness: f64,
    pub(crate) underruns: u64,
    pub(crate) concealed: u64,
    pub(crate) playing: usize,
    pub(crate) stats: String,
    pub(crate) devices: String,
}

impl Player {
    /// `guests` of them, whose ways lose so many packets of a thousand.
    pub(crate) async fn start(server: &SoundServer, guests: usize, lost_of_thousand: u32) -> Result<Self> {
        Self::start_in(server, guests, lost_of_thousand, &[]).await
    }

    /// The same with something else in its environment.
    pub(crate) async fn start_in(
        server: &SoundServer,
        guests: usize,
        lost_of_thousand: u32,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        // Its guests' cards are threads that must not be kept waiting.
        let mut command = server.prompt_client(std::env::current_exe()?).await;
        command.envs(environment.iter().copied());
        command.args(["player::player", "--exact", "--nocapture"]);
        command.env(PLAYER, format!("{guests} {lost_of_thousand}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = Spawner::shared()?.spawn(command, DeathSignal::Kill).await?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Self { _child: child, orders, answers })
    }

    pub(crate) async fn order(&mut self, order: &str) -> Result<Answer> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        let mut answer = Answer::default();
        loop {
            let line = self.answers.next_line().await?.context("the player has ended")?;
            match line.split_once(' ') {
                Some(("status", rest)) => answer.status = rest.into(),
                Some(("trouble", rest)) => answer.trouble = rest.into(),
                Some(("peak", rest)) => answer.peak_dbfs = rest.parse()?,
                Some(("loudness", rest)) => answer.loudness = rest.parse()?,
                Some(("underruns", rest)) => answer.underruns = rest.parse()?,
                Some(("concealed", rest)) => answer.concealed = rest.parse()?,
                Some(("playing", rest)) => answer.playing = rest.parse()?,
                Some(("stats", rest)) => answer.stats = rest.into(),
                Some(("devices", rest)) => {
                    answer.devices = rest.into();
                    return Ok(answer);
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Answer) -> bool) -> Result<Answer> {
        wait_for(what, SOON, async || {
            let answer = self.order("tell now").await?;
            ensure!(holds(&answer), "{answer:?}");
            Ok(answer)
        })
        .await
    }
}
