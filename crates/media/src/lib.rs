//! Both ends of a session: encode, WebRTC, decode, sound, statistics.
pub mod sound;
