//! JSON Schemas of coordinator.toml and hosts.toml, for editors: made from one table of keys and from the comments of the
//! sample files. Never checks a file; loading does that, and more than a schema can say.

mod keys;
mod meanings;

use serde_json::{Map, Value, json};

use crate::config::sample::{COORDINATOR_TOML, HOSTS_TOML};
use crate::config::schema::keys::{COORDINATOR, HOSTS, Key, Kind};
use crate::config::schema::meanings::Meanings;

/// The dialect that the schemas are written in.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// "50GiB", "1.5 TiB" or "500MB".
const SIZE_PATTERN: &str = "^[0-9]+(\\.[0-9]{1,3})? *([KkMmGgTt][Ii]?)?[Bb]$";
/// The same of each second.
const RATE_PATTERN: &str = "^[0-9]+(\\.[0-9]{1,3})? *([KkMmGgTt][Ii]?)?[Bb]/s$";
/// "90s", "14d" or "1h30m".
const DURATION_PATTERN: &str = "^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// The schema of coordinator.toml.
pub fn coordinator_schema() -> Value {
    of_file("coordinator.toml", COORDINATOR, COORDINATOR_TOML)
}

/// The schema of hosts.toml and of every file in hosts.d.
pub fn hosts_schema() -> Value {
    of_file("hosts.toml", HOSTS, HOSTS_TOML)
}

fn of_file(title: &str, keys: &[Key], sample: &str) -> Value {
    let meanings = Meanings::of(sample);
    let mut schema = table(&[keys], "", &meanings);
    schema.insert("$schema".to_owned(), json!(DIALECT));
    schema.insert("title".to_owned(), json!(title));
    Value::Object(schema)
}

fn table(lists: &[&[Key]], path: &str, meanings: &Meanings) -> Map<String, Value> {
    let keys = || lists.iter().copied().flatten();
    let properties = keys().map(|key| (key.name.to_owned(), of_key(key, path, meanings)));
    let properties: Map<String, Value> = properties.collect();
    let required: Vec<&str> = keys()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn of_key(key: &Key, path: &str, meanings: &Meanings) -> Value {
    let mut schema = of_kind(&key.kind, &meanings::below(path, key.name), meanings);
    if let Some(meaning) = meanings.of_key(path, key.name) {
        schema.insert("description".to_owned(), json!(meaning));
    }
    if let Some(default) = key.default {
        schema.insert("default".to_owned(), key.kind.value(default));
    }
    Value::Object(schema)
}

fn of_kind(kind: &Kind, path: &str, meanings: &Meanings) -> Map<String, Value> {
    let inner = |keys: &[&[Key]]| Value::Object(table(keys, path, meanings));
    let schema = match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::WordOrCount(words, max) => json!({ "anyOf": [
            { "enum": words },
            { "type": "integer", "minimum": 1, "maximum": max },
        ] }),
        Kind::Size => of_pattern(SIZE_PATTERN),
        Kind::Rate => of_pattern(RATE_PATTERN),
        Kind::Duration => of_pattern(DURATION_PATTERN),
        Kind::Table(keys) => inner(keys),
        Kind::Tables(keys) => json!({ "type": "array", "items": inner(keys) }),
        Kind::Named(keys) => json!({ "type": "object", "additionalProperties": inner(keys) }),
        Kind::Or(kind, keys) => json!({ "anyOf": [of_kind(kind, path, meanings), inner(keys)] }),
        Kind::OrTables(kind, keys) => json!({ "anyOf": [
            of_kind(kind, path, meanings),
            { "type": "array", "items": inner(keys) },
        ] }),
    };
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn of_pattern(pattern: &str) -> Value {
    json!({ "type": "string", "minLength": 2, "pattern": pattern })
}

#[cfg(test)]
mod probe;
#[cfg(test)]
mod tests;
