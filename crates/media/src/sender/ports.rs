//! Which media ports are free.

use crate::config::PortRange;
use crate::error::WhepError;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Sessions at most where no port range bounds them.
const MAX_SESSIONS: usize = 64;

/// The ports of a sender.
pub(super) struct Ports {
    bind: IpAddr,
    range: Option<PortRange>,
    leased: Mutex<Leased>,
}

#[derive(Default)]
struct Leased {
    ports: BTreeSet<u16>,
    sessions: usize,
}

/// A port while a session uses it; dropping it frees the port.
pub(super) struct Lease {
    ports: Arc<Ports>,
    port: u16,
}

impl Ports {
    pub(super) fn new(bind: IpAddr, range: Option<PortRange>) -> Self {
        Self { bind, range, leased: Mutex::default() }
    }

    /// The lowest free port of the range; any port where there is no range.
    pub(super) fn lease(self: &Arc<Self>) -> Result<Lease, WhepError> {
        let mut leased = self.leased.lock();
        let port = match self.range {
            None if leased.sessions >= MAX_SESSIONS => {
                return Err(WhepError::Unavailable(format!("{MAX_SESSIONS} sessions are open already")));
            }
            None => 0,
            // Another process may hold a port of ours: ask the system.
            Some(range) => range
                .iter()
                .filter(|port| !leased.ports.contains(port))
                .find(|port| UdpSocket::bind((self.bind, *port)).is_ok())
                .ok_or_else(|| WhepError::PortsFull { range: range.to_string(), sessions: leased.sessions })?,
        };
        leased.ports.insert(port);
        leased.sessions += 1;
        Ok(Lease { ports: Arc::clone(self), port })
    }
}

impl Lease {
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ports.bind, self.port)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leased = self.ports.leased.lock();
        leased.ports.remove(&self.port);
        leased.sessions -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn ports_are_leased_once_and_come_back() {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // Two ports in a row, one of which another program holds.
        let (held, first) = (0..200)
            .find_map(|_| {
                let first = UdpSocket::bind((local, 0)).ok()?.local_addr().ok()?.port();
                let held = UdpSocket::bind((local, first.checked_add(1)?)).ok()?;
                Some((held, first))
            })
            .expect("two free ports in a row");
        let range = PortRange::try_new(first, first + 1).expect("a range");
        let ports = Arc::new(Ports::new(local, Some(range)));
        let lease = ports.lease().expect("the free one");
        assert_eq!(lease.address().port(), first);
        let full = ports.lease().map(|_| ()).expect_err("none is left");
        assert_eq!((full.status(), full.retry_after().is_some()), (503, true));
        assert!(full.to_string().contains(&range.to_string()), "{full}");
        drop(lease);
        assert!(ports.lease().is_ok());
        drop(held);
    }
}
