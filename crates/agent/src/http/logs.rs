//! The route of the logs.

use super::Shared;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use loco_http::{Failure, event_response};
use loco_model::query::{flag, whole};
use serde::Deserialize;

/// Lines where nothing else is said.
const USUAL: u64 = 100;
/// Most lines.
const MOST: u64 = 1000;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// So many of the last lines.
    #[serde(default, deserialize_with = "whole::<_, MOST>")]
    tail: Option<u64>,
    /// Go on with every new one.
    #[serde(default, deserialize_with = "flag")]
    follow: bool,
}

pub(super) async fn logs(
    State(agent): Shared,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wanted) = wanted.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let count = usize::try_from(wanted.tail.unwrap_or(USUAL)).unwrap_or(usize::MAX);
    if wanted.follow {
        return Ok(event_response(agent.logs.follow(count).map(|line| ("line", line)), agent.stop.clone()));
    }
    Ok(Json(agent.logs.tail(count)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Uri;

    fn asked(query: &str) -> Result<Wanted, String> {
        let uri: Uri = format!("http://agent/logs?{query}").parse().expect("an address");
        Query::try_from_uri(&uri).map(|Query(wanted)| wanted).map_err(|error| error.body_text())
    }

    #[test]
    fn what_is_wrong_with_a_query_is_named_with_what_is_allowed() {
        let good = asked("tail=1000&follow=true").expect("allowed");
        assert_eq!((good.tail, good.follow), (Some(1000), true));
        let left_out = asked("").expect("allowed");
        assert_eq!((left_out.tail, left_out.follow), (None, false));
        for (query, told) in [
            ("tail=x", "tail: \"x\": allowed are whole numbers of 0 to 1000"),
            ("tail=1001", "tail: \"1001\": allowed are whole numbers of 0 to 1000"),
            ("follow=1", "follow: \"1\": allowed are true and false"),
        ] {
            assert!(asked(query).is_err_and(|error| error.ends_with(told)), "{query}");
        }
    }
}
