//! Cookies for browsers: a page swaps the token for a session at login, so that no script of it needs to keep the
//! token. The cookie holds a random session id and no token; a session ends with its token, at logout, or after 12 h.

use crate::problem::Failure;
use crate::role::Role;
use crate::token::{Token, TokenError, Tokens};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Name of the cookie.
pub const SESSION_COOKIE: &str = "loco_session";
/// How long a session lasts.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Most sessions at a time; one more ends the oldest.
pub const MAX_SESSIONS: usize = 64;

/// The sessions of one server. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Mutex<Vec<Session>>>);

#[derive(Debug)]
struct Session {
    id: Token,
    /// What it was begun with. It lasts only as long as that is one of the file's tokens.
    token: Token,
    begun: Instant,
}

// === impl Sessions ===

impl Sessions {
    fn with<R>(&self, tokens: &Tokens, now: Instant, change: impl FnOnce(&mut Vec<Session>) -> R) -> R {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| {
            now.saturating_duration_since(session.begun) < SESSION_LIFE && session.token.role_in(tokens).is_some()
        });
        change(&mut sessions)
    }

    fn begin(&self, tokens: &Tokens, token: Token, now: Instant) -> Result<Token, TokenError> {
        let id = Token::generate()?;
        self.with(tokens, now, |sessions| {
            if sessions.len() >= MAX_SESSIONS {
                sessions.remove(0);
            }
            sessions.push(Session { id: id.clone(), token, begun: now });
        });
        Ok(id)
    }

    /// The role of whoever presents this id.
    pub(crate) fn role_of(&self, tokens: &Tokens, presented: &[u8], now: Instant) -> Option<Role> {
        self.with(tokens, now, |sessions| {
            let mut found = None;
            for session in sessions {
                if session.id.matches(presented) {
                    found = session.token.role_in(tokens);
                }
            }
            found
        })
    }

    fn end(&self, tokens: &Tokens, presented: &[u8], now: Instant) {
        self.with(tokens, now, |sessions| sessions.retain(|session| !session.id.matches(presented)));
    }
}

/// The session id in a request's cookies.
pub(crate) fn session_cookie(headers: &HeaderMap) -> Option<&[u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(SESSION_COOKIE.as_bytes())?.strip_prefix(b"="))
}

/// Begins and ends sessions: for the handlers of a server's login and logout. Made by
/// [`Guard::login`](crate::Guard::login).
#[derive(Clone, Debug)]
pub struct Login {
    pub(crate) tokens: crate::TokenFile,
    pub(crate) sessions: Sessions,
}

// === impl Login ===

impl Login {
    /// Begins a session for a token: the value of `Set-Cookie`, and the token's role.
    ///
    /// # Errors
    /// 401 when the token is none of the current ones.
    pub fn begin(&self, headers: &HeaderMap, presented: &[u8]) -> Result<(HeaderValue, Role), Failure> {
        let tokens = self.tokens.tokens();
        let known = Token::try_new(presented).and_then(|token| Some((token.role_in(&tokens)?, token)));
        let Some((role, token)) = known else {
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "the token is not a current one"));
        };
        let id = self
            .sessions
            .begin(&tokens, token, Instant::now())
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok((cookie(headers, id.as_str(), SESSION_LIFE), role))
    }

    /// Ends the session of a request, if it has one: the value of `Set-Cookie`, which makes the browser forget it.
    #[must_use]
    pub fn end(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = session_cookie(headers) {
            self.sessions.end(&self.tokens.tokens(), id, Instant::now());
        }
        cookie(headers, "", Duration::ZERO)
    }
}

fn cookie(headers: &HeaderMap, id: &str, life: Duration) -> HeaderValue {
    // Only pages say how they came here; over plain HTTP a browser would refuse a cookie that is `Secure`.
    let secure = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let text = format!(
        "{SESSION_COOKIE}={id}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{}",
        life.as_secs(),
        if secure { "; Secure" } else { "" }
    );
    // Base64 and our own words: always a header's value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Tokens {
        Tokens::parse(text.as_bytes()).expect("tokens")
    }

    fn token(text: &str) -> Token {
        Token::try_new(text.as_bytes()).expect("token")
    }

    #[test]
    fn a_session_has_its_tokens_role_until_it_ends() {
        let (sessions, file, now) = (Sessions::default(), tokens("view aaa\noperate bbb"), Instant::now());
        let viewer = sessions.begin(&file, token("aaa"), now).expect("random");
        let operator = sessions.begin(&file, token("bbb"), now).expect("random");
        let role = |id: &Token, file, now| sessions.role_of(file, id.as_str().as_bytes(), now);
        assert_eq!((role(&viewer, &file, now), role(&operator, &file, now)), (Some(Role::View), Some(Role::Operate)));
        assert_eq!(sessions.role_of(&file, b"", now), None);
        // The view token was replaced: only its session ends.
        let rotated = tokens("view ccc\noperate bbb");
        assert_eq!((role(&viewer, &rotated, now), role(&operator, &rotated, now)), (None, Some(Role::Operate)));
        assert_eq!(role(&viewer, &file, now), None, "an ended one stays ended");
        assert_eq!(role(&operator, &rotated, now + SESSION_LIFE), None);
        let again = sessions.begin(&rotated, token("bbb"), now).expect("random");
        sessions.end(&rotated, again.as_str().as_bytes(), now);
        assert_eq!(role(&again, &rotated, now), None);
    }

    #[test]
    fn one_too_many_ends_the_oldest() {
        let (sessions, file, now) = (Sessions::default(), tokens("aaa"), Instant::now());
        let ids: Vec<Token> =
            (0..=MAX_SESSIONS).map(|_| sessions.begin(&file, token("aaa"), now).expect("random")).collect();
        let live = ids.iter().filter(|id| sessions.role_of(&file, id.as_str().as_bytes(), now).is_some()).count();
        assert_eq!(live, MAX_SESSIONS);
        assert_eq!(sessions.role_of(&file, ids[0].as_str().as_bytes(), now), None);
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(session_cookie(&headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; xloco_session=no"));
        assert_eq!(session_cookie(&headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("c=d;loco_session=yes ; e"));
        assert_eq!(session_cookie(&headers), Some(b"yes".as_slice()));
    }
}
