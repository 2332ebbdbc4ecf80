//! The bodies of `PATCH` requests and their answers (RFC 8840), and offers with other ICE credentials.

use crate::error::WhepError;
use std::fmt::Write;

/// Most candidates that one body may carry.
const MAX_CANDIDATES: usize = 64;

/// ICE credentials and candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    /// `candidate:…` with the `mid` of its section.
    pub(crate) candidates: Vec<(String, Option<String>)>,
}

impl Fragment {
    /// Reads a body, or the same lines of a whole SDP.
    ///
    /// # Errors
    /// When it has no credentials or too many candidates.
    pub(crate) fn parse(text: &str) -> Result<Self, WhepError> {
        let mut fragment = Self::default();
        let mut mid = None;
        for line in text.lines().map(str::trim_end) {
            if line.starts_with("m=") {
                mid = None;
            } else if let Some(value) = line.strip_prefix("a=mid:") {
                mid = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("a=ice-ufrag:").filter(|_| fragment.ufrag.is_empty()) {
                value.clone_into(&mut fragment.ufrag);
            } else if let Some(value) = line.strip_prefix("a=ice-pwd:").filter(|_| fragment.pwd.is_empty()) {
                value.clone_into(&mut fragment.pwd);
            } else if let Some(value) = line.strip_prefix("a=candidate:") {
                if fragment.candidates.len() == MAX_CANDIDATES {
                    return Err(WhepError::Malformed(format!("more than {MAX_CANDIDATES} candidates")));
                }
                fragment.candidates.push((format!("candidate:{value}"), mid.clone()));
            }
        }
        // RFC 8839 section 5.4: at least 4 and 22 characters of ALPHA, DIGIT, + and /.
        let is_ice = |text: &str, least: usize| {
            (least..=256).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        };
        if !is_ice(&fragment.ufrag, 4) || !is_ice(&fragment.pwd, 22) {
            return Err(WhepError::Malformed("a=ice-ufrag and a=ice-pwd are needed".to_owned()));
        }
        Ok(fragment)
    }

    /// As a body.
    pub(crate) fn to_body(&self) -> String {
        let mut body = format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", self.ufrag, self.pwd);
        let mid = self.candidates.first().and_then(|(_, mid)| mid.as_deref()).unwrap_or("0");
        // Writing to a string does not fail.
        let _ = write!(body, "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n");
        for (candidate, _) in self.candidates.iter().filter(|(_, m)| m.as_deref().unwrap_or("0") == mid) {
            let _ = write!(body, "a={candidate}\r\n");
        }
        body.push_str("a=end-of-candidates\r\n");
        body
    }

    /// `offer` with these credentials and candidates instead of its own: what its player would offer after a restart.
    pub(crate) fn apply_to(&self, offer: &str) -> String {
        let mut out = String::with_capacity(offer.len() + 256);
        for line in offer.lines().map(str::trim_end) {
            let line = if line.starts_with("a=ice-ufrag:") {
                format!("a=ice-ufrag:{}", self.ufrag)
            } else if line.starts_with("a=ice-pwd:") {
                format!("a=ice-pwd:{}", self.pwd)
            } else if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
                continue;
            } else if let Some(origin) = line.strip_prefix("o=") {
                format!("o={}", next_version(origin))
            } else {
                line.to_owned()
            };
            out.push_str(&line);
            out.push_str("\r\n");
        }
        out
    }
}

impl Fragment {
    /// `answer` with these credentials and candidates instead of its own, the candidates in its first section.
    pub(crate) fn renew(&self, answer: &str) -> String {
        let mut out = self.apply_to(answer);
        let candidates: String = self.candidates.iter().map(|(candidate, _)| format!("a={candidate}\r\n")).collect();
        // In front of the second section, or at the end.
        let sections = out.match_indices("\r\nm=").nth(1).map_or(out.len(), |(at, _)| at + 2);
        out.insert_str(sections, &candidates);
        out
    }
}

/// RFC 8866 section 5.2: the third field of the origin counts the versions of a session's description.
fn next_version(origin: &str) -> String {
    let mut fields: Vec<String> = origin.split(' ').map(str::to_owned).collect();
    if let Some(version) = fields.get_mut(2)
        && let Ok(number) = version.parse::<u64>()
    {
        *version = number.wrapping_add(1).to_string();
    }
    fields.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";

    #[test]
    fn bodies_are_read_and_written() {
        let fragment = Fragment::parse(BODY).expect("a fragment");
        assert_eq!((fragment.ufrag.as_str(), fragment.candidates.len()), ("EsAw", 1));
        assert_eq!(fragment.candidates[0].1.as_deref(), Some("0"));
        assert_eq!(Fragment::parse(&fragment.to_body()), Ok(fragment));
        let many = format!("{BODY}{}", "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n".repeat(64));
        for wrong in ["", "junk", "a=ice-ufrag:EsAw\r\n", "a=ice-ufrag:E A\r\na=ice-pwd:x\r\n", &many] {
            assert_eq!(Fragment::parse(wrong).map_err(|e| e.status()), Err(400), "{wrong}");
        }
    }

    #[test]
    fn a_restart_changes_credentials_version_and_candidates_only() {
        let offer = "v=0\r\no=- 7 2 IN IP4 0.0.0.0\r\ns=-\r\na=ice-ufrag:old1\r\na=ice-pwd:old\r\nm=video 9 X 96\r\n\
            a=candidate:1 1 udp 1 192.0.2.9 1 typ host\r\na=rtpmap:96 VP8/90000\r\n";
        let changed = Fragment::parse(BODY).expect("a fragment").apply_to(offer);
        assert!(
            changed.contains("o=- 7 3 IN") && changed.contains("a=ice-ufrag:EsAw") && changed.contains("rtpmap:96")
        );
        assert!(!changed.contains("192.0.2.9") && !changed.contains("old"));
    }
}
