//! What the viewer needs of a connection to one instance, apart from how it is made: the real one is
//! [`loco_media::Receiver`]; tests and demonstrations give their own.

use loco_media::sound::{PacketWriter, Reader};
use loco_media::sound_link::{PacketSink, ReceivedPacket};
use loco_media::{
    Receiver, ReceiverConfig, ReceiverStats, RelayServer, SendInputError, SessionState, VideoFrame, Wake,
};
use loco_model::api::Endpoints;
use loco_model::input::{KeysEvent, Pointer};
use loco_model::usage::VIEWER_HEADER;
use loco_model::{InstanceId, Size};
use std::sync::Arc;
use std::time::Instant;

/// A decoded picture: I420, BT.601, limited range.
pub trait Picture: Send {
    /// Width and height of the luma plane; chroma has half of both, rounded up.
    fn size(&self) -> Size;
    /// Plane 0 (Y), 1 (U) or 2 (V): bytes, and how many from one row to the next.
    fn plane(&self, index: usize) -> (&[u8], usize);
    /// When the decoder was done.
    fn decoded(&self) -> Instant;
    /// When it was captured, as an RTP timestamp by the agent's clock.
    fn captured(&self) -> u32;
}

impl Picture for VideoFrame {
    fn size(&self) -> Size {
        Self::size(self)
    }

    fn plane(&self, index: usize) -> (&[u8], usize) {
        match index {
            0 => self.y(),
            1 => self.u(),
            _ => self.v(),
        }
    }

    fn decoded(&self) -> Instant {
        self.times.decoded
    }

    fn captured(&self) -> u32 {
        self.times.timestamp
    }
}

/// One connection; ends when dropped. No call blocks.
pub trait Session: Send {
    /// The newest picture, once.
    fn take_picture(&self) -> Option<Box<dyn Picture>>;
    /// Where it is.
    fn state(&self) -> SessionState;
    /// Sends what must not be lost.
    ///
    /// # Errors
    /// When there is no session, or it does not take it fast enough.
    fn send_keys(&self, event: KeysEvent) -> Result<(), SendInputError>;
    /// Sends where the pointer is.
    ///
    /// # Errors
    /// When there is no session, or it does not take it fast enough.
    fn send_pointer(&self, pointer: Pointer) -> Result<(), SendInputError>;
    /// What it saw so far.
    fn stats(&self) -> ReceiverStats;
    /// The agent is known to be back: try at once.
    fn reconnect_now(&self);
}

impl Session for Receiver {
    fn take_picture(&self) -> Option<Box<dyn Picture>> {
        self.take_frame().map(|frame| Box::new(frame) as Box<dyn Picture>)
    }

    fn state(&self) -> SessionState {
        Self::state(self)
    }

    fn send_keys(&self, event: KeysEvent) -> Result<(), SendInputError> {
        Self::send_keys(self, event)
    }

    fn send_pointer(&self, pointer: Pointer) -> Result<(), SendInputError> {
        Self::send_pointer(self, pointer)
    }

    fn stats(&self) -> ReceiverStats {
        Self::stats(self)
    }

    fn reconnect_now(&self) {
        Self::reconnect_now(self);
    }
}

/// A new connection and its sound.
pub struct Opened {
    /// Pictures and input.
    pub session: Box<dyn Session>,
    /// What the mixer reads; `None` where there is none.
    pub sound: Option<Reader>,
}

/// Makes connections.
pub trait Connector {
    /// Connects to an instance; `wake` may be called from any thread.
    fn open(&self, id: InstanceId, endpoints: &Endpoints, wake: Arc<dyn Fn(Wake) + Send + Sync>) -> Opened;
}

/// Connects by WHEP.
pub struct WhepConnector {
    /// Runs the sessions.
    pub runtime: tokio::runtime::Handle,
    /// The token that agents take.
    pub tokens: loco_http::TokenFile,
    /// Carries the media where no direct way is open.
    pub relay: Option<RelayServer>,
    /// This viewer's id, by which agents know whose input it is.
    pub viewer: String,
}

impl Connector for WhepConnector {
    fn open(&self, id: InstanceId, endpoints: &Endpoints, wake: Arc<dyn Fn(Wake) + Send + Sync>) -> Opened {
        let mut config = ReceiverConfig::new(endpoints.whep.clone());
        // The token is wanted bare there; `authorization` is the only way to see it.
        config.token = self.tokens.current().authorization().strip_prefix("Bearer ").map(str::to_owned);
        config.relay.clone_from(&self.relay);
        config.headers.push((VIEWER_HEADER.to_owned(), self.viewer.clone()));
        let sound = match loco_media::sound::packet_ring() {
            Ok((writer, reader)) => {
                config.sound = Some(Box::new(SoundSink(writer)));
                Some(reader)
            }
            Err(error) => {
                tracing::warn!(%id, %error, "no sound from this instance");
                None
            }
        };
        Opened { session: Box::new(Receiver::spawn(&self.runtime, config, wake)), sound }
    }
}

/// Puts a session's packets into the mixer's ring.
struct SoundSink(PacketWriter);

impl PacketSink for SoundSink {
    fn packet(&mut self, packet: ReceivedPacket) {
        // A full ring and a packet too long are counted by the ring itself.
        let _ = self.0.push(packet.sequence, packet.timestamp, packet.starts, &packet.payload);
    }

    fn reset(&mut self) {
        self.0.new_session();
    }
}
