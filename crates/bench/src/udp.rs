//! Every UDP byte that processes send, seen from outside (Linux).
//!
//! Counters inside a WebRTC stack know media; they forget STUN, RTCP and DTLS. A packet socket sees all of it. It needs
//! `CAP_NET_RAW`; whoever lacks it gets a clear error, never a smaller number.

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ethernet protocol number of IPv4. Asking for one protocol instead of all has the kernel deliver each loopback packet
/// once, as received, and not a second time as sent (packet(7)).
const ETH_P_IP: u16 = 0x0800;

/// Counts the UDP payload of packets from the given ports, on all interfaces, from its start to [`Capture::finish`].
/// Ends when dropped.
pub struct Capture {
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<io::Result<Traffic>>>,
    begun: Instant,
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// By source port: datagrams, and bytes behind their UDP headers.
    pub by_port: BTreeMap<u16, (u64, u64)>,
    /// How long was counted.
    pub seconds: f64,
}

impl Traffic {
    /// Payload that was sent from `ports`, in kbit/s.
    #[must_use]
    pub fn kbit_per_s(&self, ports: &BTreeSet<u16>) -> f64 {
        let bytes: u64 = self.by_port.iter().filter(|(port, _)| ports.contains(port)).map(|(_, sent)| sent.1).sum();
        bytes as f64 * 8.0 / 1000.0 / self.seconds
    }

    /// Whether any datagram from `ports` was seen. A session is never silent for long: one that was not seen goes another
    /// way, and is not cheap.
    #[must_use]
    pub fn saw(&self, ports: &BTreeSet<u16>) -> bool {
        self.by_port.keys().any(|port| ports.contains(port))
    }

    /// Datagrams per second that were sent from all ports.
    #[must_use]
    pub fn packets_per_s(&self) -> f64 {
        self.by_port.values().map(|sent| sent.0).sum::<u64>() as f64 / self.seconds
    }
}

impl Capture {
    /// Starts counting.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW` ([`io::ErrorKind::PermissionDenied`]), or when no thread can be started.
    pub fn start(source_ports: BTreeSet<u16>) -> io::Result<Self> {
        let protocol = NonZeroU32::new(u32::from(ETH_P_IP.to_be())).map(Protocol::from_raw);
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?;
        // The loop looks at the flag at least this often; packets are never waited for longer.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(100)))?;
        sockopt::set_socket_recv_buffer_size(&socket, 8 << 20)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let worker = std::thread::Builder::new()
            .name("udp-capture".to_owned())
            .spawn(move || count(&socket, &source_ports, &flag))?;
        Ok(Self { stop, worker: Some(worker), begun: Instant::now() })
    }

    /// Stops and tells what was sent.
    ///
    /// # Errors
    /// When reading failed meanwhile.
    pub fn finish(mut self) -> io::Result<Traffic> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Relaxed);
        let panicked = || io::Error::other("the capture's thread panicked");
        let counted = self.worker.take().map(JoinHandle::join).ok_or_else(panicked)?.map_err(|_| panicked())??;
        Ok(Traffic { seconds, ..counted })
    }
}

fn count(socket: &OwnedFd, source_ports: &BTreeSet<u16>, stop: &AtomicBool) -> io::Result<Traffic> {
    let mut traffic = Traffic::default();
    // Headers are enough: the payload's length stands in the UDP header. Fragments do not occur below the path's MTU.
    let mut packet = [0; 128];
    loop {
        // Once told to stop, only what is in the queue already is read.
        let stopping = stop.load(Relaxed);
        let flags = if stopping { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        match recv(socket, &mut packet, flags) {
            Ok((length, _)) => {
                if let Some((port, payload)) = udp_of(&packet[..length])
                    && source_ports.contains(&port)
                {
                    let sent = traffic.by_port.entry(port).or_default();
                    sent.0 += 1;
                    sent.1 += u64::from(payload);
                }
            }
            Err(rustix::io::Errno::AGAIN) if stopping => return Ok(traffic),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Source port and payload length of an IPv4 packet with UDP in it (RFC 791, RFC 768).
fn udp_of(packet: &[u8]) -> Option<(u16, u16)> {
    const UDP: u8 = 17;
    let first = packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 || *packet.get(9)? != UDP {
        return None;
    }
    let at =
        |offset: usize| Some(u16::from_be_bytes([*packet.get(header + offset)?, *packet.get(header + offset + 1)?]));
    Some((at(0)?, at(4)?.checked_sub(8)?))
}

/// Local UDP ports (IPv4 and IPv6) that the processes have open now, by `/proc`.
#[must_use]
pub fn ports_of(pids: &[u32]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let inodes: BTreeSet<String> = links
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        for table in ["udp", "udp6"] {
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
            ports.extend(text.lines().skip(1).filter_map(|line| port_of(line, &inodes)));
        }
    }
    ports
}

/// Local port of a line of `/proc/net/udp` if its socket is among `inodes`.
fn port_of(line: &str, inodes: &BTreeSet<String>) -> Option<u16> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    inodes.contains(*fields.get(9)?).then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn headers() {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[20..26].copy_from_slice(&[0x30, 0x39, 0, 9, 0, 13]);
        assert_eq!(udp_of(&packet), Some((12345, 5)));
        packet[0] = 0x46;
        packet.splice(20..20, [0; 4]);
        assert_eq!(udp_of(&packet), Some((12345, 5)), "options before the UDP header");
        packet[9] = 6;
        assert_eq!(udp_of(&packet), None, "TCP");
        assert_eq!(udp_of(&[0x60; 48]), None, "IPv6");
        assert_eq!(udp_of(&[0x45, 0]), None, "cut off");
    }

    #[test]
    fn own_ports_are_found_and_their_bytes_counted() {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (port, other) = (a.local_addr().unwrap().port(), b.local_addr().unwrap().port());
        let ports = ports_of(&[std::process::id()]);
        assert!(ports.contains(&port) && ports.contains(&other), "{ports:?}");
        let capture = match Capture::start([port].into()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            other => other.unwrap(),
        };
        for _ in 0..10 {
            a.send_to(&[0; 100], b.local_addr().unwrap()).unwrap();
            b.send_to(&[0; 1000], a.local_addr().unwrap()).unwrap();
        }
        let mut buffer = [0; 100];
        for _ in 0..10 {
            b.recv_from(&mut buffer).unwrap();
        }
        let traffic = capture.finish().unwrap();
        assert_eq!(traffic.by_port, [(port, (10, 1000))].into());
        let expected = 8.0 / traffic.seconds;
        assert!((traffic.kbit_per_s(&[port, other].into()) - expected).abs() < 1e-9);
        assert_eq!(traffic.kbit_per_s(&[other].into()), 0.0);
        assert!(traffic.saw(&[port, other].into()) && !traffic.saw(&[other].into()));
    }
}
