//! How much of the machine the instance may take: `PUT /use` says it, each sender for as long as its lease. Nobody's
//! instance is capped and gives its processors away; everything comes back at once when someone uses it, and when nobody
//! renews a lease.

mod affinity;
mod cgroup;
mod cpu;
mod leases;
mod scope;

use crate::caps::Caps;
use cpu::Cpu;
use leases::{Leases, Total};
pub(crate) use leases::{MAX_SENDERS, TooManySenders};
use loco_guest::GuestStatus;
use loco_model::report::UseHealth;
use loco_model::usage::{MAX_SENDER, Use};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Orders that may wait.
const ORDERS: usize = 16;
/// Longest id of a viewer.
const MAX_VIEWER: usize = 128;

/// One order, and who waits for what came of it.
type Order = (Use, oneshot::Sender<Result<UseHealth, TooManySenders>>);

/// What holds now, and where orders go.
#[derive(Debug)]
pub(crate) struct UseKeeper {
    orders: mpsc::Sender<Order>,
    health: watch::Receiver<UseHealth>,
    holder: watch::Receiver<Option<String>>,
}

/// Does it.
pub(crate) struct Keeping {
    orders: mpsc::Receiver<Order>,
    health: watch::Sender<UseHealth>,
    holder: watch::Sender<Option<String>>,
    leases: Leases,
    cpu: Cpu,
}

/// A keeper, and the task behind it. `state` is the state folder.
pub(crate) fn keeper(state: &Path) -> (UseKeeper, Keeping) {
    let (orders, orders_in) = mpsc::channel(ORDERS);
    let (health, health_out) = watch::channel(UseHealth::default());
    let (holder, holder_out) = watch::channel(None);
    let keeper = UseKeeper { orders, health: health_out, holder: holder_out };
    (keeper, Keeping { orders: orders_in, health, holder, leases: Leases::default(), cpu: Cpu::new(state) })
}

/// What is wrong with an order: names the value and what is allowed.
///
/// # Errors
/// When a value is out of its range.
pub(crate) fn check(order: &Use) -> Result<(), String> {
    let within = |name: &str, value: Option<u32>, least: u32, most: u32| match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(format!("{name} is {value}: allowed are {least} to {most}"))
        }
        _ => Ok(()),
    };
    within("maxFps", order.max_fps, 1, 60)?;
    within("maxBitRate", order.max_bit_rate, 100_000, 50_000_000)?;
    within("leaseS", Some(order.lease_s), 1, 300)?;
    let bounded = |name: &str, value: &Option<String>, most: usize| match value {
        Some(value) if value.is_empty() || value.len() > most => {
            Err(format!("{name} has {} bytes: allowed are 1 to {most}", value.len()))
        }
        _ => Ok(()),
    };
    bounded("inputHolder", &order.input_holder, MAX_VIEWER)?;
    bounded("sender", &order.sender, MAX_SENDER)
}

// === impl UseKeeper ===

impl UseKeeper {
    /// Obeys an order; returns what came of it and of what others say, `None` when the agent ends.
    pub(crate) async fn set(&self, order: Use) -> Option<Result<UseHealth, TooManySenders>> {
        let (answer, answered) = oneshot::channel();
        self.orders.send((order, answer)).await.ok()?;
        answered.await.ok()
    }

    /// What holds now, and from now on.
    pub(crate) fn health(&self) -> watch::Receiver<UseHealth> {
        self.health.clone()
    }

    /// Whose input is taken, now and from now on.
    pub(crate) fn holder(&self) -> watch::Receiver<Option<String>> {
        self.holder.clone()
    }
}

// === impl Keeping ===

impl Keeping {
    /// Runs until the agent ends; then all is given back.
    pub(crate) async fn run(
        mut self,
        caps: Arc<Caps>,
        mut guest: watch::Receiver<GuestStatus>,
        stop: CancellationToken,
    ) {
        loop {
            let until = self.leases.next_end();
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let mut asked = None;
            tokio::select! {
                () = stop.cancelled() => break,
                order = self.orders.recv() => match order {
                    Some((order, answer)) => match self.leases.take(order, Instant::now()) {
                        Ok(()) => asked = Some(answer),
                        // Who asked may be gone.
                        Err(error) => drop(answer.send(Err(error))),
                    },
                    None => break,
                },
                () = over => {
                    if self.leases.expire(Instant::now()) && self.leases.is_empty() {
                        tracing::info!("nobody says any more how this instance is used: it may take all again");
                    }
                }
                // A new QEMU knows nothing of what the one before was left.
                Ok(()) = guest.changed() => {}
            }
            let pid = guest.borrow_and_update().pid;
            self.settle(&caps, pid).await;
            if let Some(asked) = asked {
                // Who asked may be gone.
                let _ = asked.send(Ok(self.health.borrow().clone()));
            }
        }
        self.cpu.take_back().await;
    }

    async fn settle(&mut self, caps: &Caps, qemu: Option<u32>) {
        let Total { in_use, ceiling, holder } = self.leases.total();
        let is_given = in_use == Some(false);
        caps.set_unused(ceiling);
        self.holder.send_if_modified(|known| {
            let changed = *known != holder;
            known.clone_from(&holder);
            changed
        });
        let how = if is_given {
            Some(self.cpu.give(qemu).await.to_owned())
        } else {
            self.cpu.take_back().await;
            None
        };
        let health =
            UseHealth { in_use, max_fps: ceiling.fps, max_bit_rate: ceiling.bit_rate, how, input_holder: holder };
        self.health.send_if_modified(|known| {
            let changed = *known != health;
            *known = health;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        let good = Use {
            in_use: false,
            max_fps: Some(5),
            max_bit_rate: Some(100_000),
            lease_s: 30,
            input_holder: None,
            sender: Some("s".repeat(MAX_SENDER)),
        };
        assert_eq!(check(&good), Ok(()));
        assert_eq!(check(&Use { max_fps: None, max_bit_rate: None, ..good.clone() }), Ok(()));
        for (bad, says) in [
            (Use { max_fps: Some(0), ..good.clone() }, "maxFps is 0: allowed are 1 to 60"),
            (Use { max_bit_rate: Some(99_999), ..good.clone() }, "maxBitRate is 99999"),
            (Use { lease_s: 301, ..good.clone() }, "leaseS is 301: allowed are 1 to 300"),
            (Use { lease_s: 0, ..good.clone() }, "leaseS is 0"),
            (Use { input_holder: Some("x".repeat(129)), ..good.clone() }, "inputHolder has 129"),
            (Use { input_holder: Some(String::new()), ..good.clone() }, "inputHolder has 0"),
            (Use { sender: Some(String::new()), ..good.clone() }, "sender has 0"),
            (Use { sender: Some("x".repeat(65)), ..good }, "sender has 65 bytes: allowed are 1 to 64"),
        ] {
            assert!(check(&bad).is_err_and(|error| error.starts_with(says)), "{bad:?}");
        }
    }
}
