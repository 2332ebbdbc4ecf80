//! The viewer's automation channel, from the outside: JSON lines over a unix socket.

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use loco_demo_guest::barcode::{self, Reading};
use loco_model::{InstanceId, InstanceState, Key, Size};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// No command takes longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the viewer shows now, by itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Wall {
    /// Size of the presented target.
    pub size: [u32; 2],
    /// Frames drawn since its start.
    pub drawn: u64,
    /// Its tiles, by index.
    pub tiles: Vec<Tile>,
    /// Everything else that it says, as it says it.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// One tile of a [`Wall`].
#[derive(Clone, Debug, Deserialize)]
pub struct Tile {
    /// Which.
    pub id: InstanceId,
    /// The word on it.
    pub state: InstanceState,
    /// Where the guest's picture is on the target; null while there is none.
    pub picture: Option<[u32; 4]>,
    /// Its own counters.
    #[serde(default)]
    pub stats: Option<TileStats>,
    /// Its sound; null while there is none.
    #[serde(default)]
    pub audio: Option<TileAudio>,
}

/// The viewer's counters of one stream; null where it does not know.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TileStats {
    /// Frames decoded per second.
    #[serde(default)]
    pub fps_decoded: Option<f64>,
    /// Frames per second in which new content of this tile was presented.
    #[serde(default)]
    pub fps_shown: Option<f64>,
    /// Media bytes received per second.
    #[serde(default)]
    pub bytes_per_s: Option<f64>,
    /// Everything else that it says, as it says it.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

impl Wall {
    /// Where the viewer's own clocks say that time goes, in milliseconds at the median and the 95th percentile, for the
    /// first tile that has numbers; what it does not know is left out.
    #[must_use]
    pub fn stages(&self) -> Value {
        let stats = self.tiles.iter().find_map(|tile| tile.stats.as_ref());
        let rest = |name: &str| stats.and_then(|stats| stats.rest.get(name));
        let session = |name: &str| rest("session").and_then(|session| session.get(name));
        let named = [
            ("network", session("network")),
            ("assemble", session("assemble")),
            ("decode", session("decode")),
            ("mailbox", session("mailbox")),
            ("draw", rest("draw_ms")),
            ("record", self.rest.get("record_ms")),
            ("device", self.rest.get("device_ms")),
        ];
        let two = |value: &Value| {
            let part = |name| value.get(name).and_then(Value::as_f64).map(|ms| crate::stats::round(ms, 2));
            Some(json!([part("p50_ms")?, part("p95_ms")?]))
        };
        let known = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), two(value?)?)));
        Value::Object(known.collect())
    }
}

/// The meter of one tile.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct TileAudio {
    /// Sample peak in dBFS; null for digital silence.
    #[serde(default)]
    pub peak_dbfs: Option<f64>,
}

/// One presented frame in which a watched strip was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// Which tile.
    pub id: InstanceId,
    /// When it was presented, `CLOCK_MONOTONIC`.
    pub at_us: u64,
    /// From its capture by the agent, on this machine, until then; nothing where the viewer does not say.
    pub latency_ms: Option<f64>,
    /// The barcode in it; nothing when it cannot be read.
    pub reading: Option<Reading>,
}

/// A connection to the viewer.
pub struct Automation {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    shared: Arc<Mutex<Shared>>,
    shown: mpsc::UnboundedReceiver<Shown>,
}

#[derive(Default)]
struct Shared {
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Value, String>>>,
    /// Size and strip of each watched tile's picture.
    watched: BTreeMap<InstanceId, (Size, [u32; 4])>,
    closed: bool,
}

impl Automation {
    /// Connects as soon as the socket is there, until `deadline`.
    ///
    /// # Errors
    /// When it is not there in time.
    pub async fn connect(socket: &Path, deadline: Instant) -> Result<Self> {
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("no viewer at {}", socket.display()));
                }
                // The viewer makes the socket when it is ready; watching the folder would need as much time again.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let (reader, writer) = stream.into_split();
        let (sender, shown) = mpsc::unbounded_channel();
        let shared = Arc::new(Mutex::new(Shared::default()));
        tokio::spawn(read(reader, Arc::clone(&shared), sender));
        Ok(Self { writer: tokio::sync::Mutex::new(writer), shared, shown })
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// When the viewer refuses it, or is gone, or does not answer in time.
    pub async fn command(&self, command: &str, arguments: Value) -> Result<Value> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut shared = self.shared.lock();
            if shared.closed {
                bail!("the viewer is gone");
            }
            shared.next_id += 1;
            let id = shared.next_id;
            shared.waiting.insert(id, sender);
            id
        };
        let mut request = json!({"id": id, "cmd": command});
        if let (Value::Object(request), Value::Object(arguments)) = (&mut request, arguments) {
            request.extend(arguments);
        }
        let line = format!("{request}\n");
        self.writer.lock().await.write_all(line.as_bytes()).await.context("the viewer is gone")?;
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.map_err(|_| anyhow!("the viewer did not answer {command} within {PATIENCE:?}"))?;
        answer.context("the viewer is gone")?.map_err(|error| anyhow!("the viewer refused {command}: {error}"))
    }

    /// What it shows now.
    ///
    /// # Errors
    /// As [`Automation::command`].
    pub async fn wall(&self) -> Result<Wall> {
        let value = self.command("wall", json!({})).await?;
        serde_json::from_value(value).context("the viewer's answer to wall")
    }

    /// Has it write what it presented last to `path`, as PNG.
    ///
    /// # Errors
    /// As [`Automation::command`].
    pub async fn screenshot(&self, path: &Path) -> Result<()> {
        self.command("screenshot", json!({"path": path})).await.map(drop)
    }

    /// Moves the keyboard to a tile.
    ///
    /// # Errors
    /// As [`Automation::command`].
    pub async fn focus(&self, id: InstanceId) -> Result<()> {
        self.command("focus", json!({"tile": id})).await.map(drop)
    }

    /// Gives it a key as if its window had it; returns when, in microseconds of `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// As [`Automation::command`].
    pub async fn key(&self, id: InstanceId, key: Key, pressed: bool) -> Result<u64> {
        let arguments = json!({"tile": id, "code": key, "pressed": pressed});
        let value = self.command("key", arguments).await?;
        value["injected_at_us"].as_u64().context("the viewer does not say when it injected the key")
    }

    /// Watches the barcodes of all tiles that have a picture in `wall`, and no others.
    ///
    /// # Errors
    /// As [`Automation::command`].
    pub async fn watch(&self, wall: &Wall) -> Result<()> {
        let with_picture = wall.tiles.iter().filter_map(|tile| Some((tile.id, tile.picture?)));
        let watched: BTreeMap<InstanceId, (Size, [u32; 4])> = with_picture
            .map(|(id, [_, _, width, height])| {
                let (x, y, w, h) = barcode::region(width, height);
                (id, (Size::new(width, height), [x, y, w, h]))
            })
            .collect();
        let tiles: Vec<Value> = watched.iter().map(|(id, (_, rect))| json!({"id": id, "rect": rect})).collect();
        self.shared.lock().watched = watched;
        self.command("watch", json!({"tiles": tiles})).await.map(drop)
    }

    /// Watches nothing any more: what is read back costs time.
    ///
    /// # Errors
    /// As [`Automation::command`].
    pub async fn unwatch(&self) -> Result<()> {
        self.shared.lock().watched.clear();
        self.command("unwatch", json!({})).await.map(drop)
    }

    /// The next presented frame with a watched strip; nothing when none came within `patience`.
    ///
    /// # Errors
    /// When the viewer is gone.
    pub async fn shown(&mut self, patience: Duration) -> Result<Option<Shown>> {
        match tokio::time::timeout(patience, self.shown.recv()).await {
            Ok(Some(shown)) => Ok(Some(shown)),
            Ok(None) => bail!("the viewer is gone"),
            Err(_) => Ok(None),
        }
    }

    /// The next presented frame that is here already.
    pub fn try_shown(&mut self) -> Option<Shown> {
        self.shown.try_recv().ok()
    }

    /// Forgets the presented frames that nobody asked for yet.
    pub fn clear(&mut self) {
        while self.shown.try_recv().is_ok() {}
    }
}

#[derive(Deserialize)]
struct Line {
    id: Option<u64>,
    ok: Option<Value>,
    error: Option<String>,
    watch: Option<InstanceId>,
    presented_at_us: Option<u64>,
    captured: Option<u32>,
    luma: Option<String>,
}

async fn read(reader: OwnedReadHalf, shared: Arc<Mutex<Shared>>, shown: mpsc::UnboundedSender<Shown>) {
    let mut lines = BufReader::new(reader).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => match serde_json::from_str::<Line>(&line) {
                Ok(line) => take(line, &shared, &shown),
                Err(error) => tracing::warn!(%error, "the viewer sent a line that is not understood"),
            },
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "lost the viewer");
                break;
            }
        }
    }
    let mut shared = shared.lock();
    shared.closed = true;
    shared.waiting.clear();
}

fn take(line: Line, shared: &Mutex<Shared>, shown: &mpsc::UnboundedSender<Shown>) {
    if let (Some(id), Some(at_us), Some(luma)) = (line.watch, line.presented_at_us, line.luma) {
        let Some((size, rect)) = shared.lock().watched.get(&id).copied() else { return };
        let latency_ms = line.captured.map(|captured| latency_ms(at_us, captured));
        // Whoever waited for it may be gone; then nobody misses it.
        let _ = shown.send(Shown { id, at_us, latency_ms, reading: reading(size, rect, &luma) });
    } else if let Some(waiting) = line.id.and_then(|id| shared.lock().waiting.remove(&id)) {
        let answer = line.error.map_or_else(|| Ok(line.ok.unwrap_or_default()), Err);
        // The same: a command that was given up.
        let _ = waiting.send(answer);
    }
}

/// From an RTP timestamp of 90 kHz (RFC 6184 section 8.1) by the same clock until `at_us`; both wrap.
fn latency_ms(at_us: u64, captured: u32) -> f64 {
    let at = (u128::from(at_us) * 9 / 100) as u32;
    f64::from(at.wrapping_sub(captured).cast_signed()) / 90.0
}

/// The barcode in the strip `rect` of a picture of `size`, from its brightness in base64.
pub(crate) fn reading(size: Size, [left, top, columns, rows]: [u32; 4], luma: &str) -> Option<Reading> {
    let luma = base64::engine::general_purpose::STANDARD.decode(luma).ok()?;
    barcode::decode(size.width, size.height, |x, y| {
        let (column, row) = (x.wrapping_sub(left), y.wrapping_sub(top));
        let inside = column < columns && row < rows;
        inside.then(|| luma.get((row * columns + column) as usize).copied()).flatten().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn answers_find_their_commands_and_frames_their_watcher() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("viewer.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                let request: Value = serde_json::from_str(&line).unwrap();
                let id = &request["id"];
                let answer = match request["cmd"].as_str().unwrap() {
                    "wall" => json!({"id": id, "ok": {"size": [1280, 960], "drawn": 7, "tiles": [
                        {"id": "instance-2", "state": "live", "picture": [0, 0, 400, 300],
                         "stats": {"fps_decoded": 30.0, "draw_ms": {"p50_ms": 1.234, "p95_ms": 2},
                            "session": {"network": {"p50_ms": null, "p95_ms": null}}}, "audio": {"peak_dbfs": null}},
                        {"id": "instance-3", "state": "connecting", "picture": null}]}}),
                    "watch" => {
                        assert_eq!(
                            request["tiles"].as_array().unwrap().len(),
                            1,
                            "a tile without a picture is not watched"
                        );
                        let frame = json!({"watch": "instance-2", "presented_at_us": 2_000, "present": 1, "captured": 90,
                            "width": 180, "height": 20, "luma": ""});
                        writer.write_all(format!("{frame}\n").as_bytes()).await.unwrap();
                        json!({"id": id, "ok": {}})
                    }
                    other => json!({"id": id, "error": format!("unknown {other}")}),
                };
                writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
        });
        let mut automation = Automation::connect(&path, Instant::now() + Duration::from_secs(5)).await.unwrap();
        let wall = automation.wall().await.unwrap();
        assert_eq!((wall.tiles.len(), wall.tiles[0].state), (2, InstanceState::Live));
        let stats = wall.tiles[0].stats.clone().unwrap();
        assert_eq!((stats.fps_decoded, stats.bytes_per_s), (Some(30.0), None));
        assert_eq!(wall.stages(), json!({"draw": [1.23, 2.0]}), "what is not known is left out");
        automation.watch(&wall).await.unwrap();
        let shown = automation.shown(Duration::from_secs(5)).await.unwrap().unwrap();
        assert_eq!((shown.id.index(), shown.at_us, shown.latency_ms, shown.reading), (2, 2_000, Some(1.0), None));
        assert_eq!(latency_ms(1_000, u32::MAX - 89), 2.0, "wrapped");
        let error = automation.command("dance", json!({})).await.unwrap_err().to_string();
        assert!(error.contains("dance") && error.contains("unknown"), "{error}");
        server.abort();
        let _ = server.await;
        assert!(automation.shown(Duration::from_secs(5)).await.is_err(), "a viewer that is gone is an error");
        assert!(automation.wall().await.is_err());
    }
}
