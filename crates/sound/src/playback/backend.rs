//! The system's sound, by cpal: which devices there are, and opening one.

use super::feed::Source;
use super::{DeviceInfo, Output};
use crate::{CHANNELS, RATE_HZ};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, FrameCount, SupportedBufferSize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Frames a callback is asked to be: 10 ms. It is always asked for, since PulseAudio's own choice is 2 s. Half of it costs
/// nearly twice the time.
pub(super) const CALLBACK_FRAMES: FrameCount = 480;
/// What is asked for at most, where a sound server leaves out callbacks: 40 ms.
pub(super) const MOST_CALLBACK_FRAMES: FrameCount = 1920;
/// How long building a stream may take.
const BUILD_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream that plays until it is dropped. Dropping can take for ever: do it on a thread of its own.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Send>,
    pub(super) id: String,
    /// The device's name and the system's part that it belongs to.
    pub(super) name: String,
    pub(super) rate_hz: u32,
}

/// Called when a stream ends by itself, with the reason.
pub(super) type OnEnd = Arc<dyn Fn(String) + Send + Sync>;

/// What to open.
pub(super) struct Order {
    pub(super) output: Output,
    /// Size of a callback.
    pub(super) frames: FrameCount,
}

/// How things are now, as far as the system says.
pub(super) struct Seen {
    /// The default device.
    pub(super) default: Option<String>,
    /// Whether the device that was asked about is there.
    pub(super) present: Option<bool>,
}

/// What plays. All calls can block for as long as a sound server likes.
pub(super) trait Backend: Send {
    /// Opens the output as number `number` of `source`.
    fn open(&mut self, order: &Order, source: &Source, number: u64, on_end: OnEnd) -> Result<Opened, String>;
    /// Output devices.
    fn devices(&mut self) -> Result<Vec<DeviceInfo>, String>;
    /// The default device, and whether a chosen one is there.
    fn look(&mut self, output: &Output) -> Seen;
}

/// cpal: PulseAudio (and PipeWire through its PulseAudio part) before ALSA on Linux, WASAPI, CoreAudio.
///
/// PipeWire's own host is cpal's feature `pipewire`; it needs libpipewire's headers and libclang to build, and is tried
/// before PulseAudio when it is there.
pub(super) struct System {
    /// The host that the current stream is on: asking for the default device needs no new connection.
    host: Option<cpal::Host>,
}

impl System {
    pub(super) fn new() -> Self {
        Self { host: None }
    }
}

impl Backend for System {
    fn open(&mut self, order: &Order, source: &Source, number: u64, on_end: OnEnd) -> Result<Opened, String> {
        self.host = None;
        let mut reasons = Vec::new();
        // A new host every time: one whose server ended never works again.
        for id in hosts() {
            let opened = cpal::host_from_id(id).map_err(|e| e.to_string()).and_then(|host| {
                let device = device(&host, &order.output)?;
                Ok((open(&device, id, order.frames, source, number, on_end.clone())?, host))
            });
            match opened {
                Ok((opened, host)) => {
                    self.host = Some(host);
                    return Ok(opened);
                }
                Err(reason) => reasons.push(format!("{}: {reason}", id.name())),
            }
        }
        if reasons.is_empty() {
            return Err("neither a sound server nor a sound card was found".into());
        }
        Err(reasons.join("; "))
    }

    fn devices(&mut self) -> Result<Vec<DeviceInfo>, String> {
        let mut found = Vec::new();
        let mut reasons = Vec::new();
        for id in hosts() {
            let listed = cpal::host_from_id(id).and_then(|host| {
                let default = host.default_output_device().and_then(|d| d.id().ok());
                Ok((host.output_devices()?.collect::<Vec<_>>(), default))
            });
            match listed {
                Ok((devices, default)) => {
                    let first = found.is_empty();
                    found.extend(devices.iter().filter_map(|device| {
                        let id = device.id().ok()?;
                        let name = device.description().ok()?.name().to_owned();
                        Some(DeviceInfo { default: first && Some(&id) == default.as_ref(), id: id.to_string(), name })
                    }));
                }
                Err(error) => reasons.push(format!("{}: {error}", id.name())),
            }
        }
        if found.is_empty() && !reasons.is_empty() { Err(reasons.join("; ")) } else { Ok(found) }
    }

    fn look(&mut self, output: &Output) -> Seen {
        let default =
            self.host.as_ref().and_then(|host| host.default_output_device()?.id().ok()).map(|id| id.to_string());
        let present = match output {
            Output::Device(wanted) => self.host.as_ref().and_then(|host| {
                let mut devices = host.output_devices().ok()?;
                Some(devices.any(|device| is(&device, wanted)))
            }),
            Output::Default | Output::Null => None,
        };
        Seen { default, present }
    }
}

/// Hosts worth asking. ALSA only where there is a card or a configuration: without, every try prints to stderr.
fn hosts() -> Vec<cpal::HostId> {
    let mut hosts = cpal::available_hosts();
    if cfg!(target_os = "linux") && !alsa_is_set_up() {
        hosts.retain(|host| host.name() != "ALSA");
    }
    hosts
}

fn alsa_is_set_up() -> bool {
    let has_card = std::fs::read_dir("/dev/snd").is_ok_and(|entries| {
        entries.flatten().any(|e| {
            let name = e.file_name();
            let name = name.to_string_lossy();
            name.starts_with("pcm") && name.ends_with('p')
        })
    });
    let own = std::env::home_dir().is_some_and(|home| home.join(".asoundrc").exists());
    has_card || own || Path::new("/etc/asound.conf").exists() || std::env::var_os("ALSA_CONFIG_PATH").is_some()
}

fn is(device: &cpal::Device, wanted: &str) -> bool {
    device.id().is_ok_and(|id| id.to_string() == wanted)
}

fn device(host: &cpal::Host, output: &Output) -> Result<cpal::Device, String> {
    match output {
        Output::Device(wanted) => host
            .output_devices()
            .map_err(|e| e.to_string())?
            .find(|device| is(device, wanted))
            .ok_or_else(|| format!("no device {wanted}")),
        Output::Default | Output::Null => host.default_output_device().ok_or_else(|| "no output device".into()),
    }
}

fn open(
    device: &cpal::Device,
    host: cpal::HostId,
    frames: FrameCount,
    source: &Source,
    number: u64,
    on_end: OnEnd,
) -> Result<Opened, String> {
    let default = device.default_output_config().map_err(|e| e.to_string())?;
    let serves_us = device
        .supported_output_configs()
        .is_ok_and(|mut configs| configs.any(|c| usize::from(c.channels()) == CHANNELS && c.contains_rate(RATE_HZ)));
    let (channels, rate_hz) =
        if serves_us { (CHANNELS as u16, RATE_HZ) } else { (default.channels(), default.sample_rate()) };
    let frames = match default.buffer_size() {
        SupportedBufferSize::Range { min, max } => frames.clamp(*min, (*max).max(*min)),
        SupportedBufferSize::Unknown => frames,
    };
    let config = cpal::StreamConfig { channels, sample_rate: rate_hz, buffer_size: BufferSize::Fixed(frames) };

    let mut feed = source.feed(number, usize::from(channels), rate_hz).map_err(|e| e.to_string())?;
    let callback = move |out: &mut [f32], info: &cpal::OutputCallbackInfo| {
        let times = info.timestamp();
        let latency = times.playback.checked_duration_since(times.callback).filter(|l| !l.is_zero());
        feed.fill(out, latency);
    };
    let ended = move |error: cpal::Error| match error.kind() {
        // These come and go; the stream goes on.
        ErrorKind::Xrun | ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => {
            tracing::debug!(%error, "sound device");
        }
        _ => on_end(error.to_string()),
    };
    let stream = device
        .build_output_stream::<f32, _, _>(config, callback, ended, Some(BUILD_TIMEOUT))
        .map_err(|e| e.to_string())?;
    stream.play().map_err(|e| e.to_string())?;
    let name = device.description().map_or_else(|_| "unnamed".to_owned(), |d| d.name().to_owned());
    Ok(Opened {
        stream: Box::new(stream),
        id: device.id().map(|id| id.to_string()).unwrap_or_default(),
        name: format!("{name} ({})", host.name()),
        rate_hz,
    })
}
