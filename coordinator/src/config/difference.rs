//! What changed between two effective configurations. Never looks at files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::terminal::visible;

/// One value that is not the same in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The dotted key, such as `host.web1.max_new`.
    pub key: String,
    /// What it was; nothing when it is new.
    pub before: Option<Value>,
    /// What it is; nothing when it is gone.
    pub after: Option<Value>,
}

impl fmt::Display for Change {
    /// One line: `+` for what is new, `-` for what is gone, `~` for what is another.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = visible(&self.key);
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(out, "~ {key}: {} -> {}", shown(before), shown(after))
            }
            (Some(before), None) => write!(out, "- {key}{}", of_plain(before)),
            (None, Some(after)) => write!(out, "+ {key}{}", of_plain(after)),
            (None, None) => Ok(()),
        }
    }
}

fn shown(value: &Value) -> String {
    visible(&value.to_string())
}

/// A whole table that came or went is told by its name alone.
fn of_plain(value: &Value) -> String {
    match value {
        Value::Object(_) => String::new(),
        value => format!(" = {}", shown(value)),
    }
}

/// Every change from one to the other, in the order of the keys.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(key: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    if let (Some(before), Some(after)) = (before.and_then(named), after.and_then(named)) {
        let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        for name in names {
            let key = match key.is_empty() {
                true => name.to_owned(),
                false => format!("{key}.{name}"),
            };
            compare(
                &key,
                before.get(name).copied(),
                after.get(name).copied(),
                found,
            );
        }
        return;
    }
    found.push(Change {
        key: key.to_owned(),
        before: before.cloned(),
        after: after.cloned(),
    });
}

/// The parts of a table, or of a list whose elements all have a name of their own.
fn named(value: &Value) -> Option<BTreeMap<&str, &Value>> {
    match value {
        Value::Object(map) => Some(
            map.iter()
                .map(|(key, value)| (key.as_str(), value))
                .collect(),
        ),
        Value::Array(list) => {
            let parts = list
                .iter()
                .map(|part| Some((part.get("name")?.as_str()?, part)));
            let parts: BTreeMap<&str, &Value> = parts.collect::<Option<_>>()?;
            (parts.len() == list.len() && !list.is_empty()).then_some(parts)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::changes;

    fn lines(before: &Value, after: &Value) -> Vec<String> {
        let found = changes(before, after);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_changed_value_is_one_line_and_whole_tables_are_told_by_name() {
        let before = json!({
            "log": { "level": "info" },
            "destination": [{ "name": "a", "url": "file:///a" }, { "name": "b", "url": "file:///b" }],
            "host": { "old": { "user": "x" }, "web": { "paths": ["/"], "max_new": "1GiB" } },
        });
        let after = json!({
            "log": { "level": "info" },
            "destination": [{ "name": "b", "url": "file:///c" }, { "name": "a", "url": "file:///a" }],
            "host": { "new": { "user": "x" }, "web": { "paths": ["/", "/srv"], "quota": "1TiB" } },
        });
        assert_eq!(
            lines(&before, &after),
            [
                "~ destination.b.url: \"file:///b\" -> \"file:///c\"",
                "+ host.new",
                "- host.old",
                "- host.web.max_new = \"1GiB\"",
                "~ host.web.paths: [\"/\"] -> [\"/\",\"/srv\"]",
                "+ host.web.quota = \"1TiB\"",
            ]
        );
        assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn lists_without_distinct_names_are_compared_whole() {
        let twice = json!({ "l": [{ "name": "a" }, { "name": "a" }] });
        assert_eq!(
            lines(&twice, &json!({ "l": [] })),
            ["~ l: [{\"name\":\"a\"},{\"name\":\"a\"}] -> []"]
        );
    }
}
