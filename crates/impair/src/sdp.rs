//! ICE candidates in session descriptions (RFC 8839 section 5.1). Pure.

use crate::network::Protocol;
use std::net::{IpAddr, SocketAddr};

/// Fields of a candidate: foundation, component, transport, priority, address, port, `typ`, type, extensions.
const TRANSPORT: usize = 2;
const ADDRESS: usize = 4;
const PORT: usize = 5;
const TYPE: usize = 7;

/// `text` with each candidate that listens at an address of its own replaced by what `through` gives for it; it is left
/// out where that gives nothing. Relayed candidates stay: their way leads through the relay.
pub(crate) fn map_candidates(
    text: &str,
    through: &mut dyn FnMut(Protocol, SocketAddr) -> Option<SocketAddr>,
) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let Some(candidate) = line.trim_end().strip_prefix("a=candidate:") else {
            out.push_str(line);
            continue;
        };
        let mut fields: Vec<&str> = candidate.split(' ').collect();
        if fields.get(TYPE).is_some_and(|kind| *kind == "relay") {
            out.push_str(line);
            continue;
        }
        let Some((protocol, address)) = listens_at(&fields) else { continue };
        let Some(address) = through(protocol, address) else { continue };
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        fields[ADDRESS] = &ip;
        fields[PORT] = &port;
        out.push_str("a=candidate:");
        out.push_str(&fields.join(" "));
        out.push_str(if line.ends_with("\r\n") { "\r\n" } else { "\n" });
    }
    out
}

/// Where a candidate can be called; nothing for active TCP ones, names (mDNS) and what makes no sense.
fn listens_at(fields: &[&str]) -> Option<(Protocol, SocketAddr)> {
    let protocol = match fields.get(TRANSPORT)?.to_ascii_lowercase().as_str() {
        "udp" => Protocol::Udp,
        "tcp" if fields.windows(2).any(|pair| pair == ["tcptype", "passive"]) => Protocol::Tcp,
        _ => return None,
    };
    let ip: IpAddr = fields.get(ADDRESS)?.parse().ok()?;
    Some((protocol, SocketAddr::new(ip, fields.get(PORT)?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_replaced_or_left_out_and_the_rest_stays() {
        let sdp = "v=0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 4000 typ host\r\n\
            a=candidate:2 1 tcp 1518280447 127.0.0.1 4001 typ host tcptype passive\r\n\
            a=candidate:3 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active\r\n\
            a=candidate:4 1 udp 1 x.local 5 typ host\r\na=candidate:5 1 udp 1 10.0.0.1 7 typ relay raddr 0.0.0.0 rport 0\r\n\
            a=candidate:nonsense\r\na=end-of-candidates\r\n";
        let mut asked = Vec::new();
        let mapped = map_candidates(sdp, &mut |protocol, address| {
            asked.push((protocol, address.port()));
            (protocol == Protocol::Udp).then(|| SocketAddr::from(([127, 0, 0, 2], 99)))
        });
        assert_eq!(asked, [(Protocol::Udp, 4000), (Protocol::Tcp, 4001)]);
        assert_eq!(
            mapped,
            "v=0\r\na=candidate:1 1 udp 2130706431 127.0.0.2 99 typ host\r\n\
             a=candidate:5 1 udp 1 10.0.0.1 7 typ relay raddr 0.0.0.0 rport 0\r\na=end-of-candidates\r\n"
        );
    }
}
