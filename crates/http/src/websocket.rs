//! A WebSocket's token: browsers let a page set no header, but a subprotocol. A page asks for the subprotocols `loco`
//! and `loco.token.TOKEN` (the token in URL-safe Base64 without padding); the answer names `loco` alone.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The subprotocol that our servers answer with.
pub const SUBPROTOCOL: &str = "loco";
/// What stands before the token in the subprotocol that carries it.
const TOKEN_PREFIX: &str = "loco.token.";

/// The subprotocol that carries a token.
#[must_use]
pub fn token_subprotocol(token: &str) -> String {
    format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// The token among a WebSocket's subprotocols: `None` when there is none, `Some(None)` when it cannot be read.
pub(crate) fn token(headers: &HeaderMap) -> Option<Option<Vec<u8>>> {
    let upgrades =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let mut tokens = protocols(headers).filter_map(|protocol| protocol.strip_prefix(TOKEN_PREFIX));
    let first = tokens.next().filter(|_| upgrades)?;
    Some(URL_SAFE_NO_PAD.decode(first).ok().filter(|_| tokens.next().is_none()))
}

/// Takes the token out of the headers: what handlers do with them must not have to know of it.
pub(crate) fn hide_token(headers: &mut HeaderMap) {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let others: Vec<&str> = protocols(headers).filter(|protocol| !protocol.starts_with(TOKEN_PREFIX)).collect();
    let others = HeaderValue::try_from(others.join(", ")).ok().filter(|value| !value.is_empty());
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(others) = others {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(upgrade: &'static str, protocols: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        for protocol in protocols {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::try_from(*protocol).expect("value"));
        }
        headers
    }

    #[test]
    fn the_token_is_read_and_hidden() {
        let carried = token_subprotocol("se/cret+");
        let mut asked = headers("WebSocket", &[&format!("loco, {carried}")]);
        assert_eq!(token(&asked), Some(Some(b"se/cret+".to_vec())));
        hide_token(&mut asked);
        assert_eq!(asked[header::SEC_WEBSOCKET_PROTOCOL], "loco");
        assert_eq!(token(&asked), None);
        let mut alone = headers("websocket", &[&carried]);
        hide_token(&mut alone);
        assert!(!alone.contains_key(header::SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn what_is_no_token_is_none() {
        assert_eq!(token(&headers("websocket", &["loco"])), None);
        assert_eq!(token(&headers("h2c", &["loco.token.YWE"])), None, "only WebSockets");
        assert_eq!(token(&headers("websocket", &["loco.token.!"])), Some(None));
        assert_eq!(token(&headers("websocket", &["loco.token.YWE", "loco.token.YWE"])), Some(None), "which one?");
    }
}
