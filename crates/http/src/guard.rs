//! Who may speak to a server: `Host` and `Origin` are checked on every request; on every path that is not declared open
//! also who asks (by a bearer token, a session's cookie, or a WebSocket's subprotocol), and whether that role may.
//!
//! A page of another site that a person has open can make the browser send requests to loopback, also under a name
//! that it made resolve there (DNS rebinding). Such a request carries that site's `Host` or `Origin`, and ends here.

use crate::access::{Access, Shown, bound_stream};
use crate::login::{Login, Sessions, session_cookie};
use crate::problem::{Failure, problem_details};
use crate::role::{Role, Rules};
use crate::serve::{Limits, bound_body};
use crate::token::{Token, TokenFile};
use crate::trace::name_request;
use crate::websocket;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

/// Headers of answers that a page may read: what WHEP says in headers.
const EXPOSED: HeaderValue = HeaderValue::from_static("accept-patch, etag, link, location, retry-after, x-request-id");
/// Headers that a page may send.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, if-match, last-event-id, loco-viewer, x-request-id");
/// Methods that a page may use.
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_AGE_S: HeaderValue = HeaderValue::from_static("600");
/// Says whether a browser sends a request on behalf of a page of this server (Fetch metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A host name or address that clients may call this server by, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// Not a host name or address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name: expected a name or address without scheme, port or path, such as \"loco.example\"")]
pub struct HostNameError(String);

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let is_name = !text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if is_name || bare.parse::<IpAddr>().is_ok() {
            Ok(Self(bare.to_ascii_lowercase()))
        } else {
            Err(HostNameError(text.to_owned()))
        }
    }
}

/// A web origin whose pages may use this server: scheme, host and port, as browsers write it in the `Origin` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// Not a web origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: expected scheme, host and perhaps port, such as \"https://loco.example:8443\"")]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        match rest {
            Some(host) if !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b)) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(OriginError(text.to_owned())),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a server lets pass.
#[derive(Clone, Debug)]
pub struct Guard {
    tokens: TokenFile,
    sessions: Sessions,
    rules: Rules,
    open: Vec<&'static str>,
    hosts: Vec<HostName>,
    origins: Vec<Origin>,
    any_address: bool,
}

// === impl Guard ===

impl Guard {
    /// Loopback names and addresses as `Host`, pages of this server itself as `Origin`, the file's token everywhere
    /// but on `/health`, `/ready`, `/startup` and `/metrics`.
    #[must_use]
    pub fn new(tokens: TokenFile) -> Self {
        Self {
            tokens,
            sessions: Sessions::default(),
            rules: Rules::default(),
            open: vec!["/health", "/ready", "/startup", "/metrics"],
            hosts: Vec::new(),
            origins: Vec::new(),
            any_address: false,
        }
    }

    /// One more path that needs no token. `Host` and `Origin` are checked there too.
    #[must_use]
    pub fn open_path(mut self, path: &'static str) -> Self {
        self.open.push(path);
        self
    }

    /// `method` on `path` and all that is below it needs `role`; a segment `*` of `path` is any one segment, and the
    /// longest rule that fits decides. Without one, GET and HEAD need [`Role::View`] and everything else
    /// [`Role::Operate`]. The role of who asks is in the request's extensions (handlers take `Extension<Role>`), and for
    /// what lasts their [`Access`].
    #[must_use]
    pub fn role(mut self, method: Method, path: &'static str, role: Role) -> Self {
        self.rules.add(method, path, role);
        self
    }

    /// Begins and ends the sessions that this guard lets pass: for the handlers of a login (whose path must be
    /// [open](Self::open_path)) and a logout.
    #[must_use]
    pub fn login(&self) -> Login {
        Login { tokens: self.tokens.clone(), sessions: self.sessions.clone() }
    }

    /// Further names by which clients call this server.
    #[must_use]
    pub fn allow_hosts(mut self, hosts: impl IntoIterator<Item = HostName>) -> Self {
        self.hosts.extend(hosts);
        self
    }

    /// Further sites whose pages may use this server.
    #[must_use]
    pub fn allow_origins(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.origins.extend(origins);
        self
    }

    /// For a server that listens at `address`: one that others can reach is called by addresses that it may not know
    /// (a pod's, a host's). An address in `Host` is never a rebound name, so all are let pass there.
    #[must_use]
    pub fn listening_at(mut self, address: IpAddr) -> Self {
        self.any_address = !address.is_loopback();
        self
    }

    /// Puts this guard, the bounds on bodies, the problem details and the requests' ids in front of every route.
    pub fn protect(self, routes: Router, limits: Limits) -> Router {
        routes
            .layer(from_fn_with_state(limits, bound_body))
            .layer(from_fn_with_state(Arc::new(self), check))
            .layer(map_response(problem_details))
            .layer(from_fn(name_request))
    }

    fn host_allowed(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.any_address || address.is_loopback() || self.hosts.iter().any(|allowed| allowed.0 == host);
        }
        host == "localhost" || host.ends_with(".localhost") || self.hosts.iter().any(|allowed| allowed.0 == host)
    }

    fn origin_allowed(&self, origin: &str, host_header: &str) -> bool {
        let own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host_header));
        own || self.origins.iter().any(|allowed| allowed.0.eq_ignore_ascii_case(origin))
    }

    /// The origin to answer with CORS headers, if the request came from a page.
    fn check_source(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Failure::bad_request("exactly one Host header is needed"));
        };
        let Some((host_header, host)) = host.to_str().ok().and_then(|text| Some((text, host_of(text)?))) else {
            return Err(Failure::bad_request("the Host header is no host name or address with an optional port"));
        };
        if !self.host_allowed(&host) {
            return Err(Failure::new(
                StatusCode::MISDIRECTED_REQUEST,
                format!("this server is not called {host:?}: use a loopback address, or allow the name at its start"),
            ));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
        if origin.to_str().is_ok_and(|text| self.origin_allowed(text, host_header)) {
            return Ok(Some(origin.clone()));
        }
        Err(Failure::new(
            StatusCode::FORBIDDEN,
            format!("pages of origin {origin:?} may not use this server: allow the origin at its start"),
        ))
    }

    /// The role of who asks, and what they showed for it; `None` on an open path.
    fn check_role(self: &Arc<Self>, request: &Request) -> Result<Option<(Role, Access)>, Failure> {
        let path = request.uri().path();
        if self.open.contains(&path) {
            return Ok(None);
        }
        let (role, shown) = self.identify(request.headers())?;
        let needed = self.rules.needed(request.method(), path);
        if role >= needed {
            return Ok(Some((role, Access { guard: self.clone(), shown, needed })));
        }
        let detail = format!("{} {path} needs the role {needed}; the token has the role {role}", request.method());
        Err(Failure::new(StatusCode::FORBIDDEN, detail))
    }

    fn identify(&self, headers: &HeaderMap) -> Result<(Role, Shown), Failure> {
        let refuse = |detail: &str| Failure::new(StatusCode::UNAUTHORIZED, detail);
        let known = |shown: Option<Shown>, otherwise: &str| {
            let role = shown.as_ref().and_then(|shown| self.role_of(shown));
            role.zip(shown).ok_or_else(|| refuse(otherwise))
        };
        let token = |presented: &[u8]| Token::try_new(presented).map(Shown::Token);
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = values.next() {
            let presented = bearer(value).ok_or_else(|| refuse("the Authorization header's scheme must be Bearer"))?;
            let shown = token(presented).filter(|_| values.next().is_none());
            return known(shown, "the bearer token is not the current one");
        }
        if let Some(presented) = websocket::token(headers) {
            let shown = presented.as_deref().and_then(token);
            return known(shown, "the token in the WebSocket's subprotocol is not the current one");
        }
        if let Some(id) = session_cookie(headers).filter(|_| of_own_page(headers)) {
            return known(Token::try_new(id).map(Shown::Session), "the session is over: log in again");
        }
        Err(refuse("a bearer token is needed: send `Authorization: Bearer …` with the token file's content"))
    }

    /// The role that what was shown has now; `None` when it is not (any more) current.
    pub(crate) fn role_of(&self, shown: &Shown) -> Option<Role> {
        let tokens = self.tokens.tokens();
        match shown {
            Shown::Token(token) => token.role_in(&tokens),
            Shown::Session(id) => self.sessions.role_of(&tokens, id.as_str().as_bytes(), Instant::now()),
        }
    }
}

/// What a value of the `Authorization` header presents; `None` when its scheme is another one.
#[must_use]
pub fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether a browser sends this for a page of this server, or for a person who typed the address. A page of the same
/// machine on another port is "same-site": the cookie comes along, and must not count.
fn of_own_page(headers: &HeaderMap) -> bool {
    headers.get(FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none")
}

/// Host of a `Host` header's value in lower case, without port and brackets; `None` when it is none.
fn host_of(value: &str) -> Option<String> {
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => {
            let (address, tail) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, tail.strip_prefix(':').map_or_else(|| tail.is_empty().then_some(None), |port| Some(Some(port)))?)
        }
        None => match value.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (value, None),
        },
    };
    let port_valid = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let name_valid = host.parse::<HostName>().is_ok() || host.parse::<Ipv4Addr>().is_ok();
    (port_valid && name_valid).then(|| host.to_ascii_lowercase())
}

async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let origin = match guard.check_source(request.headers()) {
        Ok(origin) => origin,
        Err(failure) => return failure.into_response(),
    };
    // A preflight asks whether a page may send its token: it cannot carry the token itself.
    let preflight = request.method() == Method::OPTIONS
        && origin.is_some()
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        match guard.check_role(&request) {
            Ok(asker) => {
                websocket::hide_token(request.headers_mut());
                match asker {
                    Some((role, access)) => {
                        request.extensions_mut().insert(role);
                        request.extensions_mut().insert(access.clone());
                        bound_stream(next.run(request).await, access)
                    }
                    None => next.run(request).await,
                }
            }
            Err(failure) if failure.0.status == StatusCode::UNAUTHORIZED => challenge(failure),
            Err(failure) => failure.into_response(),
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE_S);
        }
    }
    for (name, value) in HARDENING {
        headers.entry(name).or_insert(value);
    }
    response
}

/// Sent with every answer: nothing here may be cached, sniffed, framed, or named in a referrer.
const HARDENING: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

fn challenge(failure: Failure) -> Response {
    let mut response = failure.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"loco\""));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        for (value, want) in [
            ("127.0.0.1:8080", Some("127.0.0.1")),
            ("LocalHost", Some("localhost")),
            ("[::1]:80", Some("::1")),
            ("[::1]", Some("::1")),
            ("loco.example:1", Some("loco.example")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:99999", None),
            ("[::1]x", None),
            ("[::1", None),
            ("a/b", None),
            ("user@localhost", None),
            ("localhost:80:80", None),
        ] {
            assert_eq!(host_of(value).as_deref(), want, "{value:?}");
        }
    }

    #[test]
    fn names_and_origins_from_settings() {
        assert!("loco.example".parse::<HostName>().is_ok() && "[fd00::1]".parse::<HostName>().is_ok());
        for bad in ["", "http://a", "a:80", "a/b", "ä"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
        assert!("https://loco.example:8443".parse::<Origin>().is_ok());
        for bad in ["", "*", "null", "loco.example", "ftp://a", "http://", "http://a/", "http://a@b"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad:?}");
        }
    }
}
