//! How a session is agreed on with the agent, and moved to another path.

use super::lifeline;
use super::link::End;
use crate::config::RelayServer;
use crate::error::MediaError;
use crate::stats::Path;
use crate::transport::{Channel, Peer, PeerEvent, PeerOptions, VideoCodec};
use crate::whep::{Client, ClientError, Fragment};
use reqwest::Url;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Saying goodbye may take this long; an agent that does not answer notices the end by itself.
const GOODBYE_WITHIN: Duration = Duration::from_millis(300);

/// Where the agent is, and what is asked of it.
pub(super) struct Reach {
    pub(super) client: Client,
    /// Local address of the media socket; `None`: one that reaches the agent.
    pub(super) bind: Option<IpAddr>,
    pub(super) relay: Option<RelayServer>,
    pub(super) with_sound: bool,
}

/// A session that the sender agreed to.
pub(super) struct Agreed {
    pub(super) peer: Peer,
    pub(super) channels: [Channel; 3],
    pub(super) events: mpsc::UnboundedReceiver<PeerEvent>,
    pub(super) terms: Terms,
    pub(super) lifeline: TcpStream,
}

/// What a session was agreed on.
pub(super) struct Terms {
    /// The last answer.
    pub(super) answer: String,
    /// The session's URL.
    pub(super) session: Url,
}

/// The local address for an agent at `agent`: loopback for loopback, else any of its family.
const fn bind_for(agent: IpAddr) -> IpAddr {
    match agent.to_canonical() {
        IpAddr::V6(ip) if ip.is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V4(ip) if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

impl Reach {
    /// A new session.
    pub(super) async fn agree(&self) -> Result<Agreed, End> {
        // Before anything costly: is there someone at all? The connection then stays, to tell when its other end dies.
        let (host, port) = self.client.host_and_port();
        let lifeline = lifeline::connect(&host, port)
            .await
            .map_err(|error| End::NoSession(ClientError::unreachable(format!("{host}:{port}"), &error)))?;
        // A name says nothing of the family: what it led to does.
        let agent = lifeline.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let options = PeerOptions {
            bind: SocketAddr::new(self.bind.unwrap_or_else(|| bind_for(agent)), 0),
            relay: self.relay.clone(),
            video: vec![VideoCodec::H264],
            sound: self.with_sound,
        };
        let (peer, offer, channels, events) = Peer::offer(&options).await.map_err(End::Failed)?;
        match self.client.offer(offer).await {
            Ok(answer) => {
                let terms = Terms { answer: answer.sdp, session: answer.session };
                Ok(Agreed { peer, channels, events, terms, lifeline })
            }
            Err(error) => {
                peer.close().await;
                Err(End::NoSession(error))
            }
        }
    }

    /// Looks for another path for the same session: new ICE credentials, new candidates, nothing else changes.
    pub(super) async fn mend(&self, peer: &mut Peer, terms: &Terms) -> Result<(), String> {
        let told = |error: MediaError| error.to_string();
        let offer = peer.restart().await.map_err(told)?;
        let fragment = Fragment::parse(&offer).map_err(|error| error.to_string())?;
        let answered = self.client.restart(terms.session.clone(), fragment.to_body()).await;
        let answered = Fragment::parse(&answered.map_err(|error| error.to_string())?).map_err(|e| e.to_string())?;
        peer.accept(&answered.renew(&terms.answer)).await.map_err(told)
    }

    /// Ends a session. Frees its port at once; when the agent is gone, this fails as quickly.
    pub(super) async fn end(&self, terms: Terms) {
        let client = self.client.clone();
        let goodbye = tokio::spawn(async move { client.delete(terms.session).await });
        let _ = tokio::time::timeout(GOODBYE_WITHIN, goodbye).await;
    }
}

/// What is told of the path in use.
pub(super) struct Seen {
    pub(super) path: Option<Path>,
    pub(super) round_trip: Option<Duration>,
}

impl Seen {
    pub(super) async fn of(peer: &Peer) -> Self {
        Self { path: peer.path().await, round_trip: peer.round_trip().await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_go_the_way_that_http_went() {
        for (agent, want) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.1.1", "127.0.0.1"),
            ("192.0.2.7", "0.0.0.0"),
            ("::ffff:192.0.2.7", "0.0.0.0"),
            ("::1", "::1"),
            ("2001:db8::7", "::"),
        ] {
            let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(bind_for(parse(agent)), parse(want), "{agent}");
        }
    }
}
