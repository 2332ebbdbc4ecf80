//! HTTP/1.1 messages on their way through, session descriptions in them changed. Pure.

/// Most bytes of a message's head; a longer one is passed as it is, and all behind it.
const MOST_HEAD: usize = 64 * 1024;
/// Most bytes of a session description; a longer one is passed as it is.
const MOST_SDP: usize = 256 * 1024;

/// Where a stream of messages is.
enum Place {
    /// In a message's head, of which this much came.
    Head(Vec<u8>),
    /// In a body of which this much is to come.
    Body(usize),
    /// In a session description: the head, how long it is, and what came of it.
    Description(Vec<u8>, usize, Vec<u8>),
    /// Where nothing more is understood: a body whose end only the connection's end tells.
    Rest,
}

/// One direction of an HTTP connection.
pub(crate) struct Messages(Place);

// === impl Messages ===

impl Messages {
    pub(crate) const fn new() -> Self {
        Self(Place::Head(Vec::new()))
    }

    /// Takes `bytes`, adds to `out` what goes on, session descriptions after `change`. What is incomplete waits.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>, change: &mut dyn FnMut(&str) -> String) {
        while !bytes.is_empty() {
            let place = std::mem::replace(&mut self.0, Place::Rest);
            self.0 = match place {
                Place::Rest => {
                    out.extend_from_slice(bytes);
                    return;
                }
                Place::Body(left) => {
                    let taken = left.min(bytes.len());
                    out.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if left > taken { Place::Body(left - taken) } else { Place::Head(Vec::new()) }
                }
                Place::Description(head, length, mut body) => {
                    let taken = (length - body.len()).min(bytes.len());
                    body.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if body.len() < length {
                        Place::Description(head, length, body)
                    } else {
                        match std::str::from_utf8(&body) {
                            Ok(text) => {
                                let text = change(text);
                                out.extend_from_slice(&with_length(&head, text.len()));
                                out.extend_from_slice(text.as_bytes());
                            }
                            Err(_) => {
                                out.extend_from_slice(&head);
                                out.extend_from_slice(&body);
                            }
                        }
                        Place::Head(Vec::new())
                    }
                }
                Place::Head(mut head) => {
                    // The end may lie across two reads.
                    let from = head.len().saturating_sub(3);
                    head.extend_from_slice(bytes);
                    match head[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                        None if head.len() > MOST_HEAD => {
                            out.extend_from_slice(&head);
                            return;
                        }
                        None => {
                            self.0 = Place::Head(head);
                            return;
                        }
                        Some(at) => {
                            let end = from + at + 4;
                            bytes = &bytes[bytes.len() - (head.len() - end)..];
                            head.truncate(end);
                            after_head(head, out)
                        }
                    }
                }
            };
        }
    }
}

/// What follows this head; it goes on at once unless its length will change.
fn after_head(head: Vec<u8>, out: &mut Vec<u8>) -> Place {
    let text = String::from_utf8_lossy(&head).into_owned();
    let value = |name: &str| {
        let mut fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).map(str::to_owned);
    let has_no_body =
        status.as_ref().is_some_and(|status| status.starts_with('1') || status == "204" || status == "304");
    let length = value("content-length").and_then(|length| length.parse::<usize>().ok());
    let is_sdp = value("content-type")
        .is_some_and(|kind| kind.starts_with("application/sdp") || kind.starts_with("application/trickle-ice-sdpfrag"));
    let next = match length {
        _ if has_no_body => Place::Head(Vec::new()),
        Some(length) if is_sdp && length > 0 && length <= MOST_SDP => {
            return Place::Description(head, length, Vec::with_capacity(length));
        }
        Some(0) => Place::Head(Vec::new()),
        Some(length) => Place::Body(length),
        // A request without a length has no body (RFC 9112 section 6.3); a chunked one or an answer goes on to the end.
        None if status.is_none() && value("transfer-encoding").is_none() => Place::Head(Vec::new()),
        None => Place::Rest,
    };
    out.extend_from_slice(&head);
    next
}

/// `head` with another `Content-Length`.
fn with_length(head: &[u8], length: usize) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let lines = text.split_inclusive("\r\n").map(|line| match line.split_once(':') {
        Some((name, _)) if name.eq_ignore_ascii_case("content-length") => format!("{name}: {length}\r\n"),
        _ => line.to_owned(),
    });
    lines.collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(stream: &str, piece: usize) -> String {
        let (mut messages, mut out) = (Messages::new(), Vec::new());
        for bytes in stream.as_bytes().chunks(piece) {
            messages.push(bytes, &mut out, &mut |sdp| format!("<{sdp}>"));
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn descriptions_are_changed_and_everything_else_is_not() {
        let plain = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
        let posted = "POST /input HTTP/1.1\r\ncontent-type: application/json\r\nContent-Length: 3\r\n\r\n{ }";
        let offer = |body: &str| {
            format!(
                "POST /whep HTTP/1.1\r\nContent-Type: application/sdp; charset=x\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let deleted = "HTTP/1.1 204 No Content\r\netag: \"1\"\r\n\r\n";
        let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let stream = format!("{plain}{posted}{}{deleted}{}{endless}", offer("v=0"), offer("v=1\r\n"));
        let expected = format!("{plain}{posted}{}{deleted}{}{endless}", offer("<v=0>"), offer("<v=1\r\n>"));
        for piece in [1, 2, 3, 7, 50, 10_000] {
            assert_eq!(through(&stream, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_http_is_passed() {
        let noise = "x".repeat(MOST_HEAD + 10);
        assert_eq!(through(&noise, 1000), noise);
    }
}
