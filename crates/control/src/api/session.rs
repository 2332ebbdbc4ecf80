//! Cookies for browsers.

use super::Shared;
use super::error::ApiError;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use loco_http::{Failure, OptionalJson, bearer};
use serde::{Deserialize, Serialize};

/// What a browser's page logs in with.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginOrder {
    /// The token.
    #[schema(max_length = 1_024, format = Password)]
    token: String,
}

/// Who has logged in.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct LoggedIn {
    /// What the token's bearer may do.
    #[schema(pattern = "^(view|play|operate)$")]
    role: &'static str,
}

/// Swap a token for a cookie
///
/// The token is in the body, or in the `Authorization` header. The cookie is not to be read by pages (`HttpOnly`), is sent
/// by pages of this server only (`SameSite=Strict`), and holds no token. It lasts 12 h, and no longer than its token.
#[utoipa::path(post, path = "/api/login", tag = "session", security(()),
    request_body(content = Option<LoginOrder>, description = "May be left out when the header is there"),
    responses(
        (status = 200, description = "The answer sets the cookie", body = LoggedIn,
            headers(("Set-Cookie" = String, description = "The session's cookie"))),
        (status = 401, description = "The token is not a current one"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed")))]
pub(super) async fn log_in(
    State(shared): State<Shared>,
    headers: HeaderMap,
    OptionalJson(order): OptionalJson<LoginOrder>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<LoggedIn>), ApiError> {
    let order = order.map(|order| order.token);
    let presented = match &order {
        Some(token) if token.chars().count() > 1_024 => {
            let detail = "token has more than 1024 characters";
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        Some(token) => Some(token.as_bytes()),
        None => headers.get(header::AUTHORIZATION).and_then(bearer),
    };
    let Some(presented) = presented else {
        let detail = "a token is needed: in the body as {\"token\": …}, or in the Authorization header";
        return Err(Failure::new(StatusCode::UNAUTHORIZED, detail).into());
    };
    let (cookie, role) = shared.login.begin(&headers, presented)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(LoggedIn { role: role.as_str() })))
}

/// Forget the cookie
#[utoipa::path(post, path = "/api/logout", tag = "session",
    responses((status = 204, description = "The session is over; the answer takes the cookie away",
        headers(("Set-Cookie" = String, description = "An empty cookie that is over")))))]
pub(super) async fn log_out(
    State(shared): State<Shared>,
    headers: HeaderMap,
) -> (StatusCode, [(HeaderName, HeaderValue); 1]) {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, shared.login.end(&headers))])
}
