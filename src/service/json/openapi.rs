//! `GET /openapi.json`: describes the routes, their messages and their errors.
//!
//! What flows in: the table of routes, the descriptors and the comments of the proto. What flows out: a document of
//! OpenAPI 3.1, made once. The schemas are those of the JSON mapping; as answers have 64-bit integers as text, so may
//! requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::descriptors;
use super::error::JSON;
use super::routes::{IndexField, JsonRoute, ROUTES};

/// How long a client may keep the document.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// Answers `GET /openapi.json`.
pub(crate) fn page() -> Response {
    let mut response = Response::new(Body::from(DOCUMENT.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
    response
}

fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for route in &ROUTES {
        let operation = schemas.operation(route);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[if route.is_get { "get" } else { "post" }] = operation;
    }
    let status = descriptors::message("google.rpc.Status").map(|of| schemas.message(&of));
    let mut all = Map::from_iter(schemas.done);
    all.insert("Error".to_owned(), error(status.is_some()));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Shortlist",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Candidate retrieval. Messages are those of gRPC, as proto3 maps them to JSON.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{}, { "bearer": [] }],
        "paths": paths,
        "components": {
            "schemas": all,
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The schema of an error.
fn error(has_details: bool) -> Value {
    let detail = json!({
        "type": "object",
        "properties": { "@type": { "type": "string" } },
        "required": ["@type"],
    });
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "status", "message"],
            "properties": {
                "code": { "type": "integer", "description": "The code of HTTP." },
                "status": { "type": "string", "description": "The code of gRPC, by name." },
                "message": { "type": "string", "description": "For developers, in English." },
                "details": {
                    "type": "array",
                    "description": "Messages of google/rpc/error_details.proto.",
                    "items": if has_details { detail } else { json!({}) },
                },
            },
        } },
    })
}

/// The schemas of messages and enums that were used, by name.
#[derive(Default)]
struct Schemas {
    done: BTreeMap<String, Value>,
    comments: HashMap<String, Comments>,
}

impl Schemas {
    fn operation(&mut self, route: &JsonRoute) -> Value {
        let has_index = route.path.contains("{index}");
        let failed = json!({
            "description": "An error.",
            "headers": { "Retry-After": {
                "description": "Seconds after which to try again.",
                "schema": { "type": "integer" },
            } },
            "content": { "application/json": { "schema": reference("Error") } },
        });
        let answered = |schema: Value| json!({ "description": "The answer.", "content": { "application/json": { "schema": schema } } });
        let Some(method) = descriptors::method(route.grpc) else {
            return json!({
                "operationId": "OpenApi",
                "summary": "This document.",
                "security": [],
                "responses": { "200": answered(json!({ "type": "object" })), "default": failed },
            });
        };
        let description = self.comment(&method.parent_service().parent_file(), method.path());
        let mut parameters = vec![json!({
            "name": "grpc-timeout",
            "in": "header",
            "description": "How long the caller waits: up to 8 digits and a unit (H, M, S, m, u or n).",
            "schema": { "type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$" },
        })];
        if has_index {
            parameters.push(json!({
                "name": "index",
                "in": "path",
                "required": true,
                "description": "The name of the index, or an alias.",
                "schema": { "type": "string", "minLength": 1 },
            }));
        }
        let mut operation = json!({
            "operationId": format!("{}{}", method.name(), if has_index || route.index == IndexField::None { "" } else { "OfAll" }),
            "summary": description.split(['.', '\n']).next().unwrap_or_default(),
            "description": description,
            "tags": [method.parent_service().name()],
            "parameters": parameters,
            "responses": { "200": answered(self.message(&method.output())), "default": failed },
        });
        if !route.is_get {
            operation["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": self.message(&method.input()) } },
            });
        }
        operation
    }

    /// Returns a reference to the schema of a message.
    fn message(&mut self, of: &MessageDescriptor) -> Value {
        match of.full_name() {
            "google.protobuf.Timestamp" => return json!({ "type": "string", "format": "date-time" }),
            "google.protobuf.Duration" => {
                return json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" });
            }
            "google.protobuf.Any" => {
                return json!({
                    "type": "object",
                    "properties": { "@type": { "type": "string" } },
                    "required": ["@type"],
                });
            }
            _ => {}
        }
        let name = name(of.full_name());
        if !self.done.contains_key(&name) {
            // Messages may contain themselves.
            self.done.insert(name.clone(), Value::Null);
            let file = of.parent_file();
            let mut properties = Map::new();
            for field in of.fields() {
                let mut schema = self.field(&field);
                let description = self.comment(&file, field.path());
                if !description.is_empty() {
                    schema["description"] = description.into();
                }
                let options = &field.field_descriptor_proto().options;
                if options.as_ref().is_some_and(|options| options.deprecated()) {
                    schema["deprecated"] = true.into();
                }
                properties.insert(field.json_name().to_owned(), schema);
            }
            let schema = json!({
                "type": "object",
                "description": self.of_oneofs(of),
                "properties": properties,
                "additionalProperties": false,
            });
            self.done.insert(name.clone(), schema);
        }
        reference(&name)
    }

    /// The comment of a message, and which of its fields exclude each other.
    fn of_oneofs(&mut self, of: &MessageDescriptor) -> String {
        let mut text = self.comment(&of.parent_file(), of.path());
        for oneof in of.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let names: Vec<_> = oneof.fields().map(|field| format!("`{}`", field.json_name())).collect();
            text += &format!("\n\nAt most one of {}.", names.join(", "));
        }
        text.trim_start().to_owned()
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return json!({}) };
            return json!({ "type": "object", "additionalProperties": self.kind(&entry.map_entry_value_field().kind()) });
        }
        let schema = self.kind(&field.kind());
        if field.is_list() { json!({ "type": "array", "items": schema }) } else { schema }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double | Kind::Float => {
                let format = if *kind == Kind::Float { "float" } else { "double" };
                json!({ "anyOf": [{ "type": "number", "format": format }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
            }
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX })
            }
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({
                "type": ["string", "integer"],
                "pattern": "^-?[0-9]{1,18}$",
                "minimum": i64::MIN,
                "maximum": i64::MAX,
            }),
            Kind::Uint64 | Kind::Fixed64 => json!({
                "type": ["string", "integer"],
                "pattern": "^[0-9]{1,20}$",
                "minimum": 0,
                "maximum": u64::MAX,
            }),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(of) => self.message(of),
            Kind::Enum(of) => self.enumeration(of),
        }
    }

    fn enumeration(&mut self, of: &EnumDescriptor) -> Value {
        let name = name(of.full_name());
        let file = of.parent_file();
        let mut text = self.comment(&file, of.path());
        for value in of.values() {
            let description = self.comment(&file, value.path());
            if !description.is_empty() {
                text += &format!("\n\n`{}`: {description}", value.name());
            }
        }
        let names: Vec<_> = of.values().map(|value| value.name().to_owned()).collect();
        self.done.insert(
            name.clone(),
            json!({ "type": "string", "description": text.trim_start(), "enum": names }),
        );
        reference(&name)
    }

    /// The comment in front of a declaration.
    fn comment(&mut self, file: &FileDescriptor, path: &[i32]) -> String {
        let comments = self.comments.entry(file.name().to_owned()).or_insert_with(|| Comments::of(file));
        comments.0.get(path).cloned().unwrap_or_default()
    }
}

/// The comments of a file, by the path of what they are about.
struct Comments(HashMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptor) -> Self {
        let info = file.file_descriptor_proto().source_code_info.as_ref();
        let commented = info.into_iter().flat_map(|info| &info.location).filter_map(|location| {
            let lines = location
                .leading_comments
                .as_deref()?
                .lines()
                .map(|line| line.strip_prefix(' ').unwrap_or(line));
            Some((location.path.clone(), lines.collect::<Vec<_>>().join("\n").trim().to_owned()))
        });
        Self(commented.collect())
    }
}

/// The name of a schema: that of the message, without its package.
fn name(full: &str) -> String {
    let name = full.strip_prefix("shortlist.v1.").unwrap_or(full);
    name.strip_prefix("google.rpc.").unwrap_or(name).to_owned()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every reference in a value.
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            _ => {}
        }
    }

    #[test]
    fn the_document_has_every_route_and_every_reference_leads_somewhere() {
        let document = document();
        for route in &ROUTES {
            let method = if route.is_get { "get" } else { "post" };
            assert!(document["paths"][route.path][method]["responses"]["200"].is_object(), "{}", route.path);
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), ROUTES.len());
        let ids: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), ROUTES.len());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 40, "{found:?}");
        for reference in found {
            let schema = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(schema.is_some_and(Value::is_object), "{reference}");
        }
    }

    #[test]
    fn descriptions_are_the_comments_of_the_proto() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let k = &schemas["SearchRequest"]["properties"]["k"];
        assert_eq!(
            k["description"].as_str().unwrap().lines().next(),
            Some("Number of candidates to return: at least 1, at most the server's limit (default 10,000).")
        );
        assert_eq!(schemas["SearchStats"]["properties"]["visited"]["deprecated"], true);
        let text = schemas["Completeness.Reason"]["description"].as_str().unwrap();
        assert!(text.contains("`REASON_EXCLUDED`: All other videos are excluded."), "{text}");
        let search = &document["paths"]["/v1/indexes/{index}:search"]["post"];
        assert_eq!(search["summary"], "Returns the best candidates for one query");
    }
}
