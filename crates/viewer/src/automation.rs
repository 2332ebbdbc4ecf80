//! The automation channel: a Unix socket that takes one JSON object a line, for checks, tests and measurements. It can
//! do what a person at the window can, and see what is presented.

use crate::app::{Event, Post};
use crate::error::ViewError;
use loco_model::input::Button;
use loco_model::{InstanceId, Key};
use serde::Deserialize;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// Lines that may wait for a reader before it is cut off.
const MAX_WAITING: usize = 4096;

/// A rectangle of a tile's picture, in pixels as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchTile {
    /// Whose.
    pub id: InstanceId,
    /// x, y, width, height.
    pub rect: [u32; 4],
}

/// Pointer input.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PointerOrder {
    /// Focused first; else the focus as it is.
    pub tile: Option<InstanceId>,
    /// Relative, in guest pixels; captures first.
    pub motion: Option<[f64; 2]>,
    /// In pixels of the tile's picture as it is shown.
    pub position: Option<[f64; 2]>,
    /// Which button; with `pressed`.
    pub button: Option<Button>,
    /// Down or up.
    pub pressed: Option<bool>,
    /// Steps to the right and up.
    pub wheel: Option<[f64; 2]>,
}

/// What becomes of the sound as a whole; what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SoundOrder {
    /// Fader of everything, 0..=1.
    pub volume: Option<f32>,
    /// Everything silent.
    pub muted: Option<bool>,
    /// All but the focused instance are lower.
    pub dims: Option<bool>,
    /// Their gain then, 0..=1.
    pub dim: Option<f32>,
    /// Each instance stands where its tile is.
    pub placed: Option<bool>,
    /// `default`, `none` or a device's id.
    pub output: Option<String>,
    /// Keep the list of devices fresh.
    pub list: Option<bool>,
}

/// What can be asked for. Instances are named `tile`, since `id` is the request's number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase")]
pub enum Order {
    /// What is on the wall.
    Wall,
    /// Saves the window's content as PNG.
    Screenshot {
        /// Where.
        path: PathBuf,
    },
    /// Gives an instance the focus.
    Focus {
        /// Which.
        tile: InstanceId,
    },
    /// Fixes the number of places.
    Layout {
        /// 1, 4 or 9.
        tiles: usize,
    },
    /// Lets an instance fill the window; null: back to the wall.
    Enlarge {
        /// Which.
        tile: Option<InstanceId>,
    },
    /// Silences an instance, or no longer.
    Mute {
        /// Which.
        tile: InstanceId,
        /// Silent or not.
        muted: bool,
    },
    /// Sets an instance's fader.
    Volume {
        /// Which.
        tile: InstanceId,
        /// 0..=1.
        volume: f32,
    },
    /// Lets an instance be heard alone, or no longer.
    Solo {
        /// Which.
        tile: InstanceId,
        /// Alone or not.
        solo: bool,
    },
    /// Changes the sound as a whole; answers with what it is then.
    Sound(SoundOrder),
    /// Shows or hides the statistics; answers with their text.
    Statistics {
        /// Shown or not.
        shown: bool,
    },
    /// A key, as if the window had given it.
    Key {
        /// Focused first; else the focus as it is.
        #[serde(default)]
        tile: Option<InstanceId>,
        /// Which.
        code: Key,
        /// Down or up.
        pressed: bool,
    },
    /// Pointer input, as if the window had given it.
    Pointer(PointerOrder),
    /// Does what the instance's menu does.
    Act {
        /// Which.
        tile: InstanceId,
        /// What.
        what: Act,
    },
    /// From now on tells of every drawing that touches one of these; replaces what was watched before.
    Watch {
        /// What to watch.
        tiles: Vec<WatchTile>,
    },
    /// Watches nothing any more.
    Unwatch,
    /// Ends the viewer.
    Quit,
}

/// What an instance's menu can do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Open it.
    Menu,
    /// Take the input, whoever has it.
    Take,
    /// Give it back.
    Release,
    /// Press Ctrl+Alt+Del.
    ControlAltDelete,
    /// Let the guest stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Keep how it is, under the name of this moment.
    Snapshot,
    /// Go back to a snapshot.
    Load(String),
    /// Restart QEMU.
    Restart,
    /// Let it be repaired.
    Recover,
    /// Save what was seen before its last repair.
    Evidence,
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    #[serde(flatten)]
    order: Order,
}

/// One order, and where its answer goes.
#[derive(Debug)]
pub struct Request {
    /// The request's number, to be repeated in the answer.
    pub id: u64,
    /// What is asked for.
    pub order: Order,
    /// Where answers go.
    pub reply: Reply,
    /// Which connection it came over.
    pub connection: u64,
}

/// Writes lines to one connection; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reply(mpsc::Sender<String>);

impl Reply {
    /// Sends one line. A reader that does not keep up, or is gone, loses it.
    pub fn line(&self, value: &Value) {
        if self.0.try_send(format!("{value}\n")).is_err() {
            tracing::debug!("an automation line was dropped");
        }
    }

    /// Answers a request.
    pub fn ok(&self, id: u64, value: &Value) {
        self.line(&json!({ "id": id, "ok": value }));
    }

    /// Refuses a request.
    pub fn error(&self, id: u64, why: &str) {
        self.line(&json!({ "id": id, "error": why }));
    }
}

/// Opens the socket, for its owner alone. An old socket at that path is replaced, another file is not.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> Result<UnixListener, ViewError> {
    use std::os::unix::fs::FileTypeExt as _;
    let failed = |source| ViewError::Automation { path: path.to_owned(), source };
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves connections until the task is dropped.
pub async fn serve(listener: UnixListener, post: Post) {
    let counter = AtomicU64::new(0);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(talk(stream, connection, Arc::clone(&post)));
            }
            Err(error) => {
                tracing::warn!(%error, "automation");
                return;
            }
        }
    }
}

async fn talk(stream: UnixStream, connection: u64, post: Post) {
    let (reader, mut writer) = stream.into_split();
    let (sender, mut lines) = mpsc::channel::<String>(MAX_WAITING);
    let write = tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            if writer.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let reply = Reply(sender);
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE).read_line(&mut line).await {
            Ok(0) | Err(_) => break,
            Ok(length) if !line.ends_with('\n') && length as u64 >= MAX_LINE => {
                reply.line(&json!({ "id": null, "error": format!("a line longer than {MAX_LINE} bytes") }));
                break;
            }
            Ok(_) => match parse(&line) {
                Ok((id, order)) => post(Event::Automation(Request { id, order, reply: reply.clone(), connection })),
                Err((id, why)) => reply.line(&json!({ "id": id, "error": why })),
            },
        }
    }
    post(Event::AutomationClosed(connection));
    drop(reply);
    // Ends when the last watch of this connection is gone.
    let _ = write.await;
}

impl Order {
    /// The instances that it names.
    fn tiles(&self) -> Vec<InstanceId> {
        match self {
            Self::Focus { tile }
            | Self::Mute { tile, .. }
            | Self::Volume { tile, .. }
            | Self::Solo { tile, .. }
            | Self::Act { tile, .. } => vec![*tile],
            Self::Enlarge { tile } | Self::Key { tile, .. } => tile.iter().copied().collect(),
            Self::Pointer(pointer) => pointer.tile.iter().copied().collect(),
            Self::Watch { tiles } => tiles.iter().map(|tile| tile.id).collect(),
            Self::Wall
            | Self::Screenshot { .. }
            | Self::Layout { .. }
            | Self::Sound(_)
            | Self::Statistics { .. }
            | Self::Unwatch
            | Self::Quit => Vec::new(),
        }
    }
}

fn parse(line: &str) -> Result<(u64, Order), (Option<u64>, String)> {
    match serde_json::from_str::<Line>(line) {
        Ok(Line { id, order }) => match order.tiles().into_iter().find(|tile| !tile.is_in_grid()) {
            None => Ok((id, order)),
            Some(tile) => {
                let most = InstanceId::COUNT - 1;
                Err((Some(id), format!("{tile} has no place on a wall: allowed are instance-0 to instance-{most}")))
            }
        },
        Err(error) => {
            let id = serde_json::from_str::<Value>(line).ok().and_then(|value| value["id"].as_u64());
            Err((id, error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let id = |n| InstanceId::try_new(n).unwrap();
        let code = "KeyA".parse().unwrap();
        for (text, want) in [
            (r#"{"id":1,"cmd":"wall"}"#, Order::Wall),
            (r#"{"id":1,"cmd":"focus","tile":"instance-3"}"#, Order::Focus { tile: id(3) }),
            (r#"{"id":1,"cmd":"enlarge","tile":null}"#, Order::Enlarge { tile: None }),
            (
                r#"{"id":1,"cmd":"key","tile":"instance-0","code":"KeyA","pressed":true}"#,
                Order::Key { tile: Some(id(0)), code, pressed: true },
            ),
            (
                r#"{"id":1,"cmd":"pointer","motion":[3,-4]}"#,
                Order::Pointer(PointerOrder { motion: Some([3.0, -4.0]), ..PointerOrder::default() }),
            ),
            (r#"{"id":1,"cmd":"act","tile":"instance-1","what":"take"}"#, Order::Act { tile: id(1), what: Act::Take }),
            (
                r#"{"id":1,"cmd":"act","tile":"instance-1","what":{"load":"desk"}}"#,
                Order::Act { tile: id(1), what: Act::Load("desk".into()) },
            ),
            (
                r#"{"id":1,"cmd":"watch","tiles":[{"id":"instance-1","rect":[0,1,2,3]}]}"#,
                Order::Watch { tiles: vec![WatchTile { id: id(1), rect: [0, 1, 2, 3] }] },
            ),
        ] {
            assert_eq!(parse(text), Ok((1, want)), "{text}");
        }
    }

    #[test]
    fn wrong_orders_are_answered_with_their_number_and_reason() {
        for (text, id, part) in [
            (r#"{"id":7,"cmd":"dance"}"#, Some(7), "dance"),
            (r#"{"id":8,"cmd":"focus","tile":"instance-9"}"#, Some(8), "instance-9"),
            (r#"{"cmd":"wall"}"#, None, "id"),
            ("nonsense", None, "expected"),
        ] {
            let Err((got, why)) = parse(text) else { panic!("{text} was taken") };
            assert!(got == id && why.contains(part), "{text}: {got:?} {why}");
        }
    }
}
