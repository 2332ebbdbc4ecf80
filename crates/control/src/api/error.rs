//! What handlers answer when they cannot do what was asked.

use crate::hub::HubError;
use crate::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use loco_http::{ClientError, Failure};

/// A problem, and when to try again where that is known.
#[derive(Debug)]
pub(super) struct ApiError {
    failure: Failure,
    retry_after_s: Option<u64>,
}

// === impl ApiError ===

impl ApiError {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Failure::new(status, detail).into()
    }

    /// What an agent, or the way to it, said no with. Its 401 is not our client's fault.
    pub(super) fn of_agent(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { status, detail, .. } => {
                let detail = detail.clone().unwrap_or_else(|| format!("the agent answered {status}"));
                match *status {
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::new(
                        StatusCode::BAD_GATEWAY,
                        format!("the agent refuses the control plane's token: {detail}"),
                    ),
                    StatusCode::BAD_REQUEST
                    | StatusCode::NOT_FOUND
                    | StatusCode::CONFLICT
                    | StatusCode::UNPROCESSABLE_ENTITY
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::SERVICE_UNAVAILABLE => Self::new(*status, detail),
                    _ => Self::new(StatusCode::BAD_GATEWAY, format!("the agent answered {status}: {detail}")),
                }
            }
            ClientError::Unreachable { reason, .. } => {
                Self::new(StatusCode::BAD_GATEWAY, format!("the agent does not answer: {reason}"))
            }
            ClientError::Unexpected { reason, .. } => {
                Self::new(StatusCode::BAD_GATEWAY, format!("the agent answered something unexpected: {reason}"))
            }
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after_s: None }
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = match error {
            HubError::Limit { retry_after_ms, .. } => retry_after_ms.map(|wait| wait.div_ceil(1_000).max(1)),
            _ => None,
        };
        Self { failure: Failure::new(status, error.to_string()), retry_after_s }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Config { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::UnknownMetric { .. } | StoreError::Range(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.failure.into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
