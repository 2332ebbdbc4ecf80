//! The ways between the two ends: direct by UDP, by TCP where UDP is blocked, relayed where nothing else is open.
//!
//! UDP is tried first; the receiver's end connects by TCP a moment later, only while nothing was found. The crate selects
//! the first path that works and stays on it; a path that dies is replaced by an ICE restart.

use super::peer::{Peer, failed};
use super::sockets::Traffic;
use crate::error::MediaError;
use crate::stats::{Path, PathKind};
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::peer_connection::transport::{RTCIceCandidate, RTCIceCandidateInit, RTCIceCandidateType, RTCIceProtocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// TCP addresses of the other end that are tried at most: more than the interfaces of any machine.
const MOST_TCP: usize = 16;
/// Fields of a candidate line (RFC 8839 section 5.1) behind `a=candidate:`.
const TRANSPORT: usize = 2;
const ADDRESS: usize = 4;
const PORT: usize = 5;

/// A TCP address of the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcpCandidate {
    /// The text after `a=`, with the address that the crate shall know.
    text: String,
    mid: Option<String>,
    shown: SocketAddr,
    real: SocketAddr,
}

/// Tells TCP candidates from the rest of a description.
fn tcp_fields(line: &str) -> Option<Vec<&str>> {
    let fields: Vec<&str> = line.trim_end().strip_prefix("a=candidate:")?.split(' ').collect();
    fields.get(TRANSPORT).is_some_and(|transport| transport.eq_ignore_ascii_case("tcp")).then_some(fields)
}

/// A receiver's offer without TCP candidates: it calls, and is not called.
pub(super) fn without_tcp(offer: &str) -> String {
    offer.split_inclusive('\n').filter(|line| tcp_fields(line).is_none()).collect()
}

/// A sender's answer without active TCP candidates: it is called, and does not call.
pub(super) fn without_active(answer: &str) -> String {
    answer
        .split_inclusive('\n')
        .filter(|line| {
            !tcp_fields(line).is_some_and(|fields| fields.windows(2).any(|pair| pair == ["tcptype", "active"]))
        })
        .collect()
}

/// A sender's answer, and its TCP addresses apart from it, so that UDP comes first. One with the address of a UDP
/// candidate is shown to the crate under another port: it tells candidates apart by address alone.
pub(super) fn split_tcp(answer: &str) -> (String, Vec<TcpCandidate>) {
    let address = |fields: &[&str]| {
        let ip: IpAddr = fields.get(ADDRESS)?.parse().ok()?;
        Some(SocketAddr::new(ip, fields.get(PORT)?.parse().ok()?))
    };
    let mut taken: Vec<SocketAddr> = answer
        .lines()
        .filter(|line| tcp_fields(line).is_none())
        .filter_map(|line| address(&line.strip_prefix("a=candidate:")?.split(' ').collect::<Vec<_>>()))
        .collect();
    let (mut rest, mut found, mut mid) = (String::with_capacity(answer.len()), Vec::new(), None);
    for line in answer.split_inclusive('\n') {
        if line.starts_with("m=") {
            mid = None;
        } else if let Some(value) = line.trim_end().strip_prefix("a=mid:") {
            mid = Some(value.to_owned());
        }
        let Some(mut fields) = tcp_fields(line) else {
            rest.push_str(line);
            continue;
        };
        if found.len() == MOST_TCP || !fields.windows(2).any(|pair| pair == ["tcptype", "passive"]) {
            continue;
        }
        let Some(real) = address(&fields) else { continue };
        let mut shown = real;
        while taken.contains(&shown) {
            // Only a name: nothing is sent there.
            shown.set_port(shown.port().wrapping_add(1).max(1));
        }
        taken.push(shown);
        let port = shown.port().to_string();
        fields[PORT] = &port;
        found.push(TcpCandidate { text: format!("candidate:{}", fields.join(" ")), mid: mid.clone(), shown, real });
    }
    (rest, found)
}

impl Peer {
    /// What went over the connection's sockets.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        self.sockets.traffic()
    }

    /// Tries the other end's TCP addresses too, each as soon as it is connected.
    pub(crate) fn try_tcp(&mut self) {
        for candidate in std::mem::take(&mut self.tcp) {
            let (sockets, connection) = (Arc::clone(&self.sockets), Arc::clone(&self.connection));
            self.runtime.spawn(async move {
                if let Err(error) = sockets.prepare(candidate.shown, candidate.real).await {
                    tracing::debug!(%error, address = %candidate.real, "no TCP path");
                    return;
                }
                let init = RTCIceCandidateInit {
                    candidate: candidate.text,
                    sdp_mid: candidate.mid,
                    sdp_mline_index: Some(0),
                    username_fragment: None,
                    url: None,
                };
                if let Err(error) = connection.add_ice_candidate(init).await {
                    tracing::debug!(%error, address = %candidate.real, "a TCP path is of no use");
                }
            });
        }
    }

    /// The receiver's end: an offer with new ICE credentials, to find a new path for the same session.
    pub(crate) async fn restart(&mut self) -> Result<String, MediaError> {
        self.forget_gathering();
        let options = RTCOfferOptions { ice_restart: true };
        let offer = self.connection.create_offer(Some(options)).await.map_err(failed)?;
        self.connection.set_local_description(offer).await.map_err(failed)?;
        Ok(without_tcp(&self.gathered_description().await?))
    }

    /// The path in use; `None` before one was found.
    pub(crate) async fn path(&self) -> Option<Path> {
        let sctp = self.connection.sctp().await?;
        let pair = sctp.transport().ice_transport().get_selected_candidate_pair().await.ok()??;
        let (local, remote) = (pair.local(), pair.remote());
        let kind = match (local.typ, remote.typ, local.protocol) {
            (RTCIceCandidateType::Relay, _, _) | (_, RTCIceCandidateType::Relay, _) => PathKind::Relayed,
            (_, _, RTCIceProtocol::Tcp) => PathKind::Tcp,
            _ => PathKind::Udp,
        };
        Some(Path { kind, local: address(local), remote: address(remote) })
    }

    /// Round trip of the selected path by ICE's own checks.
    pub(crate) async fn round_trip(&self) -> Option<Duration> {
        let report = self.connection.get_stats(Instant::now(), rtc::statistics::StatsSelector::None).await;
        report
            .candidate_pairs()
            .filter(|pair| pair.responses_received > 0 && pair.current_round_trip_time > 0.0)
            .max_by_key(|pair| (pair.nominated, pair.bytes_received))
            .map(|pair| Duration::from_secs_f64(pair.current_round_trip_time))
    }
}

/// `192.0.2.1:5000`; the port of an active TCP candidate is a placeholder (RFC 6544 section 4.5) and left out.
fn address(candidate: &RTCIceCandidate) -> String {
    match candidate.address.parse::<IpAddr>() {
        Ok(ip) if candidate.port == 9 => ip.to_string(),
        Ok(ip) => SocketAddr::new(ip, candidate.port).to_string(),
        Err(_) => candidate.address.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::VideoCodec;
    use super::super::peer::PeerOptions;
    use super::*;

    const ANSWER: &str = "v=0\r\nm=video 9 X 96\r\na=mid:0\r\na=candidate:1 1 udp 9 127.0.0.1 4000 typ host\r\n\
        a=candidate:2 1 tcp 8 127.0.0.1 4000 typ host tcptype passive\r\n\
        a=candidate:3 1 tcp 7 127.0.0.1 9 typ host tcptype active\r\na=candidate:4 1 tcp 8 10.0.0.1 4000 typ host tcptype passive\r\n";

    #[test]
    fn tcp_waits_apart_and_is_told_from_udp() {
        let (rest, tcp) = split_tcp(ANSWER);
        assert_eq!(rest, "v=0\r\nm=video 9 X 96\r\na=mid:0\r\na=candidate:1 1 udp 9 127.0.0.1 4000 typ host\r\n");
        let all: Vec<_> = tcp.iter().map(|c| (c.shown.to_string(), c.real.to_string())).collect();
        let pair = |shown: &str, real: &str| (shown.to_owned(), real.to_owned());
        assert_eq!(all, [pair("127.0.0.1:4001", "127.0.0.1:4000"), pair("10.0.0.1:4000", "10.0.0.1:4000")]);
        assert_eq!(tcp[0].mid.as_deref(), Some("0"));
        assert_eq!(tcp[0].text, "candidate:2 1 tcp 8 127.0.0.1 4001 typ host tcptype passive");
    }

    #[tokio::test]
    async fn an_address_that_is_no_relay_is_named() {
        use crate::config::RelayServer;
        let relay = |url: &str, user: &str| RelayServer {
            url: url.to_owned(),
            user: user.to_owned(),
            password: "p".to_owned(),
            only: false,
        };
        for (url, user) in [("relay.example:3478", "u"), ("turn:relay.example:port", "u"), ("turn:relay.example", "")] {
            let options = PeerOptions {
                bind: SocketAddr::from(([127, 0, 0, 1], 0)),
                relay: Some(relay(url, user)),
                video: vec![VideoCodec::H264],
                sound: false,
            };
            let error = Peer::offer(&options).await.err().expect(url).to_string();
            assert!(error.starts_with(&format!("the relay is {url}; allowed is turn:")), "{error}");
        }
    }

    #[test]
    fn an_answer_full_of_tcp_addresses_is_not_followed_to_its_end() {
        let one = "a=candidate:2 1 tcp 8 10.0.0.1 4000 typ host tcptype passive\r\n";
        let (rest, tcp) = split_tcp(&one.repeat(1_000));
        assert_eq!((rest.as_str(), tcp.len()), ("", MOST_TCP));
    }

    #[test]
    fn who_calls_and_who_is_called() {
        assert_eq!(without_tcp(ANSWER).matches("candidate").count(), 1);
        let answer = without_active(ANSWER);
        assert_eq!((answer.matches("candidate").count(), answer.matches("passive").count()), (3, 2));
    }
}
