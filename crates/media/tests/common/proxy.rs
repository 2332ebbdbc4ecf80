//! A UDP proxy between the two ends: counts bytes, loses packets on demand.

use super::Rewrite;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;

/// What it does and saw; "down" is from the sender to the receiver.
#[derive(Default)]
pub struct Proxy {
    sender_port: AtomicU16,
    receiver_port: AtomicU16,
    /// Everything from the sender is lost.
    pub lose_down: AtomicBool,
    /// Of the media packets from the sender every so manieth is lost; 0: none.
    pub lose_each: AtomicU64,
    /// The next so many different media packets never arrive, however often they are sent.
    pub lose_for_good: AtomicU64,
    pub lost: AtomicU64,
    pub down_bytes: AtomicU64,
    pub up_bytes: AtomicU64,
    pub down_packets: AtomicU64,
    media: AtomicU64,
    banned: Mutex<HashSet<u16>>,
}

impl Proxy {
    /// Starts it; the functions change offers and answers so that both ends go through it.
    pub async fn start() -> (Arc<Self>, Rewrite, Rewrite) {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        // `near` faces the receiver, `far` the sender.
        let (near, far) = (Arc::new(bind().await.expect("a port")), Arc::new(bind().await.expect("a port")));
        let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
        let (near_port, far_port) = (port(&near), port(&far));
        let proxy = Arc::new(Self::default());
        let (p, from, to) = (Arc::clone(&proxy), Arc::clone(&near), Arc::clone(&far));
        tokio::spawn(async move {
            let mut buffer = vec![0; 2048];
            while let Ok((n, _)) = from.recv_from(&mut buffer).await {
                p.up_bytes.fetch_add(n as u64, SeqCst);
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, p.sender_port.load(SeqCst)));
                let _ = to.send_to(&buffer[..n], address).await;
            }
        });
        let (p, from, to) = (Arc::clone(&proxy), far, near);
        tokio::spawn(async move {
            let mut buffer = vec![0; 2048];
            while let Ok((n, _)) = from.recv_from(&mut buffer).await {
                p.down_bytes.fetch_add(n as u64, SeqCst);
                p.down_packets.fetch_add(1, SeqCst);
                // RFC 7983: 128..=191 is RTP or RTCP; RTCP's packet types are 192..=223 (RFC 5761).
                let is_media = (128..=191).contains(&buffer[0]) && !(192..=223).contains(&buffer[1]);
                let banned = is_media && p.bans(u16::from_be_bytes([buffer[2], buffer[3]]));
                let each = p.lose_each.load(SeqCst);
                let nth = if is_media { p.media.fetch_add(1, SeqCst) + 1 } else { 0 };
                if banned || p.lose_down.load(SeqCst) || (is_media && each > 0 && nth % each == 0) {
                    p.lost.fetch_add(1, SeqCst);
                    continue;
                }
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, p.receiver_port.load(SeqCst)));
                let _ = to.send_to(&buffer[..n], address).await;
            }
        });
        let (p, q) = (Arc::clone(&proxy), Arc::clone(&proxy));
        let offer: Rewrite = Arc::new(move |sdp| {
            let (sdp, port) = through(&sdp, far_port);
            p.receiver_port.store(port, SeqCst);
            sdp
        });
        let answer: Rewrite = Arc::new(move |sdp| {
            let (sdp, port) = through(&sdp, near_port);
            q.sender_port.store(port, SeqCst);
            sdp
        });
        (proxy, offer, answer)
    }
}

impl Proxy {
    /// Whether the packet of that number is one of those that never arrive.
    fn bans(&self, number: u16) -> bool {
        let mut banned = self.banned.lock().expect("not poisoned");
        let is_one_more = !banned.contains(&number)
            && self.lose_for_good.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_one_more {
            banned.insert(number);
        }
        banned.contains(&number)
    }
}

/// Puts `port` into every candidate; returns the first one's own.
fn through(sdp: &str, port: u16) -> (String, u16) {
    let (mut own, mut out) = (0, String::new());
    for line in sdp.lines() {
        if line.starts_with("a=candidate:") {
            let mut fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
            if !fields[2].eq_ignore_ascii_case("udp") {
                continue;
            }
            if own == 0 {
                own = fields[5].parse().expect("a port");
            }
            fields[5] = port.to_string();
            out += &fields.join(" ");
        } else {
            out += line;
        }
        out += "\r\n";
    }
    (out, own)
}
