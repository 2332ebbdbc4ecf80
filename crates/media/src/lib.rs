//! Both ends of a session: encode, WebRTC, decode, sound, statistics.
//!
//! [`Canvas`] is the guest's picture; [`Sender`] shows it to any number of viewers (signalling is WHEP, see [`whep`]);
//! [`Receiver`] is a viewer's end: it connects, decodes, keeps the newest frame and reconnects for ever.
//! WebRTC's own types stay inside the module `transport`.

pub mod clock;
pub mod config;
pub mod error;
pub mod limits;
mod rate;
mod receiver;
mod sender;
pub mod sound_link;
pub mod stats;
mod transport;
pub mod video;
pub mod whep;

pub use config::{EncoderKind, PortRange, ReceiverConfig, RelayServer, SenderConfig};
pub use error::{MediaError, SendInputError, WhepError};
pub use limits::{Limiter, StreamLimits};
pub use loco_sound as sound;
pub use receiver::{Receiver, SessionState, Wake};
pub use sender::{Sender, SessionId, SessionInput, SessionStats};
pub use stats::{ReceiverStats, SenderStats};
pub use video::{Canvas, FrameTimes, VideoFrame};
