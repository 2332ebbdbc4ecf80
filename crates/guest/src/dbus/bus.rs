//! A message bus with one seat: what QEMU needs of `dbus-daemon`, and no more.
//!
//! QEMU connects, says `Hello`, subscribes to signals about names and asks for the name `org.qemu`, which it does when
//! its objects are there: the request is the sign that it is ready. We stand for the bus *and* for the only other peer,
//! so calls need no forwarding: one process and one hop less than with a daemon.
//!
//! Source: D-Bus Specification, "Message Bus Specification".

use futures::StreamExt as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zbus::message::{Message, Type};
use zbus::{Connection, Guid, MessageStream, connection};

/// The name that QEMU asks for.
const QEMU_NAME: &str = "org.qemu";
/// What we call QEMU.
const PEER: &str = ":1.1";
/// What we are called.
const OURSELVES: &str = ":1.0";
/// `DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER`.
const PRIMARY_OWNER: u32 = 1;
/// `DBUS_RELEASE_NAME_REPLY_RELEASED`.
const RELEASED: u32 = 1;

/// The bus's address before QEMU has come.
#[derive(Debug)]
pub(crate) struct BusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl BusSocket {
    /// Listens at `path`, in a directory that only this user may enter.
    ///
    /// # Errors
    /// When the path is taken or cannot be made.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }

    /// Waits until QEMU has come and its display can be called. EXTERNAL authentication lets in only this user.
    ///
    /// # Errors
    /// When the connection breaks before.
    pub(crate) async fn accept(self) -> zbus::Result<Seat> {
        let (stream, _) = self.listener.accept().await.map_err(super::io_error)?;
        let stream = stream.into_std().map_err(super::io_error)?;
        // One seat.
        let _ = std::fs::remove_file(&self.path);
        let ready = Arc::new(Notify::new());
        let builder = connection::Builder::unix_stream(stream).server(Guid::generate()).p2p().unique_name(OURSELVES);
        let messages = builder.build_message_stream().await?;
        let connection = Connection::from(&messages);
        let serving = AbortOnDrop(tokio::spawn(serve(messages, Arc::clone(&ready))));
        tokio::select! {
            () = ready.notified() => Ok(Seat { connection, _serving: serving }),
            () = connection.closed() => Err(super::io_error(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

/// QEMU on its seat; the bus ends when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) connection: Connection,
    _serving: AbortOnDrop,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers calls to the bus until QEMU is gone.
async fn serve(mut messages: MessageStream, ready: Arc<Notify>) {
    let connection = Connection::from(&messages);
    while let Some(Ok(message)) = messages.next().await {
        if message.message_type() != Type::MethodCall {
            continue;
        }
        if let Err(error) = answer(&connection, &message, &ready).await {
            tracing::warn!(%error, "bus: a call of QEMU could not be answered");
        }
    }
}

async fn answer(connection: &Connection, message: &Message, ready: &Notify) -> zbus::Result<()> {
    let header = message.header();
    let wants_reply = !message.primary_header().flags().contains(zbus::message::Flags::NO_REPLY_EXPECTED);
    let member = header.member().map_or("", |name| name.as_str());
    let body = message.body();
    match member {
        "Hello" => connection.reply(&header, &PEER).await?,
        "RequestName" => {
            let (name, _flags): (&str, u32) = body.deserialize()?;
            connection.reply(&header, &PRIMARY_OWNER).await?;
            if name == QEMU_NAME {
                ready.notify_one();
            }
        }
        "ReleaseName" => connection.reply(&header, &RELEASED).await?,
        "NameHasOwner" => connection.reply(&header, &owner(body.deserialize()?).is_some()).await?,
        "GetNameOwner" => {
            let name: &str = body.deserialize()?;
            match owner(name) {
                Some(owner) => connection.reply(&header, &owner).await?,
                None => {
                    let error = "org.freedesktop.DBus.Error.NameHasNoOwner";
                    connection.reply_error(&header, error, &format!("{name} has no owner")).await?;
                }
            }
        }
        // Nothing is filtered, and no name ever changes its owner.
        "AddMatch" | "RemoveMatch" => {
            if wants_reply {
                connection.reply(&header, &()).await?;
            }
        }
        _ => {
            tracing::debug!(member, "bus: QEMU calls what this bus does not have");
            if wants_reply {
                let error = "org.freedesktop.DBus.Error.UnknownMethod";
                connection.reply_error(&header, error, &format!("{member}: not on this bus")).await?;
            }
        }
    }
    Ok(())
}

fn owner(name: &str) -> Option<&str> {
    match name {
        "org.freedesktop.DBus" | OURSELVES => Some(name),
        QEMU_NAME | PEER => Some(PEER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_gets_on_the_bus() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("bus.sock");
        let socket = BusSocket::bind(&path).expect("bind");
        let address = format!("unix:path={}", path.display());
        let builder = connection::Builder::address(address.as_str());
        let peer = async {
            let peer = builder.build().await.expect("Hello");
            peer.request_name(QEMU_NAME).await.expect("the name");
            peer
        };
        let (seat, peer) = tokio::join!(socket.accept(), peer);
        let seat = seat.expect("seat");
        assert_eq!(peer.unique_name().map(|name| name.as_str()), Some(PEER));
        assert!(!path.exists(), "one seat");
        drop(peer);
        seat.connection.closed().await;
    }
}
