//! The viewer without a window, sessions that are made here, and what is read from the presented target.
#![allow(dead_code, reason = "each test file uses a part of this")]

use loco_media::{ReceiverStats, SendInputError, SessionState, Wake};
use loco_model::api::{Endpoints, Instance};
use loco_model::input::{KeysEvent, Pointer};
use loco_model::look::Rgb;
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

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One colour, with a box in another.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) size: Size,
    pub(crate) planes: [Vec<u8>; 3],
}

impl Made {
    /// Y, U, V of the ground.
    pub(crate) fn new(size: Size, ground: [u8; 3]) -> Self {
        let luma = size.area() as usize;
        Self { size, planes: [vec![ground[0]; luma], vec![ground[1]; luma / 4], vec![ground[2]; luma / 4]] }
    }

    pub(crate) fn with_box(mut self, x: usize, y: usize, side: usize, luma: u8) -> Self {
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

    fn captured(&self) -> u32 {
        0
    }
}

/// What a test can do to an instance's session, and see of it.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) picture: Arc<Mutex<Option<Made>>>,
    pub(crate) wake: Arc<dyn Fn(Wake) + Send + Sync>,
    pub(crate) got: mpsc::Sender<(InstanceId, KeysEvent)>,
    pub(crate) id: InstanceId,
}

impl Link {
    pub(crate) fn show(&self, picture: Made) {
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

pub(crate) struct Maker {
    pub(crate) links: mpsc::Sender<Link>,
    pub(crate) got: mpsc::Sender<(InstanceId, KeysEvent)>,
}

impl Connector for Maker {
    fn open(&self, id: InstanceId, _at: &Endpoints, wake: Arc<dyn Fn(Wake) + Send + Sync>) -> Opened {
        let link = Link { picture: Arc::default(), wake, got: self.got.clone(), id };
        // Of sessions that are opened anew later nobody waits to hear.
        let _ = self.links.send(link.clone());
        Opened { session: Box::new(link), sound: None }
    }
}

pub(crate) fn id(n: usize) -> InstanceId {
    InstanceId::try_new(n).unwrap()
}

pub(crate) fn instance(n: usize, state: InstanceState) -> Instance {
    let endpoints = Endpoints { agent: "http://127.0.0.1:1".into(), whep: "http://127.0.0.1:1/whep".into() };
    Instance { state, ready: true, endpoints: Some(endpoints), ..Instance::new(id(n)) }
}

/// A running viewer.
pub(crate) struct Viewer {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) thread: Option<JoinHandle<Result<(), ViewError>>>,
    pub(crate) post: Post,
    pub(crate) links: Vec<Link>,
    pub(crate) got: mpsc::Receiver<(InstanceId, KeysEvent)>,
    pub(crate) socket: UnixStream,
    pub(crate) lines: BufReader<UnixStream>,
    pub(crate) next_id: u64,
    pub(crate) watched: Vec<Value>,
}

impl Viewer {
    pub(crate) fn start(count: usize) -> Self {
        let args = ViewArgs::new(String::new(), PathBuf::new());
        Self::start_with(count, args, |_, _| Plane::nowhere(identity(None)))
    }

    /// One that speaks to a control plane.
    pub(crate) fn start_with(
        count: usize,
        args: ViewArgs,
        plane: impl FnOnce(&tokio::runtime::Handle, Post) -> Plane + Send + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let args = ViewArgs { offscreen: true, automation: Some(path.clone()), ..args };
        let (links, made) = mpsc::channel();
        let (got_sender, got) = mpsc::channel();
        let (posts, posted) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            run_with(args, move |runtime, post| {
                posts.send(Post::clone(&post)).unwrap();
                let connector = Box::new(Maker { links, got: got_sender });
                Source { connector, connection: "a test".to_owned(), plane: plane(runtime, post) }
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

    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the viewer answers");
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn ask(&mut self, mut order: Value) -> Result<Value, String> {
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

    pub(crate) fn next_watched(&mut self) -> Value {
        if self.watched.is_empty() { self.line() } else { self.watched.remove(0) }
    }

    /// Asks for the wall until it is as wanted.
    pub(crate) fn wall_when(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
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

    pub(crate) fn all_shown(&mut self) -> Value {
        self.wall_when("a picture of each", |wall| {
            wall["tiles"].as_array().is_some_and(|tiles| tiles.iter().all(|tile| !tile["picture"].is_null()))
        })
    }

    pub(crate) fn shot(&mut self) -> Shot {
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

pub(crate) struct Shot {
    pub(crate) width: usize,
    pub(crate) rgb: Vec<u8>,
}

impl Shot {
    pub(crate) fn read(path: &Path) -> Self {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        Self { width: info.width as usize, rgb }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> Rgb {
        let start = (y * self.width + x) * 3;
        Rgb(self.rgb[start], self.rgb[start + 1], self.rgb[start + 2])
    }

    pub(crate) fn check(&self, x: usize, y: usize, want: Rgb, what: &str) {
        let got = self.at(x, y);
        let far = |a: u8, b: u8| a.abs_diff(b) > 2;
        assert!(!(far(got.0, want.0) || far(got.1, want.1) || far(got.2, want.2)), "{what}: {got:?}, not {want:?}");
    }
}

pub(crate) fn rect(value: &Value) -> [usize; 4] {
    [0, 1, 2, 3].map(|n| value[n].as_u64().unwrap() as usize)
}

pub(crate) const VGA: Size = Size::new(640, 480);
/// Pure red, green and blue in BT.601, limited range.
pub(crate) const RED: [u8; 3] = [81, 90, 240];
pub(crate) const GREEN: [u8; 3] = [145, 54, 34];
pub(crate) const BLUE: [u8; 3] = [41, 240, 110];
