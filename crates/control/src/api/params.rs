//! Parts of paths and queries as values. What is no value of its type names nothing that exists: 404, before anything
//! is done with it.

use super::error::ApiError;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use loco_http::Failure;
use loco_model::InstanceId;
use serde::de::DeserializeOwned;

/// The path's only parameter, an instance.
pub(super) struct Id(pub(super) InstanceId);

/// All of a path's parameters as text, for [`instance`] and [`name`].
pub(super) struct Params<T>(pub(super) T);

/// A query, or a problem that names what is wrong with it.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Params(text) = Params::<String>::from_request_parts(parts, state).await?;
        instance(&text).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(Self(params)),
            Err(rejection) => Err(Failure::not_found(rejection.body_text()).into()),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(ApiError::new(StatusCode::BAD_REQUEST, rejection.body_text())),
        }
    }
}

pub(super) fn instance(text: &str) -> Result<InstanceId, ApiError> {
    text.parse().map_err(|error: loco_model::instance::UnknownInstance| Failure::not_found(error.to_string()).into())
}

/// An id that someone made up: `^[A-Za-z0-9_-]{1,64}$`.
pub(super) fn name<'a>(what: &str, text: &'a str) -> Result<&'a str, ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(text);
    }
    Err(no_name(what, text, "1 to 64 letters, digits, - and _"))
}

/// A snapshot's name: `^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`.
pub(super) fn snapshot_name(text: &str) -> Result<&str, ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-']) {
        return Ok(text);
    }
    Err(no_name("snapshot", text, "1 to 64 letters, digits, _, . and -, the first none of the last two"))
}

fn no_name(what: &str, text: &str, allowed: &str) -> ApiError {
    let text: String = text.chars().take(64).collect();
    Failure::not_found(format!("{text:?} is no {what}'s name: it has {allowed}")).into()
}
