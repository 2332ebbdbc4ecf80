//! The committed OpenAPI document: the same as the served one, and strict where requests are.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn document() -> Value {
    serde_json::from_str(&loco_control::openapi_json()).expect("JSON")
}

/// Every operation: its method, path and description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |path: &String, item: &Value| {
        let item = item.as_object().expect("path item").clone();
        let path = path.clone();
        item.into_iter().map(move |(method, operation)| (method, path.clone(), operation))
    };
    paths.iter().flat_map(|(path, item)| of(path, item)).collect()
}

/// `UPDATE=1 cargo test -p loco-control --test openapi` writes it anew.
#[test]
fn the_committed_document_is_the_served_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let text = loco_control::openapi_json();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("write");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/openapi.json is not what is served: run `UPDATE=1 cargo test -p loco-control --test openapi`"
    );
}

#[test]
fn every_operation_says_what_it_answers() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document);
    assert!(operations.len() >= 40, "{}", operations.len());
    let mut names = BTreeSet::new();
    for (method, path, operation) in &operations {
        let place = format!("{method} {path}");
        assert!(names.insert(operation["operationId"].to_string()), "{place}: an id that is there already");
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{place}: no success");
        let open = operation["security"] == serde_json::json!([{}]);
        let meant_open = ["/health", "/ready", "/metrics", "/api/login"].contains(&path.as_str());
        assert_eq!(open, meant_open, "{place}: {}", operation["security"]);
        assert!(responses.contains_key("401") || open, "{place}");
        for (status, response) in responses {
            let content = response["content"].as_object();
            if status.starts_with('4') || status.starts_with('5') {
                assert!(
                    content.is_some_and(|content| content.contains_key("application/problem+json")),
                    "{place} {status}"
                );
            } else if status != "204" {
                let described = content.is_some_and(|content| content.values().all(|kind| kind["schema"].is_object()));
                assert!(described, "{place} {status}");
            }
        }
        if operation["requestBody"].is_object() {
            for status in ["400", "413", "415", "422"] {
                assert!(responses.contains_key(status), "{place} {status}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let (document, mut found) = (document(), BTreeSet::new());
    references(&document, &mut found);
    let lost: Vec<_> = found.iter().filter(|path| document.pointer(path.trim_start_matches('#')).is_none()).collect();
    assert!(lost.is_empty() && found.len() > 30, "{lost:?}");
}

/// Requests refuse keys that they do not know: so must their schemas.
#[test]
fn schemas_of_requests_are_closed() {
    let document = document();
    let mut seen = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        closed(&document, schema, &format!("{method} {path}"), &mut seen);
    }
    assert!(seen.len() > 10, "{seen:?}");
}

fn closed(document: &Value, schema: &Value, place: &str, seen: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        if seen.insert(reference.to_owned()) {
            let target = document.pointer(reference.trim_start_matches('#')).expect("a schema");
            closed(document, target, reference, seen);
        }
        return;
    }
    for kind in ["oneOf", "anyOf", "allOf"] {
        for (at, variant) in schema[kind].as_array().into_iter().flatten().enumerate() {
            closed(document, variant, &format!("{place}/{kind}/{at}"), seen);
        }
    }
    let parts = schema["allOf"].as_array().into_iter().flatten();
    assert!(parts.clone().all(|part| part["properties"].is_null()), "{place}: objects of allOf cannot be closed");
    if let Some(items) = schema.get("items") {
        closed(document, items, &format!("{place}[]"), seen);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let is_bare_tag = properties.len() == 1 && place.contains("oneOf");
        assert!(schema["additionalProperties"] == false || is_bare_tag, "{place}: {schema:#}");
        for (name, property) in properties {
            closed(document, property, &format!("{place}.{name}"), seen);
        }
    }
    let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    if kinds.contains(&"integer".into()) {
        assert!(schema["minimum"].is_number() && schema["maximum"].is_number(), "{place} has no bounds: {schema}");
    }
}
