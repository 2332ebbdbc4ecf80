//! Who was let in, for as long as they are answered: a stream does not outlast the token that it was asked for with.

use crate::guard::Guard;
use crate::role::Role;
use crate::token::Token;
use axum::body::{Body, HttpBody as _};
use axum::response::Response;
use futures::StreamExt as _;
use std::future::ready;
use std::sync::Arc;

/// What was shown to be let in.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    /// A token, by header or subprotocol.
    Token(Token),
    /// The id of a session, by cookie.
    Session(Token),
}

/// That someone was let in, and whether they still would be. It is in the extensions of every request that needed a
/// token: handlers of what lasts, such as a WebSocket, take `Extension<Access>` and look again before they go on.
#[derive(Clone, Debug)]
pub struct Access {
    pub(crate) guard: Arc<Guard>,
    pub(crate) shown: Shown,
    pub(crate) needed: Role,
}

// === impl Access ===

impl Access {
    /// The role that what was shown has now; `None` once it is not current any more, or too weak for what was asked.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.guard.role_of(&self.shown).filter(|role| *role >= self.needed)
    }
}

/// Ends an answer that goes on and on with the access: nothing is sent to one who would be refused now. Our streams say
/// something every few seconds, be it a comment, so that they end that soon.
pub(crate) fn bound_stream(response: Response, access: Access) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::from_stream(body.into_data_stream().take_while(move |_| ready(access.role().is_some()))))
}
