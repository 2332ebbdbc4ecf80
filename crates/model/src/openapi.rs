//! Schemas of types whose JSON is not the sum of their fields.

use crate::InstanceId;
use crate::keys::Key;
use crate::usage::{SessionReport, SetActive, Viewer};
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

impl PartialSchema for Key {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(schema::SchemaType::new(Type::String))
            .description(Some("A key by its place: a W3C KeyboardEvent.code."))
            .enum_values(Some(Self::all().map(Self::code)))
            .into()
    }
}

impl ToSchema for Key {}

/// One viewer, as `GET /api/viewers` lists it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ViewerShape {
    /// Its id: random, chosen by itself.
    id: String,
    /// When it was heard of last, in milliseconds since 1970 UTC.
    heard_at_ms: u64,
    /// What people call it.
    name: String,
    /// Where its keyboard goes; null while nowhere.
    focus: Option<InstanceId>,
    /// Whether it follows the active list's first entry, and sets it.
    follows: bool,
    /// Its sessions.
    sessions: Vec<SessionReport>,
}

impl PartialSchema for Viewer {
    fn schema() -> RefOr<Schema> {
        ViewerShape::schema()
    }
}

impl ToSchema for Viewer {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ViewerShape::schemas(schemas);
    }
}

/// The whole list.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ActiveIds {
    /// In order; the first is the primary one.
    #[schema(max_items = 9)]
    ids: Vec<InstanceId>,
}

/// One, or none.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ActiveId {
    /// Which.
    #[schema(required = true)]
    id: Option<InstanceId>,
}

/// What sets the shared list; `[]` and null clear it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is of interest")]
enum SetActiveShape {
    Ids(ActiveIds),
    Id(ActiveId),
}

impl PartialSchema for SetActive {
    fn schema() -> RefOr<Schema> {
        SetActiveShape::schema()
    }
}

impl ToSchema for SetActive {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        SetActiveShape::schemas(schemas);
    }
}
