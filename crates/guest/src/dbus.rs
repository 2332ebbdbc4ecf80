//! QEMU's D-Bus display: the first backend for picture, sound and input.
//!
//! Source: `ui/dbus-display1.xml` of QEMU. QEMU wants a message bus to connect to (peer to peer with sound crashes
//! QEMU 7.2), so [`bus`] is one, for this one guest: no `dbus-daemon` needed. Picture and sound come over connections of
//! their own, so that neither waits for the other or for input.

mod bus;
mod display;
mod halve;
mod memory;
mod sound;

pub(crate) use bus::{BusSocket, Seat};

use crate::backend::Injector;
use crate::shared::Shared;
use async_trait::async_trait;
use futures::StreamExt as _;
use loco_model::Size;
use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use zbus::message::{Message, Type};
use zbus::names::MemberName;
use zbus::{Connection, Fd, OwnedVariant, Variant, connection};

#[zbus::proxy(
    interface = "org.qemu.Display1.Keyboard",
    default_service = "org.qemu",
    default_path = "/org/qemu/Display1/Console_0"
)]
trait Keyboard {
    fn press(&self, keycode: u32) -> zbus::Result<()>;
    fn release(&self, keycode: u32) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.qemu.Display1.Mouse",
    default_service = "org.qemu",
    default_path = "/org/qemu/Display1/Console_0"
)]
trait Mouse {
    fn press(&self, button: u32) -> zbus::Result<()>;
    fn release(&self, button: u32) -> zbus::Result<()>;
    fn rel_motion(&self, dx: i32, dy: i32) -> zbus::Result<()>;
    fn set_abs_position(&self, x: u32, y: u32) -> zbus::Result<()>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn is_absolute(&self) -> zbus::Result<bool>;
}

/// A guest whose picture, sound and input are attached. Ends its connections when dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) injector: Arc<dyn Injector>,
    /// End with it: the picture, the sound, and the pointer's mode.
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _seat: Seat,
}

impl Drop for Attached {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Attaches to the QEMU at the other end of `bus`.
pub(crate) async fn attach(seat: Seat, shared: &Arc<Shared>, with_sound: bool) -> zbus::Result<Attached> {
    let mut tasks = Vec::with_capacity(3);
    let bus = seat.connection.clone();
    let mouse = MouseProxy::builder(&bus).cache_properties(zbus::proxy::CacheProperties::No).build().await?;
    // Whoever follows changes must begin before asking for the value.
    tasks.push(tokio::spawn(follow_properties(zbus::MessageStream::from(&bus), Arc::clone(shared))));
    shared.pointer_mode(mouse.is_absolute().await?);

    let listener = display::register(&bus, 0).await?;
    tasks.push(tokio::spawn(display::serve(bus.clone(), listener, Arc::clone(shared))));

    if with_sound {
        let stream = sound::register(&bus, 0).await?;
        tasks.push(tokio::spawn(sound::keep(bus.clone(), stream, Arc::clone(shared))));
    }
    let keyboard = KeyboardProxy::new(&bus).await?;
    Ok(Attached { injector: Arc::new(DbusInjector { keyboard, mouse }), tasks, _seat: seat })
}

fn io_error(error: io::Error) -> zbus::Error {
    zbus::Error::InputOutput(Arc::new(error))
}

/// What a listener is registered for.
struct Listening {
    /// Last part of the object's path.
    object: &'static str,
    /// Last part of the interface's name.
    interface: &'static str,
    method: &'static str,
}

/// Registers a listener with QEMU: the connection that it sends to. Every registration is of a peer of its own on the
/// bus, `number`, since QEMU allows one listener to each.
async fn register(bus: &Connection, number: u32, listening: Listening) -> zbus::Result<zbus::MessageStream> {
    let (ours, theirs) = UnixStream::pair().map_err(io_error)?;
    let Listening { object, interface, method } = listening;
    let call = Message::method_call(format!("/org/qemu/Display1/{object}"), method)
        .destination("org.qemu")
        .interface(format!("org.qemu.Display1.{interface}"))
        .sender(format!(":1.{number}"))
        .with_flags(zbus::message::Flags::NO_REPLY_EXPECTED)
        .build(&(Fd::from(&theirs),))?;
    bus.send(&call).await?;
    drop((call, theirs));
    // QEMU's answer is that it greets us; it hangs up when it refuses.
    peer(ours).await
}

/// A connection to QEMU over a socket pair, as the stream of its messages: none is lost before the stream exists.
async fn peer(socket: UnixStream) -> zbus::Result<zbus::MessageStream> {
    connection::Builder::unix_stream(socket).p2p().build_message_stream().await
}

/// Answers what QEMU asks a listener for before it sends anything: its properties. `interfaces` are those that it has
/// beyond the common one; a QEMU that does not know one passes over it.
async fn answer_properties(connection: &Connection, message: &Message, interfaces: &[&str]) -> zbus::Result<bool> {
    let header = message.header();
    if header.interface().is_none_or(|name| name.as_str() != "org.freedesktop.DBus.Properties") {
        return Ok(false);
    }
    let names: Vec<String> = interfaces.iter().map(|&name| name.to_owned()).collect();
    let interfaces = || OwnedVariant::try_from(Variant::from(names.clone()));
    match header.member().map(MemberName::as_str) {
        Some("GetAll") => {
            let all = HashMap::from([("Interfaces", interfaces()?)]);
            connection.reply(&header, &all).await?;
        }
        Some("Get") => connection.reply(&header, &interfaces()?).await?,
        _ => connection.reply_error(&header, "org.freedesktop.DBus.Error.UnknownMethod", &"read only").await?,
    }
    Ok(true)
}

/// Replies to a call that wants it: QEMU's own calls to listeners do not.
async fn done(connection: &Connection, message: &Message) -> zbus::Result<()> {
    let no_reply = zbus::message::Flags::NO_REPLY_EXPECTED;
    if message.message_type() == Type::MethodCall && !message.primary_header().flags().contains(no_reply) {
        connection.reply(&message.header(), &()).await?;
    }
    Ok(())
}

async fn follow_properties(mut messages: zbus::MessageStream, shared: Arc<Shared>) {
    let (mut width, mut height) = (None, None);
    while let Some(Ok(message)) = messages.next().await {
        if message.message_type() != Type::Signal
            || message.header().member().is_none_or(|name| name.as_str() != "PropertiesChanged")
        {
            continue;
        }
        let body = message.body();
        let Ok((interface, changed, _)) = body.deserialize::<(&str, HashMap<&str, Variant<'_>>, Vec<&str>)>() else {
            continue;
        };
        match interface {
            "org.qemu.Display1.Mouse" => {
                if let Some(Variant::Bool(absolute)) = changed.get("IsAbsolute") {
                    shared.pointer_mode(*absolute);
                }
            }
            "org.qemu.Display1.Console" => {
                let side = |name| match changed.get(name) {
                    Some(Variant::U32(side)) => Some(*side),
                    _ => None,
                };
                (width, height) = (side("Width").or(width), side("Height").or(height));
                if let (Some(width), Some(height)) = (width, height) {
                    shared.announced.send_replace(Some(Size::new(width, height)));
                }
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
struct DbusInjector {
    keyboard: KeyboardProxy<'static>,
    mouse: MouseProxy<'static>,
}

#[async_trait]
impl Injector for DbusInjector {
    async fn key(&self, number: u32, pressed: bool) -> io::Result<()> {
        let done = if pressed { self.keyboard.press(number).await } else { self.keyboard.release(number).await };
        done.map_err(io::Error::other)
    }

    async fn button(&self, number: u32, pressed: bool) -> io::Result<()> {
        let done = if pressed { self.mouse.press(number).await } else { self.mouse.release(number).await };
        done.map_err(io::Error::other)
    }

    async fn motion(&self, dx: i32, dy: i32) -> io::Result<()> {
        self.mouse.rel_motion(dx, dy).await.map_err(io::Error::other)
    }

    async fn position(&self, x: u32, y: u32) -> io::Result<()> {
        self.mouse.set_abs_position(x, y).await.map_err(io::Error::other)
    }
}
