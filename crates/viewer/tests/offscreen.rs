//! The whole viewer without a window, on whatever adapter there is (here: Mesa's CPU rasteriser), with pictures made here.
//! What is checked is read from the presented target.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end where it stands")]

use base64::Engine as _;
use loco_media::{ReceiverStats, SendInputError, SessionState, Wake};
use loco_model::api::{Endpoints, Instance};
use loco_model::input::{KeysEvent, Pointer};
use loco_model::look::{DARK, Rgb, instance_colour};
use loco_model::{InstanceId, InstanceState, Size};
use loco_viewer::app::{Event, Post};
use loco_viewer::control::Update;
use loco_viewer::plane::{Plane, identity};
use loco_viewer::session::{Connector, Opened, Picture, Session};
use loco_viewer::{Source, ViewArgs, ViewError, run_with};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// One colour, with a box in another.
#[derive(Clone)]
struct Made {
    size: Size,
    planes: [Vec<u8>; 3],
}

impl Made {
    /// Y, U, V of the ground.
    fn new(size: Size, ground: [u8; 3]) -> Self {
        let luma = size.area() as usize;
        Self { size, planes: [vec![ground[0]; luma], vec![ground[1]; luma / 4], vec![ground[2]; luma / 4]] }
    }

    fn with_box(mut self, x: usize, y: usize, side: usize, luma: u8) -> Self {
        let width = self.size.width as usize;
        for row in y..y + side {
            self.planes[0][row * width + x..row * width + x + side].fill(luma);
        }
        self
    }
}

impl Picture for Made {
    fn size(&self) -> Size {
        self.size
    }
    fn plane(&self, index: usize) -> (&[u8], usize) {
        (&self.planes[index], self.size.width as usize / if index == 0 { 1 } else { 2 })
    }
    fn decoded(&self) -> Instant {
        Instant::now()
    }
}

/// What a test can do to an instance's session, and see of it.
#[derive(Clone)]
struct Link {
    picture: Arc<Mutex<Option<Made>>>,
    wake: Arc<dyn Fn(Wake) + Send + Sync>,
    got: mpsc::Sender<(InstanceId, KeysEvent)>,
    id: InstanceId,
}

impl Link {
    fn show(&self, picture: Made) {
        *self.picture.lock().unwrap() = Some(picture);
        (self.wake)(Wake::Frame);
    }
}

impl Session for Link {
    fn take_picture(&self) -> Option<Box<dyn Picture>> {
        self.picture.lock().unwrap().take().map(|picture| Box::new(picture) as Box<dyn Picture>)
    }
    fn state(&self) -> SessionState {
        SessionState::Connected
    }
    fn send_keys(&self, event: KeysEvent) -> Result<(), SendInputError> {
        self.got.send((self.id, event)).map_err(|_| SendInputError::NotConnected)
    }
    fn send_pointer(&self, _pointer: Pointer) -> Result<(), SendInputError> {
        Ok(())
    }
    fn stats(&self) -> ReceiverStats {
        ReceiverStats::default()
    }
    fn reconnect_now(&self) {}
}

struct Maker {
    links: mpsc::Sender<Link>,
    got: mpsc::Sender<(InstanceId, KeysEvent)>,
}

impl Connector for Maker {
    fn open(&self, id: InstanceId, _at: &Endpoints, wake: Arc<dyn Fn(Wake) + Send + Sync>) -> Opened {
        let link = Link { picture: Arc::default(), wake, got: self.got.clone(), id };
        self.links.send(link.clone()).unwrap();
        Opened { session: Box::new(link), sound: None }
    }
}

fn id(n: usize) -> InstanceId {
    InstanceId::try_new(n).unwrap()
}

fn instance(n: usize, state: InstanceState) -> Instance {
    let endpoints = Endpoints { agent: "http://127.0.0.1:1".into(), whep: "http://127.0.0.1:1/whep".into() };
    Instance { state, ready: true, endpoints: Some(endpoints), ..Instance::new(id(n)) }
}

/// A running viewer.
struct Viewer {
    folder: tempfile::TempDir,
    thread: Option<JoinHandle<Result<(), ViewError>>>,
    post: Post,
    links: Vec<Link>,
    got: mpsc::Receiver<(InstanceId, KeysEvent)>,
    socket: UnixStream,
    lines: BufReader<UnixStream>,
    next_id: u64,
    watched: Vec<Value>,
}

impl Viewer {
    fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let args = ViewArgs {
            offscreen: true,
            automation: Some(path.clone()),
            ..ViewArgs::new(String::new(), PathBuf::new())
        };
        let (links, made) = mpsc::channel();
        let (got_sender, got) = mpsc::channel();
        let (posts, posted) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            run_with(args, move |_, post| {
                posts.send(post).unwrap();
                let connector = Box::new(Maker { links, got: got_sender });
                Source { connector, connection: "a test".to_owned(), plane: Plane::nowhere(identity(None)) }
            })
        });
        let post = posted.recv_timeout(PATIENCE).expect("the viewer starts");
        post(Event::Control(Update::All((0..count).map(|n| instance(n, InstanceState::Live)).collect())));
        let links: Vec<_> = (0..count).map(|_| made.recv_timeout(PATIENCE).expect("a session")).collect();
        let socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(socket.try_clone().unwrap());
        Self { folder, thread: Some(thread), post, links, got, socket, lines, next_id: 0, watched: Vec::new() }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the viewer answers");
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, mut order: Value) -> Result<Value, String> {
        self.next_id += 1;
        order["id"] = json!(self.next_id);
        writeln!(self.socket, "{order}").unwrap();
        loop {
            let mut line = self.line();
            if line.get("watch").is_some() {
                self.watched.push(line);
            } else if line["id"] == json!(self.next_id) {
                let refused = line["error"].as_str().map(str::to_owned);
                return refused.map_or_else(|| Ok(line["ok"].take()), Err);
            }
        }
    }

    fn next_watched(&mut self) -> Value {
        if self.watched.is_empty() { self.line() } else { self.watched.remove(0) }
    }

    /// Asks for the wall until it is as wanted.
    fn wall_when(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wall = self.ask(json!({"cmd": "wall"})).unwrap();
            if wanted(&wall) {
                return wall;
            }
            assert!(Instant::now() < deadline, "{what} never came: {wall:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn all_shown(&mut self) -> Value {
        self.wall_when("a picture of each", |wall| {
            wall["tiles"].as_array().is_some_and(|tiles| tiles.iter().all(|tile| !tile["picture"].is_null()))
        })
    }

    fn shot(&mut self) -> Shot {
        let path = self.folder.path().join("shot.png");
        self.ask(json!({"cmd": "screenshot", "path": path})).unwrap();
        Shot::read(&path)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        (self.post)(Event::Quit);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("no panic").expect("a clean end");
            }
        }
    }
}

struct Shot {
    width: usize,
    rgb: Vec<u8>,
}

impl Shot {
    fn read(path: &Path) -> Self {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        Self { width: info.width as usize, rgb }
    }

    fn at(&self, x: usize, y: usize) -> Rgb {
        let start = (y * self.width + x) * 3;
        Rgb(self.rgb[start], self.rgb[start + 1], self.rgb[start + 2])
    }

    fn check(&self, x: usize, y: usize, want: Rgb, what: &str) {
        let got = self.at(x, y);
        let far = |a: u8, b: u8| a.abs_diff(b) > 2;
        assert!(!(far(got.0, want.0) || far(got.1, want.1) || far(got.2, want.2)), "{what}: {got:?}, not {want:?}");
    }
}

fn rect(value: &Value) -> [usize; 4] {
    [0, 1, 2, 3].map(|n| value[n].as_u64().unwrap() as usize)
}

const VGA: Size = Size::new(640, 480);
/// Pure red, green and blue in BT.601, limited range.
const RED: [u8; 3] = [81, 90, 240];
const GREEN: [u8; 3] = [145, 54, 34];
const BLUE: [u8; 3] = [41, 240, 110];

#[test]
fn the_wall_is_drawn_as_it_should_look() {
    let mut viewer = Viewer::start(4);
    for (n, colour) in [RED, GREEN, BLUE, [126, 128, 128]].into_iter().enumerate() {
        viewer.links[n].show(Made::new(VGA, colour));
    }
    let wall = viewer.all_shown();
    (viewer.post)(Event::Control(Update::One(instance(3, InstanceState::Recovering))));
    viewer.ask(json!({"cmd": "focus", "tile": "instance-1"})).unwrap();
    let shot = viewer.shot();
    shot.check(2, 2, DARK.surface, "bar");
    shot.check(3, 500, DARK.background, "between tiles");
    for (n, want) in [Rgb(255, 0, 0), Rgb(0, 255, 0), Rgb(0, 0, 255)].into_iter().enumerate() {
        let [x, y, width, height] = rect(&wall["tiles"][n]["picture"]);
        assert!((width * 3).abs_diff(height * 4) <= 4, "4:3, not {width}x{height}");
        for (x, y) in [(x, y), (x + width - 1, y + height - 1), (x + width / 2, y + height / 2)] {
            shot.check(x, y, want, "picture");
        }
        let [left, top, _, tile_height] = rect(&wall["tiles"][n]["tile"]);
        shot.check(left + 11, top + tile_height - 15, instance_colour(id(n)), "chip");
    }
    let [x, y, width, height] = rect(&wall["tiles"][3]["picture"]);
    let dimmed = shot.at(x + width / 2, y + height / 4);
    assert!(
        dimmed.0 == dimmed.1 && dimmed.1 == dimmed.2 && (35..60).contains(&dimmed.0),
        "dimmed grey, not {dimmed:?}"
    );
    let [left, top, ..] = rect(&wall["tiles"][1]["tile"]);
    shot.check(left - 1, top + 100, DARK.accent, "focus ring");
    let letters = |y: usize| (0..width).filter(|n| shot.at(x + n, y).0 > 150).count();
    assert!(
        (y + height / 2 - 20..y + height / 2 + 20).any(|row| letters(row) > 10),
        "no message over the dimmed picture"
    );
}

#[test]
fn nothing_is_drawn_while_nothing_changes_and_only_the_change_when_it_does() {
    let mut viewer = Viewer::start(1);
    viewer.links[0].show(Made::new(VGA, GREEN));
    viewer.all_shown();
    // Its level is on the plate.
    let level = viewer.wall_when("a level", |wall| !wall["tiles"][0]["quality"].is_null());
    let mut before = level["drawn"].as_u64().unwrap();
    // What start-up left to draw is over when two looks 200 ms apart agree.
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let drawn = viewer.ask(json!({"cmd": "wall"})).unwrap()["drawn"].as_u64().unwrap();
        if drawn == before {
            break;
        }
        before = drawn;
    }
    viewer.links[0].show(Made::new(VGA, GREEN));
    std::thread::sleep(Duration::from_millis(300));
    let same = viewer.ask(json!({"cmd": "wall"})).unwrap()["drawn"].as_u64().unwrap();
    assert_eq!(same, before, "the same picture again is not drawn");
    viewer.links[0].show(Made::new(VGA, GREEN).with_box(100, 100, 50, 235));
    let wall = viewer.wall_when("one drawing", |wall| wall["drawn"].as_u64() > Some(before));
    assert_eq!(wall["drawn"].as_u64(), Some(before + 1));
    let [x, y, width, height] = rect(&wall["tiles"][0]["picture"]);
    let shot = viewer.shot();
    let inside = shot.at(x + 125 * width / 640, y + 125 * height / 480);
    assert!(inside.0 > 90 && inside.1 > 250, "the box is there, in the chroma of its ground: {inside:?}");
    shot.check(x + 90 * width / 640, y + 125 * height / 480, Rgb(0, 255, 0), "beside the box");
}

#[test]
fn a_watched_strip_is_told_whenever_it_is_drawn_and_only_then() {
    let mut viewer = Viewer::start(1);
    viewer.links[0].show(Made::new(VGA, [16, 128, 128]));
    viewer.all_shown();
    viewer.ask(json!({"cmd": "watch", "tiles": [{"id": "instance-0", "rect": [0, 0, 40, 20]}]})).unwrap();
    let luma = |line: &Value| {
        let text = line["luma"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let first = viewer.next_watched();
    assert_eq!((first["width"].as_u64(), first["height"].as_u64()), (Some(40), Some(20)));
    assert!(luma(&first).iter().all(|l| *l <= 1), "black");
    // Far from the strip: nothing is told. Then in it: the next line is of that drawing.
    viewer.links[0].show(Made::new(VGA, [16, 128, 128]).with_box(400, 300, 32, 235));
    viewer.wall_when("the far box", |wall| wall["drawn"].as_u64() > first["present"].as_u64());
    viewer.links[0].show(Made::new(VGA, [16, 128, 128]).with_box(0, 0, 64, 235));
    let second = viewer.next_watched();
    assert!(luma(&second).iter().all(|l| *l >= 250), "white");
    assert!(second["presented_at_us"].as_u64() > first["presented_at_us"].as_u64());
    assert!(second["present"].as_u64() >= first["present"].as_u64().map(|n| n + 2));
    let error = viewer.ask(json!({"cmd": "watch", "tiles": [{"id": "instance-0", "rect": [0, 0, 9999, 1]}]}));
    assert!(error.is_err_and(|why| why.contains("9999")));
}

#[test]
fn keys_reach_the_focused_session_and_are_let_go_when_it_moves() {
    let mut viewer = Viewer::start(2);
    let answer = viewer.ask(json!({"cmd": "key", "tile": "instance-1", "code": "KeyA", "pressed": true})).unwrap();
    assert!(answer["injected_at_us"].as_u64().is_some());
    let key = "KeyA".parse().unwrap();
    assert_eq!(viewer.got.recv_timeout(PATIENCE), Ok((id(1), KeysEvent::Key { key, pressed: true })));
    viewer.ask(json!({"cmd": "focus", "tile": "instance-0"})).unwrap();
    assert_eq!(viewer.got.recv_timeout(PATIENCE), Ok((id(1), KeysEvent::ReleaseAll)));
    let unknown = viewer.ask(json!({"cmd": "focus", "tile": "instance-5"}));
    assert!(unknown.is_err_and(|why| why.contains("instance-5")));
}

#[test]
fn pictures_of_another_size_and_instances_that_come_and_go() {
    let mut viewer = Viewer::start(1);
    viewer.links[0].show(Made::new(VGA, RED));
    viewer.all_shown();
    viewer.links[0].show(Made::new(Size::new(1024, 768), BLUE));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let wall = viewer.all_shown();
        let [x, y, width, height] = rect(&wall["tiles"][0]["picture"]);
        let shot = viewer.shot();
        if shot.at(x + width / 2, y + height / 2).2 > 250 {
            shot.check(x + width - 1, y + height - 1, Rgb(0, 0, 255), "the larger picture's last corner");
            break;
        }
        assert!(Instant::now() < deadline, "the larger picture never came");
    }
    (viewer.post)(Event::Control(Update::Removed(id(0))));
    let wall = viewer.wall_when("an empty wall", |wall| wall["tiles"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(wall["size"], json!([1280, 960]));
    let shot = viewer.shot();
    shot.check(640, 300, DARK.background, "nothing is left of the picture");
}
