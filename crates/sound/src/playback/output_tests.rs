use super::super::backend::{OnEnd, Seen};
use super::super::mixer::mixer;
use super::super::{DeviceInfo, SoundConfig, SoundSystem};
use super::*;
use crate::packet_ring;
use loco_model::InstanceId;
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

const SOON: Duration = Duration::from_secs(10);

/// A sound system that does what the test says.
#[derive(Clone, Default)]
struct Stage(Arc<StageState>);

#[derive(Default)]
struct StageState {
    /// Reason why opening fails, if it does.
    refuses: Mutex<Option<String>>,
    /// Opening does not return while this is set.
    hangs: std::sync::Mutex<bool>,
    goes_on: Condvar,
    opens: AtomicU32,
    /// So many of the first openings do not return.
    stuck: AtomicU32,
    default: Mutex<String>,
    on_end: Mutex<Option<OnEnd>>,
    /// Devices that are not there.
    missing: Mutex<Vec<String>>,
    /// A device that is there and cannot be opened, and when that was tried.
    broken: Mutex<String>,
    tried_at: Mutex<Vec<Instant>>,
    /// Size of callback that was asked for last.
    frames: AtomicU32,
    /// Every so many callbacks one is left out; 0: none.
    leaves_out: AtomicU32,
    /// Dropping a stream never returns.
    drop_hangs: AtomicBool,
    /// A second device is there.
    plugged: AtomicBool,
    /// Callbacks come.
    plays: AtomicBool,
    dropped: AtomicU32,
}

struct FakeStream {
    stopped: Arc<AtomicBool>,
    stage: Arc<StageState>,
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        while self.stage.drop_hangs.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        self.stage.dropped.fetch_add(1, SeqCst);
    }
}

impl Backend for Stage {
    fn open(&mut self, order: &Order, source: &Source, number: u64, on_end: OnEnd) -> Result<Opened, String> {
        self.0.frames.store(order.frames, SeqCst);
        let count = self.0.opens.fetch_add(1, SeqCst) + 1;
        while self.0.stuck.load(SeqCst) >= count {
            thread::sleep(Duration::from_millis(5));
        }
        let mut hangs = self.0.hangs.lock().unwrap();
        while *hangs {
            hangs = self.0.goes_on.wait(hangs).unwrap();
        }
        drop(hangs);
        if let Some(reason) = self.0.refuses.lock().clone() {
            return Err(reason);
        }
        let id = match &order.output {
            Output::Device(id) if self.0.missing.lock().contains(id) => return Err(format!("no device {id}")),
            Output::Device(id) if *self.0.broken.lock() == *id => {
                self.0.tried_at.lock().push(Instant::now());
                return Err(format!("{id} is busy"));
            }
            Output::Device(id) => id.clone(),
            _ => self.0.default.lock().clone(),
        };
        *self.0.on_end.lock() = Some(on_end);
        let mut feed = source.feed(number, 2, 48_000).unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (stage, stopping) = (self.0.clone(), stopped.clone());
        thread::spawn(move || {
            let began = Instant::now();
            for n in 1u32.. {
                if stopping.load(SeqCst) {
                    break;
                }
                let leaves_out = stage.leaves_out.load(SeqCst);
                if stage.plays.load(SeqCst) && (leaves_out == 0 || n % leaves_out != 0) {
                    feed.fill(&mut [0.0; 960], None);
                }
                thread::sleep((Duration::from_millis(10) * n).saturating_sub(began.elapsed()));
            }
        });
        let stream = FakeStream { stopped, stage: self.0.clone() };
        Ok(Opened { stream: Box::new(stream), name: format!("{id} (fake)"), id, rate_hz: 48_000 })
    }

    fn devices(&mut self) -> Result<Vec<DeviceInfo>, String> {
        let mut devices = vec![DeviceInfo { id: "fake:a".into(), name: "A".into(), default: true }];
        if self.0.plugged.load(SeqCst) {
            devices.push(DeviceInfo { id: "fake:b".into(), name: "B".into(), default: false });
        }
        Ok(devices)
    }

    fn look(&mut self, output: &Output) -> Seen {
        let present = match output {
            Output::Device(id) => Some(!self.0.missing.lock().contains(id)),
            _ => None,
        };
        Seen { default: Some(self.0.default.lock().clone()), present }
    }
}

impl Stage {
    fn new() -> Self {
        let stage = Self::default();
        stage.0.plays.store(true, SeqCst);
        *stage.0.default.lock() = "fake:a".into();
        stage
    }

    fn start(&self, output: Output) -> SoundSystem {
        let timings = Timings {
            retry_min: Duration::from_millis(20),
            retry_max: Duration::from_millis(50),
            watchdog: Duration::from_millis(300),
            start_watchdog: Duration::from_millis(600),
            follow: Duration::from_millis(50),
            count: Duration::from_millis(500),
            hung: Duration::from_millis(100),
        };
        let stage = self.clone();
        let config = SoundConfig { output, wake: Arc::new(|| {}) };
        SoundSystem::start_with(config, Box::new(move || Box::new(stage.clone())), timings).unwrap()
    }

    fn set_hang(&self, hangs: bool) {
        *self.0.hangs.lock().unwrap() = hangs;
        self.0.goes_on.notify_all();
    }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The null output plays: without sound it rests at once, and is there to be woken.
fn beats(system: &SoundSystem) -> bool {
    let (mut writer, reader) = packet_ring().unwrap();
    let id = InstanceId::try_new(0).unwrap();
    system.attach(id, reader);
    let _ = writer.push(1, 0, true, &[0xfc, 0xff, 0xfe]);
    let before = system.source.pulse.total_frames();
    thread::sleep(Duration::from_millis(50));
    system.source.pulse.total_frames() > before
}

#[test]
fn plays_on_the_default_device() {
    let stage = Stage::new();
    let system = stage.start(Output::Default);
    until("playing", || system.status().playing);
    let status = system.status();
    assert_eq!((status.line.as_str(), status.device.as_deref()), ("fake:a (fake), 48000 Hz", Some("fake:a (fake)")));
    assert_eq!((status.rate_hz, status.reopened), (Some(48_000), 0));
    drop(system);
    until("stream dropped", || stage.0.dropped.load(SeqCst) == 1);
}

#[test]
fn tries_again_for_ever_and_plays_into_nothing_meanwhile() {
    let stage = Stage::new();
    *stage.0.refuses.lock() = Some("nobody home".into());
    let system = stage.start(Output::Default);
    until("three tries", || stage.0.opens.load(SeqCst) > 3);
    assert_eq!(system.status().line, "no sound device: nobody home; trying again");
    assert!(!system.status().playing);
    until("null output", || beats(&system));
    *stage.0.refuses.lock() = None;
    until("playing", || system.status().playing);
}

#[test]
fn a_stream_that_ends_is_opened_again() {
    let stage = Stage::new();
    let system = stage.start(Output::Default);
    until("playing", || system.status().playing);
    let on_end = stage.0.on_end.lock().take().unwrap();
    on_end("unplugged".into());
    until("opened again", || stage.0.opens.load(SeqCst) == 2 && system.status().playing);
    assert_eq!(system.status().reopened, 1);
    until("first dropped", || stage.0.dropped.load(SeqCst) == 1);
    // A late word from the first stream does not hurt the second.
    on_end("unplugged".into());
    thread::sleep(Duration::from_millis(50));
    assert_eq!(stage.0.opens.load(SeqCst), 2);
}

#[test]
fn a_server_that_stops_without_an_error_is_noticed_by_the_watchdog() {
    let stage = Stage::new();
    let system = stage.start(Output::Device("fake:b".into()));
    until("playing", || system.status().playing);
    stage.set_hang(true);
    stage.0.plays.store(false, SeqCst);
    until("noticed", || !system.status().playing);
    until("told", || system.status().line == "no sound device: the sound server does not answer; trying again");
    until("null output", || beats(&system));
    stage.0.plays.store(true, SeqCst);
    stage.set_hang(false);
    until("playing again", || system.status().playing);
}

#[test]
fn another_device_can_be_chosen_while_one_hangs() {
    let stage = Stage::new();
    stage.set_hang(true);
    let system = stage.start(Output::Device("fake:stuck".into()));
    until("told", || system.status().line.contains("does not answer"));
    until("a second worker", || stage.0.opens.load(SeqCst) == 2);
    system.set_device(Output::Null);
    until("null", || system.status().playing);
    system.set_device(Output::Device("fake:c".into()));
    until("a third worker", || stage.0.opens.load(SeqCst) == 3);
    stage.set_hang(false);
    until("playing", || system.status().device.as_deref() == Some("fake:c (fake)"));
    until("the late ones are dropped", || stage.0.dropped.load(SeqCst) == stage.0.opens.load(SeqCst) - 1);
}

#[test]
fn a_call_that_never_returns_does_not_keep_the_next_one_away() {
    let stage = Stage::new();
    stage.0.stuck.store(1, SeqCst);
    let system = stage.start(Output::Default);
    until("playing", || system.status().playing);
    assert_eq!((stage.0.opens.load(SeqCst), system.status().hanging), (2, 1));
    // What comes back after all is closed, and hangs no longer.
    stage.0.stuck.store(0, SeqCst);
    until("the late one is dropped", || stage.0.dropped.load(SeqCst) == 1);
    until("nothing hangs", || system.status().hanging == 0);
    assert!(system.status().playing);
}

#[test]
fn an_opening_that_takes_longer_than_a_hang_is_taken_all_the_same() {
    let stage = Stage::new();
    stage.0.stuck.store(2, SeqCst);
    let system = stage.start(Output::Default);
    until("a second worker", || stage.0.opens.load(SeqCst) == 2);
    stage.0.stuck.store(0, SeqCst);
    until("playing", || system.status().playing);
    until("the other is dropped", || stage.0.dropped.load(SeqCst) == stage.0.opens.load(SeqCst) - 1);
}

#[test]
fn a_chosen_device_that_is_there_and_cannot_be_opened_is_tried_more_and_more_seldom() {
    let stage = Stage::new();
    "fake:headset".clone_into(&mut stage.0.broken.lock());
    let system = stage.start(Output::Device("fake:headset".into()));
    until("four tries", || stage.0.tried_at.lock().len() >= 4);
    let tried_at = stage.0.tried_at.lock().clone();
    let pauses: Vec<_> = tried_at.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    for (pause, least) in pauses.iter().zip([100, 200, 400]) {
        assert!(*pause >= least, "{pauses:?}: every try interrupts the sound");
    }
    until("standing in", || system.status().trouble() == Some("fake:headset is busy: playing on fake:a (fake)"));
    stage.0.broken.lock().clear();
    until("it can be had", || system.status().device.as_deref() == Some("fake:headset (fake)"));
}

#[test]
fn the_default_device_stands_in_for_a_chosen_one_that_is_away() {
    let stage = Stage::new();
    stage.0.missing.lock().push("fake:headset".into());
    let system = stage.start(Output::Device("fake:headset".into()));
    until("playing", || system.status().playing);
    let status = system.status();
    assert_eq!(status.device.as_deref(), Some("fake:a (fake)"));
    assert_eq!(status.trouble(), Some("no device fake:headset: playing on fake:a (fake)"));
    stage.0.missing.lock().clear();
    until("plugged in", || system.status().device.as_deref() == Some("fake:headset (fake)"));
    assert_eq!(system.status().trouble(), None);
    // PulseAudio moves its streams elsewhere without a word.
    stage.0.missing.lock().push("fake:headset".into());
    until("unplugged", || system.status().device.as_deref() == Some("fake:a (fake)"));
}

#[test]
fn callbacks_that_are_left_out_are_told_and_larger_ones_asked_for() {
    let stage = Stage::new();
    stage.0.leaves_out.store(6, SeqCst);
    let system = stage.start(Output::Default);
    until("told", || system.status().trouble().is_some_and(|line| line.contains("left out")));
    until("larger pieces", || stage.0.frames.load(SeqCst) > CALLBACK_FRAMES);
    until("the largest", || stage.0.frames.load(SeqCst) == MOST_CALLBACK_FRAMES);
    assert!(system.status().missed_ms > 100, "{:?}", system.status());
    stage.0.leaves_out.store(0, SeqCst);
    until("well again", || system.status().playing && system.status().trouble().is_none());
}

#[test]
fn a_drop_that_never_returns_is_survived_and_counted() {
    let stage = Stage::new();
    let system = stage.start(Output::Default);
    until("playing", || system.status().playing);
    stage.0.drop_hangs.store(true, SeqCst);
    let on_end = stage.0.on_end.lock().take().unwrap();
    on_end("unplugged".into());
    until("opened again", || stage.0.opens.load(SeqCst) == 2 && system.status().playing);
    assert_eq!((system.status().hanging, stage.0.dropped.load(SeqCst)), (1, 0));
    stage.0.drop_hangs.store(false, SeqCst);
    until("nothing hangs", || system.status().hanging == 0);
}

#[test]
fn the_null_output_rests_in_silence() {
    let stage = Stage::new();
    let system = stage.start(Output::Null);
    until("playing", || system.status().playing);
    let frames = || system.source.pulse.total_frames();
    until("a rest", || {
        let before = frames();
        thread::sleep(Duration::from_millis(100));
        frames() == before
    });
    assert!(beats(&system), "woken by a packet");
}

#[test]
fn follows_the_default_device() {
    let stage = Stage::new();
    let system = stage.start(Output::Default);
    until("playing", || system.status().playing);
    *stage.0.default.lock() = "fake:headset".into();
    until("moved", || system.status().device.as_deref() == Some("fake:headset (fake)"));
}

#[test]
fn lists_devices_while_they_are_watched() {
    let stage = Stage::new();
    let system = stage.start(Output::Default);
    assert!(system.devices().is_empty());
    system.watch_devices(true);
    until("listed", || system.devices().len() == 1);
    assert!(system.devices()[0].default);
    stage.0.plugged.store(true, SeqCst);
    until("plugged in", || system.devices().len() == 2);
}

#[test]
fn the_null_output_needs_no_backend() {
    let stage = Stage::new();
    let system = stage.start(Output::Null);
    until("playing", || system.status().playing && beats(&system));
    assert_eq!(stage.0.opens.load(SeqCst), 0);
    assert_eq!(system.status().line, "no sound device, as chosen");
}

#[test]
fn a_device_at_44100_hz_gets_its_own_number_of_frames() {
    use super::super::board::Board;
    let (waker, _thread) = Waker::start(Arc::new(|| {}));
    let (_desk, mixer) = mixer(Arc::new(Board::default()), Arc::new(waker)).unwrap();
    let source = Source::new(mixer);
    source.pulse.set_current(5);
    let mut feed = source.feed(5, 2, 44_100).unwrap();
    for frames in [1, 441, 1024, 5000] {
        let mut out = vec![9.0; frames * 2];
        feed.fill(&mut out, None);
        assert!(out.iter().all(|s| *s == 0.0));
        assert_eq!(source.pulse.frames() as usize, frames);
    }
    assert!(source.feed(5, 2, 0).is_err());
}
