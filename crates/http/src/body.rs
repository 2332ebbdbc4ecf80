//! Bodies of requests as values. What cannot be read is a problem that names the place, the value and what is allowed.

use crate::problem::Failure;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

/// A body that must be a JSON object: 415 when it is not declared so, 400 when it is none, 422 when a value in it is not
/// allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonBody<T>(pub T);

/// The same, and it may be left out, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalJson<T>(pub Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let (headers, body) = read(request, state).await?;
        parse(&headers, &body).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let (headers, body) = read(request, state).await?;
        if body.is_empty() { Ok(Self(None)) } else { parse(&headers, &body).map(Self) }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<(HeaderMap, Bytes), Failure> {
    let headers = request.headers().clone();
    let body = Bytes::from_request(request, state).await;
    let body = body.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    Ok((headers, body))
}

fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Failure> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !declared.is_some_and(is_json) {
        let detail = match declared {
            Some(declared) => format!("the body's content type is {declared:?}: expected application/json"),
            None => "the body needs the header `Content-Type: application/json`".to_owned(),
        };
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    // Serde would take an array's elements for a struct's fields.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "the body is an array: expected an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json);
    let value = match read {
        Ok(value) => value,
        Err(error) => {
            let number = error.inner().to_string().contains("floating point");
            let again = number.then(|| serde_json::from_slice(body).ok().map(with_whole_numbers)).flatten();
            if let Some(value) = again.and_then(|value| T::deserialize(value).ok()) {
                return Ok(value);
            }
            let path = error.path().to_string();
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            return Err(refusal(error.inner(), &place));
        }
    };
    json.end().map_err(|error| refusal(&error, ""))?;
    Ok(value)
}

/// The same with whole numbers as such: in JSON `1.0` is one, as programs write it that know only floating point.
#[must_use]
pub fn with_whole_numbers(value: Value) -> Value {
    /// Beyond, not every whole number has a floating point one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) if float.fract() == 0.0 && float.abs() <= EXACT => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(with_whole_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, with_whole_numbers(value))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

fn refusal(error: &serde_json::Error, place: &str) -> Failure {
    match error.classify() {
        Category::Data => Failure::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{place}{error}")),
        Category::Syntax | Category::Eof | Category::Io => {
            Failure::bad_request(format!("the body is no JSON: {place}{error}"))
        }
    }
}

fn is_json(declared: &str) -> bool {
    let kind = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        numbers: Vec<u8>,
    }

    fn request(kind: Option<&str>, body: &str) -> Request {
        let request = Request::builder().method("POST").uri("/");
        let request = kind.into_iter().fold(request, |request, kind| request.header(header::CONTENT_TYPE, kind));
        request.body(Body::from(body.to_owned())).expect("request")
    }

    #[tokio::test]
    async fn each_refusal_names_what_is_wrong() {
        const JSON: Option<&str> = Some("application/json");
        for (kind, body, status, part) in [
            (JSON, r#"{"numbers":[1,300]}"#, 422, "numbers[1]: invalid value: integer `300`"),
            (JSON, r#"{"numbers":1}"#, 422, "numbers: invalid type: integer `1`, expected a sequence"),
            (JSON, r#"{"other":1}"#, 422, "unknown field `other`, expected `numbers`"),
            (JSON, "null", 422, "invalid type: null"),
            (JSON, " [[1]]", 422, "is an array"),
            (JSON, r#"{"numbers":[1"#, 400, "EOF"),
            (JSON, r#"{"numbers":[]} x"#, 400, "trailing"),
            (JSON, "", 400, "EOF"),
            (JSON, "\u{0}", 400, "line 1 column 1"),
            (Some("text/plain"), "{}", 415, "\"text/plain\""),
            (None, "{}", 415, "application/json"),
        ] {
            let failure = JsonBody::<Order>::from_request(request(kind, body), &()).await.expect_err(body).0;
            assert_eq!(failure.status, status, "{body:?}: {failure:?}");
            assert!(failure.detail.as_deref().is_some_and(|detail| detail.contains(part)), "{failure:?}");
        }
        let whole = JsonBody::<Order>::from_request(request(JSON, r#"{"numbers":[7.0, 1e1]}"#), &()).await;
        assert_eq!(whole.expect("whole numbers"), JsonBody(Order { numbers: vec![7, 10] }));
        let half = JsonBody::<Order>::from_request(request(JSON, r#"{"numbers":[7.5]}"#), &()).await;
        assert!(half.expect_err("no whole number").0.detail.is_some_and(|detail| detail.contains("`7.5`")));
        for kind in ["application/json", "application/JSON; charset=utf-8", "application/problem+json"] {
            let read = JsonBody::<Order>::from_request(request(Some(kind), r#"{"numbers":[7]}"#), &()).await;
            assert_eq!(read.expect(kind), JsonBody(Order { numbers: vec![7] }));
        }
    }

    #[tokio::test]
    async fn what_is_optional_may_be_missing_but_not_wrong() {
        for kind in [None, Some("application/json"), Some("text/plain")] {
            let read = OptionalJson::<Order>::from_request(request(kind, ""), &()).await;
            assert_eq!(read.expect("nothing"), OptionalJson(None));
        }
        let read = OptionalJson::<Order>::from_request(request(Some("application/json"), "null"), &()).await;
        assert_eq!(read.expect("null"), OptionalJson(None));
        let read = OptionalJson::<Order>::from_request(request(None, "{}"), &()).await;
        assert_eq!(read.expect_err("undeclared").0.status, 415);
    }
}
