//! Wakes whoever plays when packets come after a rest.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Rung by a [`super::PacketWriter`] with every packet; costs one atomic look while nobody sleeps.
#[derive(Debug, Default)]
pub struct Bell {
    sleepers: AtomicU32,
    gate: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// Makes everyone who sleeps look again.
    pub fn ring(&self) {
        // What there is to see was written before this is read, and a sleeper looks after it has counted itself: one of
        // both sees the other.
        if self.sleepers.load(SeqCst) > 0 {
            drop(self.gate.lock());
            self.rung.notify_all();
        }
    }

    /// Sleeps until `is_needed`, which is looked at now and with every ring.
    pub fn sleep(&self, is_needed: impl Fn() -> bool) {
        let mut gate = self.gate.lock();
        self.sleepers.fetch_add(1, SeqCst);
        while !is_needed() {
            self.rung.wait(&mut gate);
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn no_ring_is_lost() {
        const TIMES: u32 = 2000;
        let (bell, work, done) = (Arc::new(Bell::default()), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, work, done) = (bell.clone(), work.clone(), done.clone());
                std::thread::spawn(move || {
                    for n in 1..=TIMES {
                        bell.sleep(|| work.load(SeqCst) >= n);
                        done.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        for n in 1..=TIMES {
            work.store(n, SeqCst);
            bell.ring();
            while n % 50 == 0 && done.load(SeqCst) < 2 * n {
                std::thread::yield_now();
            }
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    }
}
