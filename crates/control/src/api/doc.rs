//! The OpenAPI document: what the routes say of themselves, and what holds for all of them.

use super::Shared;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use loco_http::login::SESSION_COOKIE;
use loco_model::api::Event;
use loco_model::problem::{CONTENT_TYPE, Problem};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{AdditionalProperties, Schema};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr};
use utoipa::{Modify, OpenApi as _};

/// Answers that any operation may give: they are the guard's and the bounds'.
const COMMON: [(&str, &str); 5] = [
    ("400", "The request cannot be read: its Host header, or its body"),
    ("403", "The token's role is too weak, or the page's origin is not allowed"),
    ("408", "The body did not arrive in time"),
    ("413", "The body is too long"),
    ("421", "This server is not called by that name"),
];

/// Tagged types that refuse unknown keys, which the macro says of structs only.
const CLOSED: [&str; 2] = ["InputEvent", "Probe"];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Loco Cluster control plane",
        description = "Nine emulated PCs: which there are, how they are, who uses them, what is done to repair them.\n\n\
            Every error is a problem (RFC 9457) whose detail names the bad value and what is allowed. Bodies have at most \
            64 KiB. Every answer carries the request's id (`X-Request-Id`).\n\n\
            Roles: *view* reads, and tells of a viewer; *play* gives input, takes it, and sets the active list; *operate* \
            repairs and configures.\n\n\
            Beside these operations there is a WebSocket, `/active`: it tells `{\"active\": […]}` at the beginning and at \
            every change, and takes `{\"ids\": […]}` or `{\"id\": …}`; what it does not take is answered by \
            `{\"error\": …}`. Pages show their token by the subprotocols `loco` and `loco.token.` with the token in \
            URL-safe Base64."
    ),
    components(schemas(Problem, Event)),
    security(("bearer" = []), ("cookie" = [])),
    modifiers(&Schemes),
    tags(
        (name = "instances", description = "Which there are, and what can be done with them"),
        (name = "quality", description = "How they are, and their repair"),
        (name = "use", description = "Who uses them, and input"),
        (name = "events", description = "What happens, and what was written"),
        (name = "history", description = "What is remembered"),
        (name = "config", description = "What can be set"),
        (name = "session", description = "Cookies for browsers"),
        (name = "process", description = "The control plane itself")
    )
)]
struct Head;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The token file's content"));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let cookie = ApiKeyValue::with_description(SESSION_COOKIE, "Set by the login");
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// What is said before any route is.
pub(super) fn head() -> OpenApi {
    Head::openapi()
}

/// The whole document, as it is served at `/api/openapi.json`.
fn openapi() -> OpenApi {
    let (_, mut document) = super::described().split_for_parts();
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(complete);
    }
    for name in CLOSED {
        let schemas = document.components.as_mut().map(|components| &mut components.schemas);
        if let Some(RefOr::T(Schema::OneOf(variants))) = schemas.and_then(|schemas| schemas.get_mut(name)) {
            variants.items.iter_mut().for_each(close);
        }
    }
    document
}

/// The same as indented JSON: what is committed as `docs/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    // Strings, numbers and lists: it always serialises.
    openapi().to_pretty_json().map(|text| text + "\n").unwrap_or_default()
}

/// The OpenAPI document
#[utoipa::path(get, path = "/api/openapi.json", tag = "process", operation_id = "get_openapi",
    responses((status = 200, description = "This document", body = Object)))]
pub(super) async fn get_openapi(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.openapi.to_string()).into_response()
}

/// Says that a variant has no further keys. Serde lets them pass where there is nothing but the tag.
fn close(variant: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = variant
        && object.properties.len() > 1
    {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

/// Adds the answers that every operation may give, and says of each error that it is a problem.
fn complete(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    // Only those that need a token list no security of their own.
    let closed = operation.security.is_none();
    let unauthorized = closed.then_some(("401", "A token or a session is needed, and it must be a current one"));
    for (status, description) in COMMON.into_iter().chain(unauthorized) {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(description).build()));
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && (status.starts_with('4') || status.starts_with('5'))
            && response.content.is_empty()
        {
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            response.content.insert(CONTENT_TYPE.to_owned(), problem.into());
        }
    }
}
