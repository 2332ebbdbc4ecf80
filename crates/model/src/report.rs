//! An agent's health report. Field names are those that operators of the earlier system know; every value comes
//! from a counter or a probe, and what is unknown is null.

use crate::instance::InstanceId;
use serde::{Deserialize, Serialize};

/// So begins the line among [`DeepHealth::faults`] of a guest that is `paused` though nobody wants it to: QEMU holds it for
/// an error of its disk.
pub const HELD: &str = "QEMU holds the guest";

/// In one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OverallStatus {
    /// Everything that was probed is well.
    Healthy,
    /// Works, but something is worse than it should be.
    Degraded,
    /// Does not work.
    Unhealthy,
    /// Not probed yet.
    #[default]
    Unknown,
}

/// Body of an agent's `GET /health`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    /// Whose report; null for an agent that is no one's instance.
    pub instance_id: Option<InstanceId>,
    /// In one word.
    pub overall_status: OverallStatus,
    /// In depth.
    pub deep_health: DeepHealth,
    /// When it was made, in milliseconds since 1970 UTC.
    pub timestamp_ms: u64,
}

/// The report's depth. Field names within are snake_case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeepHealth {
    /// QEMU runs and its monitor answers; null before the first probe.
    pub qemu_healthy: Option<bool>,
    /// The guest's state in one word: `starting`, `running`, `paused`, `stopping`, `stopped`, `failed`.
    pub guest_state: String,
    /// Why the guest is so, for a person; null when there is nothing to say.
    pub guest_reason: Option<String>,
    /// When QEMU was last started, in milliseconds since 1970 UTC.
    pub guest_started_at_ms: Option<u64>,
    /// How often QEMU was started again because it had exited unasked.
    pub guest_restarts: u64,
    /// Accelerator in use (`tcg`, `kvm`, …) and why it was taken.
    pub accelerator: Option<Accelerator>,
    /// Picture.
    pub video: VideoHealth,
    /// Sound.
    pub audio: AudioHealth,
    /// Processor and memory.
    pub performance: PerformanceHealth,
    /// The people who watch.
    pub viewers: Vec<ViewerHealth>,
    /// Whether the guest stands still though it should run: its QEMU was stopped, or its processor hangs. Never true for a
    /// desktop on which nothing moves; null while QEMU does not run.
    #[serde(default)]
    pub frozen: Option<bool>,
    /// How that was found, for a person; null while it is not frozen.
    #[serde(default)]
    pub frozen_reason: Option<String>,
    /// Which of the agent's own loops gives no sign of life; null while all do.
    #[serde(default)]
    pub agent_stuck: Option<String>,
    /// What else the agent itself sees to be wrong, one line each.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The guest's network card and segment.
    #[serde(default)]
    pub network: NetworkHealth,
    /// How much of the machine it may take.
    #[serde(default, rename = "use")]
    pub usage: UseHealth,
}

/// The guest's network card and segment. A mode that has no such thing leaves it null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct NetworkHealth {
    /// How the guest is joined to others: `user`, `mesh`, `bridge` …; null when it has no card.
    pub mode: Option<String>,
    /// The bridge is up; null where there is none.
    pub bridge_up: Option<bool>,
    /// The guest's end of the segment (a TAP device, a mesh socket) is up; null where there is none.
    pub tap_up: Option<bool>,
    /// Frames that the guest sent since the agent's start.
    pub tx_packets: Option<u64>,
    /// Frames that the guest was given.
    pub rx_packets: Option<u64>,
    /// Bytes that the guest sent.
    pub tx_bytes: Option<u64>,
    /// Bytes that the guest was given.
    pub rx_bytes: Option<u64>,
    /// Frames of the guest that could not be sent.
    pub tx_errors: Option<u64>,
    /// Frames that could not be given to the guest.
    pub rx_errors: Option<u64>,
}

/// How much of the machine an instance may take: what was ordered by `PUT /use`, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct UseHealth {
    /// Whether someone uses it, as the control plane said; null while no word of it holds.
    pub in_use: Option<bool>,
    /// Most frames a second; null while uncapped.
    pub max_fps: Option<u32>,
    /// Most bits a second; null while uncapped.
    pub max_bit_rate: Option<u32>,
    /// How its CPU is given away: `cgroup`, `affinity` or `none`; null while it is not.
    pub how: Option<String>,
    /// The viewer whose input is taken; null: everyone's.
    pub input_holder: Option<String>,
}

/// Accelerator in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Accelerator {
    /// QEMU's name for it.
    pub name: String,
    /// Why this one.
    pub reason: String,
}

/// Picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VideoHealth {
    /// The guest's display is attached.
    pub display_active: Option<bool>,
    /// Guest's resolution in pixels.
    pub width: Option<u32>,
    /// Guest's resolution in pixels.
    pub height: Option<u32>,
    /// Frames encoded a second, over the last few seconds, from the encoder's counter; null without a viewer.
    pub estimated_frame_rate: Option<f64>,
    /// Display updates that changed at least one pixel, since the agent's start.
    pub damage_updates: u64,
    /// Milliseconds since the last of these; null before the first.
    pub last_damage_age_ms: Option<u64>,
    /// Frames encoded since the agent's start.
    pub frames_encoded: u64,
    /// Encoded bytes since the agent's start.
    pub bytes_encoded: u64,
    /// Encoder in use.
    pub encoder: Option<String>,
    /// Display backend in use: `dbus`.
    pub display: Option<String>,
    /// Why nothing can be encoded; null while it can.
    #[serde(default)]
    pub encoder_fault: Option<String>,
    /// A VNC server can be connected to; null where there is none.
    #[serde(default)]
    pub vnc_available: Option<bool>,
    /// Its port; null where there is none, or only a private socket.
    #[serde(default)]
    pub vnc_port: Option<u16>,
}

/// Sound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AudioHealth {
    /// Sound backend in use: `dbus`; null when the profile has none.
    pub audio_backend: Option<String>,
    /// Voices that the guest has open.
    pub voices: u32,
    /// Peak of the last second in dB of full scale; null while no voice plays.
    pub estimated_level: Option<f64>,
    /// Opus packets sent since the agent's start.
    pub packets_encoded: u64,
    /// Times that the guest's sound stopped in the middle for over 100 ms, since the agent's start.
    #[serde(default)]
    pub underruns: u64,
    /// The guest's sound is attached; null while QEMU does not run, and when the profile has none.
    #[serde(default)]
    pub sound_active: Option<bool>,
    /// A PulseAudio server runs beside the guest; null where sound does not go through one.
    #[serde(default)]
    pub pulse_running: Option<bool>,
    /// Sinks of that server.
    #[serde(default)]
    pub audio_devices: Option<u32>,
    /// Sound cards of the system that the guest plays through; null where it plays through none.
    #[serde(default)]
    pub alsa_devices: Option<u32>,
}

/// Processor and memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PerformanceHealth {
    /// The agent's own share of one core, 0..; null before the second sample.
    pub agent_cpu: Option<f64>,
    /// The agent's resident memory in bytes.
    pub agent_memory_bytes: Option<u64>,
    /// QEMU's share of one core.
    pub qemu_cpu: Option<f64>,
    /// QEMU's resident memory in bytes.
    pub qemu_memory_bytes: Option<u64>,
    /// QEMU's process id.
    pub qemu_pid: Option<u32>,
    /// The machine's load averages over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// CPU in use where the agent runs, in percent of what it may take (its cgroup's quota, else the machine); null before
    /// the second sample.
    #[serde(default)]
    pub cpu_usage: Option<f64>,
    /// Memory in use there, in percent of what it may take.
    #[serde(default)]
    pub memory_usage: Option<f64>,
    /// Resident memory of QEMU in percent of what it may take.
    #[serde(default)]
    pub qemu_memory: Option<f64>,
    /// Cores that its cgroup lets it take; null where none sets a limit.
    #[serde(default)]
    pub cpu_limit: Option<f64>,
    /// Bytes of memory that its cgroup lets it take; null where none sets a limit.
    #[serde(default)]
    pub memory_limit_bytes: Option<u64>,
}

/// One viewer's session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ViewerHealth {
    /// The session's id, as in its WHEP resource.
    pub session: String,
    /// Connection state in one word: `new`, `connecting`, `connected`, `disconnected`, `failed`, `closed`.
    pub state: String,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Video codec in use.
    pub video_codec: Option<String>,
    /// Frames sent.
    pub frames_sent: u64,
    /// Payload bytes of all UDP datagrams or TCP segments sent to it, as far as the transport counts them.
    pub bytes_sent: Option<u64>,
    /// Key frames it asked for.
    pub key_frames_requested: u64,
    /// RTP packets sent again on its request.
    pub retransmissions: Option<u64>,
    /// Round trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// How it is reached, in a word: `UDP, direct`, `TCP` or `relayed`; null before it is.
    #[serde(default)]
    pub path: Option<String>,
    /// Its address and port, as seen from the agent.
    #[serde(default)]
    pub address: Option<String>,
    /// What limits its picture, in a word: `still`, `network`, `encoder`, `viewer` or `setting`; null before the first.
    #[serde(default)]
    pub limited_by: Option<String>,
    /// Bits a second that its path carries, as the agent estimates; null before it is connected.
    #[serde(default)]
    pub target_bit_rate: Option<u32>,
    /// Bits a second that arrived lately, by its own reports; null where it does not report.
    #[serde(default)]
    pub received_bit_rate: Option<u32>,
    /// Queue on the way in milliseconds; null where it does not report.
    #[serde(default)]
    pub queue_ms: Option<f64>,
    /// Share of packets lost lately; null while too few were sent to tell.
    #[serde(default)]
    pub loss: Option<f64>,
}
