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
    pub(super) bind: IpAddr,
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

/// The local address for an agent at `host`: loopback for loopback, else any.
pub(super) fn bind_for(host: &str) -> IpAddr {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Ok(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Ok(IpAddr::V4(ip)) if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) if host == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
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
        let options = PeerOptions {
            bind: SocketAddr::new(self.bind, 0),
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
