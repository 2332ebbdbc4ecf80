//! Both ends of a session: encode, WebRTC, decode, sound, statistics.
