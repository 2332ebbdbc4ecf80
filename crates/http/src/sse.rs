//! Server-sent events (WHATWG HTML, 9.2): values that follow one another as an answer that never ends, and the
//! client's side, where bytes in any pieces become events.

use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// Longest silence of our servers on a stream of events; a comment breaks it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Longest event that is accepted, in bytes.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// Header by which a client that connects again says which event it got last.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Longest id of an event that is kept, in bytes.
const MAX_ID_BYTES: usize = 256;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// The id of the last event that had one, this one included: what to resume after; `None` before the first.
    pub id: Option<String>,
    /// The event's name; `message` where the server gives none.
    pub name: String,
    /// Its data, lines joined by `\n`.
    pub data: String,
}

/// The stream is no event stream that we can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SseError {
    /// One event is longer than 1 MiB.
    #[error("a server-sent event is longer than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    /// A line is no UTF-8.
    #[error("a server-sent event is not UTF-8")]
    NotUtf8,
}

/// Answers with one event per item of `events` (its name and its data as JSON), and a comment every 5 s without one;
/// ends when `events` does, or when `stop` is cancelled.
pub fn event_response<T: Serialize + Send + 'static>(
    events: impl Stream<Item = (&'static str, T)> + Send + 'static,
    stop: CancellationToken,
) -> Response {
    respond(events.map(|(name, value)| (Event::default(), name, value)), stop)
}

/// The same with an id for each event, so that a client can [resume](last_event_id) after the last one that it got.
pub fn numbered_event_response<T: Serialize + Send + 'static>(
    events: impl Stream<Item = (u64, &'static str, T)> + Send + 'static,
    stop: CancellationToken,
) -> Response {
    respond(events.map(|(id, name, value)| (Event::default().id(id.to_string()), name, value)), stop)
}

fn respond<T: Serialize + Send + 'static>(
    events: impl Stream<Item = (Event, &'static str, T)> + Send + 'static,
    stop: CancellationToken,
) -> Response {
    let events = events.filter_map(|(event, name, value)| async move {
        match event.event(name).json_data(value) {
            Ok(event) => Some(Ok::<_, Infallible>(event)),
            Err(error) => {
                tracing::error!("an event {name:?} cannot be written as JSON: {error}");
                None
            }
        }
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(keep_alive).into_response()
}

/// The id of the last event that the client got from a [`numbered_event_response`]; `None` when it says none, or one
/// that is not ours: then it knows nothing.
#[must_use]
pub fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()?.parse().ok()
}

/// Takes a stream apart.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    id: Option<String>,
    name: String,
    data: String,
    has_data: bool,
    after_carriage_return: bool,
}

// === impl Parser ===

impl Parser {
    /// Takes the next piece of the stream; calls `emit` for every event that is complete with it.
    ///
    /// # Errors
    /// When an event is too long or no UTF-8. The stream cannot be read on then.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(ServerEvent)) -> Result<(), SseError> {
        for &byte in bytes {
            let second_of_pair = byte == b'\n' && self.after_carriage_return;
            self.after_carriage_return = byte == b'\r';
            match byte {
                _ if second_of_pair => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    if let Some(event) = self.line(&line)? {
                        emit(event);
                    }
                }
                _ if self.line.len() + self.data.len() >= MAX_EVENT_BYTES => return Err(SseError::TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<ServerEvent>, SseError> {
        let line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = std::mem::take(&mut self.data);
            let complete = std::mem::take(&mut self.has_data);
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return Ok(complete.then(|| ServerEvent { id: self.id.clone(), name, data }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // The id stays for all events that follow, until there is another one; an empty one takes it away.
            "id" if value.is_empty() => self.id = None,
            "id" if value.len() <= MAX_ID_BYTES && !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments keep the connection alive; retry times are of no use to us.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_in_pieces(text: &[u8], piece: usize) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for bytes in text.chunks(piece) {
            parser.push(bytes, |event| events.push((event.name, event.data))).expect("valid");
        }
        events
    }

    #[test]
    fn events_come_out_whatever_the_pieces() {
        let text = ": hello\n\nevent: a\ndata: 1\ndata:2\n\ndata: ü\r\n\r\nevent: nothing\n\nevent: b\rdata\r\rid: 7\ndata: cut";
        for piece in 1..=text.len() {
            let want = [("a", "1\n2"), ("message", "ü"), ("b", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(parse_in_pieces(text.as_bytes(), piece), want, "pieces of {piece}");
        }
    }

    #[test]
    fn ids_stay_until_the_next() {
        let mut parser = Parser::default();
        let mut ids = Vec::new();
        let text = "data: a\n\nid: 7\ndata: b\n\nevent: c\ndata\n\nid: 8\n\ndata: d\n\nid:x\0y\nid\ndata: e\n\n";
        parser.push(text.as_bytes(), |event| ids.push(event.id)).expect("valid");
        assert_eq!(ids, [None, Some("7".into()), Some("7".into()), Some("8".into()), None]);
        let mut headers = HeaderMap::new();
        assert_eq!(last_event_id(&headers), None);
        for (value, want) in [("12", Some(12)), ("-1", None), ("", None), ("x", None)] {
            headers.insert(LAST_EVENT_ID, value.parse().expect("value"));
            assert_eq!(last_event_id(&headers), want, "{value:?}");
        }
    }

    #[test]
    fn floods_and_binary_are_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT_BYTES + 1], |_| ()), Err(SseError::TooLong));
        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &[b'x'; 1000], b"\n"].concat();
        assert_eq!(parser.push(&line.repeat(2000), |_| ()), Err(SseError::TooLong));
        assert_eq!(Parser::default().push(b"data: \xff\n", |_| ()), Err(SseError::NotUtf8));
    }
}
