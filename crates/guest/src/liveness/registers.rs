//! QEMU's text of a PC's registers (`info registers`), as far as it tells whether a processor goes on.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The interrupt flag (Intel SDM, volume 1, 3.4.3).
const INTERRUPT_FLAG: u64 = 0x200;
/// More is not read.
const MAX_BYTES: usize = 256 * 1024;

/// One processor at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpu {
    /// It waits for an interrupt.
    pub(super) is_halted: bool,
    /// It takes interrupts.
    pub(super) takes_interrupts: bool,
    /// Stands for all its registers.
    pub(super) fingerprint: u64,
}

/// The processors of the text of `info registers -a`: as many as it has flags registers; what is not understood is
/// left out.
pub(super) fn parse(text: &str) -> Vec<Cpu> {
    let text = text.get(..MAX_BYTES).unwrap_or(text);
    // Every processor begins so; one alone may come without.
    let parts = text.split("CPU#").filter(|part| part.contains("HLT="));
    parts.filter_map(one).collect()
}

fn one(text: &str) -> Option<Cpu> {
    let value = |name: &str| text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
    let flags = value("RFL=").or_else(|| value("EFL="))?;
    let flags = u64::from_str_radix(flags, 16).ok()?;
    let is_halted = value("HLT=")? == "1";
    let mut hasher = DefaultHasher::new();
    text.trim().hash(&mut hasher);
    Some(Cpu { is_halted, takes_interrupts: flags & INTERRUPT_FLAG != 0, fingerprint: hasher.finish() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened, from QEMU 7.2.
    const LONG: &str = "\r\nCPU#0\r\nRAX=0000000000000000 RBX=0000000000123456 RCX=0 RDX=0\r\n\
        RIP=0000000000100b3c RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\nES =0010 0 ffffffff 00c09300\r\n";

    #[test]
    fn flags_and_halt_are_read() {
        let cpus = parse(LONG);
        assert_eq!(cpus.len(), 1);
        assert!(cpus[0].is_halted && cpus[0].takes_interrupts);
        let off = parse(&LONG.replace("RFL=00000246", "RFL=00000046").replace("HLT=1", "HLT=0"));
        assert!(!off[0].is_halted && !off[0].takes_interrupts);
        assert_ne!(cpus[0].fingerprint, off[0].fingerprint);
        assert_eq!(parse(&format!("{LONG}{LONG}")).len(), 2);
        let protected = "EAX=00000000 EBX=1\nEIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n";
        assert_eq!(parse(protected).len(), 1, "one alone, in 32 bits");
    }

    #[test]
    fn foreign_text_is_nothing() {
        for text in ["", "unknown command: 'info'", "CPU#0\nHLT=1", "CPU#0 EFL=xyz HLT=1", "EFL=00000002"] {
            assert_eq!(parse(text), [], "{text:?}");
        }
    }
}
