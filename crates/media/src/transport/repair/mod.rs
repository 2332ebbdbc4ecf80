//! Repair of loss: resends, parity, and what the two ends of a session know about them.
//!
//! Places in the chain, as distances from the wire. Sender: parity 5,000, TWCC numbers 5,500 (a number that is written
//! after the parity was computed would make repaired packets wrong), resends 5,800 (so that they get numbers of their
//! own), key frame requests 14,000. Receiver: TWCC reports 8,000 and receiver reports 8,300 (both tell what arrived,
//! not what was repaired), repair 8,500.
//!
//! Parity packets have an SSRC of their own and no TWCC number: no report names them, so they are not "in flight".

mod ask;
mod key_requests;
mod link;
mod parity;
mod receive;
mod resend;
#[cfg(test)]
mod testing;

pub(super) use key_requests::KeyFrameRequests;
pub(crate) use link::RepairLink;
pub(super) use parity::FrameParity;
pub(super) use receive::Repairer;
pub(crate) use receive::{Repair, RepairLog, RepairedCounts};
pub(super) use resend::{Resender, UnaskedCopy};

use rtc::interceptor::Slot;

/// Where the sender's frame parity belongs.
pub(super) const PARITY_SLOT: Slot = Slot::FecEncoder;
/// Where TWCC numbers are written: above the parity, below the resends.
pub(super) const TWCC_NUMBERS_SLOT: usize = 5_500;
/// Where resends come from.
pub(super) const RESEND_SLOT: usize = 5_800;
/// Where key frame requests are judged.
pub(super) const KEY_REQUESTS_SLOT: usize = 14_000;
/// Where receiver reports are made: below repair, so that they tell the path's loss.
pub(super) const RECEIVER_REPORTS_SLOT: usize = 8_300;
/// Where the receiver repairs: above everything that tells the sender what arrived.
pub(super) const RECEIVER_REPAIR_SLOT: usize = 8_500;
