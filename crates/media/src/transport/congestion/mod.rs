//! Rate control's places in the chain: transport-wide feedback ([draft-holmer-rmcat-transport-wide-cc-extensions-01])
//! in both directions, and the notices by which a sender tells a viewer what limits its picture.
//!
//! Sender: the wire's meter 1,000 (what leaves, what is reported), numbers 5,500 (between parity and resends), notices
//! 15,000. Receiver: notices 500, reports 8,000 (below repair). Nothing here has a timer that runs while nothing flows.
//!
//! [draft-holmer-rmcat-transport-wide-cc-extensions-01]: https://datatracker.ietf.org/doc/html/draft-holmer-rmcat-transport-wide-cc-extensions-01

mod link;
mod meter;
mod notice;
mod reports;

pub(crate) use link::RateLink;
pub(super) use meter::Meter;
pub(crate) use notice::Told;
pub(super) use notice::{Listener, Notices};
pub(super) use reports::Reports;

use rtc::interceptor::StreamInfo;

/// The header extension that numbers every transmission.
pub(super) const TWCC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Where notices leave and come in: beyond everything that looks at media.
pub(super) const NOTICES_SLOT: usize = 15_000;

/// Whether a stream's packets are numbered.
fn is_numbered(info: &StreamInfo) -> bool {
    info.rtp_header_extensions.iter().any(|extension| extension.uri == TWCC_URI && extension.id != 0)
}
