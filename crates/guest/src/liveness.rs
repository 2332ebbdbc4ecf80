//! Whether a guest goes on: a QEMU that was stopped, hangs, or whose processor stands still for good is told from a
//! desktop on which nothing moves.
//!
//! Three signs, from the cheapest on, looked at about once a second and only as far as needed:
//! 1. The kernel's word on QEMU's process and its processors' threads (a stopped one is in state `T`).
//! 2. Damage: a guest that draws lives, and is not asked anything.
//! 3. QEMU's monitor: asked for the processor's registers, it shows by answering that its main loop turns; the registers
//!    tell a processor that waits for an interrupt from one that can never go on.
//!
//! [`Judge`] decides and is pure; [`watch`](watch::watch) looks. Beside it, [`stale`] compares a picture that stands still
//! with QEMU's own.

mod registers;
mod stale;
pub(crate) mod watch;

use registers::Cpu;
use std::time::Duration;

/// How long QEMU's monitor may keep silent, the time that it waited for a processor of a busy host not counted. A reply
/// takes 0.2 ms.
const SILENCE: Duration = Duration::from_millis(1250);
/// So many looks in a row must find a processor halted for good.
const HALTED_LOOKS: u32 = 2;
/// So many looks in a row must find a processor that runs with interrupts off in the very same state.
const SPINNING_LOOKS: u32 = 4;
/// After so many looks in a row at a processor that runs with interrupts off, and draws nothing, nobody knows.
const MASKED_LOOKS: u32 = 8;

/// Whether a guest goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// It stands still though it should run; `None` while there is no QEMU, or it cannot be told.
    pub frozen: Option<bool>,
    /// How that was found, or why it cannot be told; `None` while it is not frozen.
    pub reason: Option<String>,
    /// It is QEMU itself that stands still, and not only the guest in it: it obeys no order.
    pub is_deaf: bool,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// The state of QEMU's process or of a thread that runs a processor.
    Stopped { by_debugger: bool, whole: bool },
    /// The picture changed lately.
    Draws,
    /// The monitor answered, and these are the processors; none when they were not asked for.
    Answered(Vec<Cpu>),
    /// The monitor has not answered for so long; the main loop's thread is in this state.
    Silent(Duration, char),
}

/// Decides by what was found, look for look.
#[derive(Debug, Default)]
struct Judge {
    halted: u32,
    spinning: u32,
    masked: u32,
    /// The processor as it was at the last look, when it ran with interrupts off.
    spot: Option<u64>,
    told: Liveness,
}

// === impl Liveness ===

impl Liveness {
    fn alive() -> Self {
        Self { frozen: Some(false), ..Self::default() }
    }

    fn frozen(reason: impl Into<String>) -> Self {
        Self { frozen: Some(true), reason: Some(reason.into()), is_deaf: false }
    }

    fn deaf(reason: impl Into<String>) -> Self {
        Self { is_deaf: true, ..Self::frozen(reason) }
    }

    fn unsure(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::default() }
    }
}

// === impl Judge ===

impl Judge {
    /// Takes a finding; returns what is known with it.
    fn take(&mut self, finding: &Finding) -> Liveness {
        if !matches!(finding, Finding::Answered(_)) {
            (self.halted, self.spinning, self.masked, self.spot) = (0, 0, 0, None);
        }
        let known = match finding {
            Finding::Stopped { by_debugger, whole } => {
                let what = if *whole { "QEMU" } else { "the thread that runs the guest's processor" };
                let by = if *by_debugger { "a debugger" } else { "a signal (SIGSTOP)" };
                // A processor that was stopped keeps QEMU from ending too.
                Liveness::deaf(format!("{what} was stopped by {by}"))
            }
            Finding::Draws => Liveness::alive(),
            Finding::Silent(silence, _) if *silence < SILENCE => self.told.clone(),
            Finding::Silent(silence, state) => {
                let why = match state {
                    'D' => ": it waits for a disk",
                    'R' => ": it is busy with something else",
                    _ => "",
                };
                // In steps, so that the reason does not change with every look.
                let seconds = silence.as_secs().max(1);
                Liveness::deaf(format!("QEMU has not answered its monitor for over {} s{why}", step(seconds)))
            }
            Finding::Answered(cpus) => self.processors(cpus),
        };
        self.told.clone_from(&known);
        known
    }

    fn processors(&mut self, cpus: &[Cpu]) -> Liveness {
        // One that waits for an interrupt that it does not take. Of several it must be all: one that was never started
        // looks the same.
        let halted = !cpus.is_empty() && cpus.iter().all(|cpu| cpu.is_halted && !cpu.takes_interrupts);
        self.halted = if halted { self.halted.saturating_add(1) } else { 0 };
        let spot = match cpus {
            [cpu] if !cpu.is_halted && !cpu.takes_interrupts => Some(cpu.fingerprint),
            _ => None,
        };
        self.spinning = match (self.spot, spot) {
            (_, None) => 0,
            (Some(before), Some(now)) if before == now => self.spinning.saturating_add(1),
            _ => 1,
        };
        self.masked = if spot.is_some() { self.masked.saturating_add(1) } else { 0 };
        self.spot = spot;
        if self.halted >= HALTED_LOOKS {
            return Liveness::frozen("the guest's processor is halted with interrupts off: it can never go on");
        }
        if self.spinning >= SPINNING_LOOKS {
            return Liveness::frozen("the guest's processor turns in one place with interrupts off");
        }
        if self.spinning > 1 || self.masked >= MASKED_LOOKS {
            return Liveness::unsure(
                "the guest's processor runs with interrupts off and draws nothing: perhaps it hangs",
            );
        }
        Liveness::alive()
    }

    /// Whether the next look should come sooner.
    const fn is_in_doubt(&self) -> bool {
        let spins = self.spinning > 0 && self.spinning < SPINNING_LOOKS && self.masked < MASKED_LOOKS;
        spins || (self.halted > 0 && self.halted < HALTED_LOOKS)
    }
}

/// 1, 2, 5, 10, 20, 50 …
const fn step(seconds: u64) -> u64 {
    let mut step = 1;
    loop {
        if seconds < step * 2 {
            return step;
        }
        if seconds < step * 5 {
            return step * 2;
        }
        if seconds < step * 10 {
            return step * 5;
        }
        step *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(is_halted: bool, takes_interrupts: bool, fingerprint: u64) -> Finding {
        Finding::Answered(vec![Cpu { is_halted, takes_interrupts, fingerprint }])
    }

    /// What is known after each finding: `Some(true)` frozen.
    fn judge(findings: &[Finding]) -> Vec<Option<bool>> {
        let mut judge = Judge::default();
        findings.iter().map(|finding| judge.take(finding).frozen).collect()
    }

    #[test]
    fn an_idle_guest_lives_for_ever() {
        let idle = cpu(true, true, 7);
        assert_eq!(judge(&vec![idle; 100]), vec![Some(false); 100]);
        // A loop that waits for an interrupt's mark in memory: the same place each time, and still alive.
        assert_eq!(judge(&vec![cpu(false, true, 7); 100]), vec![Some(false); 100]);
        // A processor that was never started beside one that waits.
        let two = Finding::Answered(vec![
            Cpu { is_halted: true, takes_interrupts: true, fingerprint: 1 },
            Cpu { is_halted: true, takes_interrupts: false, fingerprint: 2 },
        ]);
        assert_eq!(judge(&vec![two; 100]), vec![Some(false); 100]);
    }

    #[test]
    fn a_processor_that_can_never_go_on_is_found_at_the_second_look() {
        let dead = cpu(true, false, 7);
        let mut first = Judge::default();
        first.take(&dead);
        assert!(first.is_in_doubt());
        assert_eq!(judge(&[dead.clone(), dead.clone(), dead.clone()]), [Some(false), Some(true), Some(true)]);
        assert_eq!(judge(&[dead.clone(), Finding::Draws, dead.clone()]), [Some(false); 3]);
        let found = first.take(&dead);
        assert!(found.frozen == Some(true) && !found.is_deaf, "QEMU answered: {found:?}");
    }

    #[test]
    fn spinning_in_one_place_is_found_and_wandering_is_unknown() {
        let same = cpu(false, false, 7);
        assert_eq!(judge(&[same.clone(), same.clone(), same.clone(), same.clone()])[3], Some(true));
        let wandering: Vec<_> = (0..10).map(|n| cpu(false, false, n)).collect();
        let told = judge(&wandering);
        assert_eq!(told[..7], [Some(false); 7], "each look finds it elsewhere");
        assert_eq!(told[7..], [None; 3], "for long");
        assert_eq!(judge(&[same.clone(), same.clone()]), [Some(false), None]);
        assert_eq!(judge(&[same.clone(), same, cpu(true, true, 1)]), [Some(false), None, Some(false)]);
    }

    #[test]
    fn stopped_processes_and_threads_are_named() {
        let mut judge = Judge::default();
        let stopped = judge.take(&Finding::Stopped { by_debugger: false, whole: true });
        assert_eq!(stopped.frozen, Some(true));
        assert!(stopped.is_deaf && stopped.reason.is_some_and(|reason| reason.contains("SIGSTOP")));
        let thread = judge.take(&Finding::Stopped { by_debugger: true, whole: false });
        assert!(thread.reason.is_some_and(|reason| reason.contains("debugger") && reason.contains("thread")));
        assert_eq!(judge.take(&cpu(true, true, 0)), Liveness::alive());
    }

    #[test]
    fn silence_is_told_when_it_lasts() {
        let ms = |ms, state| Finding::Silent(Duration::from_millis(ms), state);
        let answered = Finding::Answered(Vec::new());
        assert_eq!(judge(&[ms(1_000, 'S')]), [None], "nothing was known before");
        assert_eq!(
            judge(&[answered.clone(), ms(1_000, 'S'), ms(1_250, 'S'), answered]),
            [Some(false), Some(false), Some(true), Some(false)]
        );
        let mut judge = Judge::default();
        let early = judge.take(&ms(5_100, 'D'));
        assert!(early.is_deaf);
        assert_eq!(early, judge.take(&ms(9_900, 'D')), "the same words");
        assert!(early.reason.is_some_and(|reason| reason.contains("over 5 s: it waits for a disk")));
        assert_eq!([0, 1, 3, 7, 19, 20, 70].map(step), [1, 1, 2, 5, 10, 20, 50]);
    }
}
