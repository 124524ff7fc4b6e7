//! The table of keys is what the types read, its defaults are the built-in ones, and the samples fit the schemas.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Value, json};

use crate::config::Config;
use crate::config::bandwidth_settings::RawRateHours;
use crate::config::raw::{RawCoordinator, RawHosts, RawJumpLogin};
use crate::config::safety_settings::{RawAnomalyLimits, RawLimits};
use crate::config::sample::{COORDINATOR_TOML, HOSTS_TOML};
use crate::config::schema::keys::{
    ANOMALY, COORDINATOR, HOSTS, JUMP, Key, Kind, QUOTA, RATE_HOURS,
};
use crate::config::schema::probe::keys_read;
use crate::config::schema::{coordinator_schema, hosts_schema};
use crate::config::show::effective;

/// The table's keys in the words of the probe.
fn flatten(lists: &[&[Key]], path: &str, found: &mut BTreeMap<String, String>) {
    for key in lists.iter().copied().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{}", key.name);
        let (path, kind, inner): (String, String, &[&[Key]]) = match &key.kind {
            Kind::Flag => (path, "flag".to_owned(), &[]),
            Kind::Number { .. } => (path, "number".to_owned(), &[]),
            Kind::Text | Kind::Size | Kind::Rate | Kind::Duration => (path, "text".to_owned(), &[]),
            Kind::Texts => (format!("{path}[]"), "text".to_owned(), &[]),
            Kind::Word(words) => (path, words.join("|"), &[]),
            Kind::Table(keys) => (path, "table".to_owned(), keys),
            Kind::Tables(keys) => (format!("{path}[]"), "table".to_owned(), keys),
            Kind::Named(keys) => (format!("{path}.*"), "table".to_owned(), keys),
            // The type takes either, and its table is asked by itself.
            Kind::Or(..) | Kind::OrTables(..) | Kind::WordOrCount(..) => {
                (path, "any".to_owned(), &[])
            }
        };
        flatten(inner, &path, found);
        found.insert(path, kind);
    }
}

#[track_caller]
fn assert_reads(lists: &[&[Key]], read: &BTreeMap<String, String>) {
    let mut listed = BTreeMap::new();
    flatten(lists, "", &mut listed);
    for (key, kind) in read {
        let shown = listed.get(key);
        let shown = shown.unwrap_or_else(|| unreachable!("{key} ({kind}) is not in the table"));
        // A choice of words may be read as a text and checked later.
        let is_word = kind == "text" && shown.contains('|');
        assert!(shown == kind || is_word, "{key}: {shown} is read as {kind}");
    }
    for key in listed.keys() {
        assert!(
            read.contains_key(key),
            "{key} is in the table and nobody reads it"
        );
    }
}

#[test]
fn the_table_has_every_key_that_is_read_and_no_other() {
    assert_reads(&[COORDINATOR], &keys_read::<RawCoordinator>());
    assert_reads(&[JUMP], &keys_read::<RawJumpLogin>());
    assert_reads(&[QUOTA], &keys_read::<RawLimits>());
    assert_reads(&[ANOMALY], &keys_read::<RawAnomalyLimits>());
    assert_reads(&[RATE_HOURS], &keys_read::<RawRateHours>());
    let mut hosts = keys_read::<RawHosts>();
    // The type is the same for all three; what only hosts may set is refused elsewhere later.
    let alone = ["local", "address", "host_key[]", "repository", "groups[]"];
    for table in ["defaults", "group.*"] {
        for key in alone {
            hosts.remove(&format!("{table}.{key}")).unwrap();
        }
    }
    assert_reads(&[HOSTS], &hosts);
}

/// What of `value` does not fit, by the part of the specification that our schemas use.
fn misfits(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let wrong = |what: &str| vec![format!("{at}: {what}")];
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices
            .iter()
            .any(|choice| misfits(choice, value, at).is_empty());
        return if fits { Vec::new() } else { wrong("no choice") };
    }
    if let Some(words) = schema["enum"].as_array() {
        let known = words.contains(value);
        return if known {
            Vec::new()
        } else {
            wrong("no such word")
        };
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("boolean", Value::Bool(_)) => Vec::new(),
        ("integer", Value::Number(number)) => {
            let number = number.as_u64().unwrap_or(u64::MAX);
            let range = schema["minimum"].as_u64().unwrap()..=schema["maximum"].as_u64().unwrap();
            if range.contains(&number) {
                Vec::new()
            } else {
                wrong("out of range")
            }
        }
        ("string", Value::String(text)) => {
            let long_enough = text.len() as u64 >= schema["minLength"].as_u64().unwrap_or(0);
            let pattern = schema["pattern"].as_str().unwrap_or("");
            let fits = long_enough && Regex::new(pattern).unwrap().is_match(text);
            if fits { Vec::new() } else { wrong("pattern") }
        }
        ("array", Value::Array(values)) => {
            let each = values.iter().enumerate();
            each.flat_map(|(number, value)| {
                misfits(&schema["items"], value, &format!("{at}[{number}]"))
            })
            .collect()
        }
        ("object", Value::Object(map)) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let missing = required.filter(|key| !map.contains_key(key.as_str().unwrap()));
            let missing = missing.map(|key| format!("{at}: {key} is missing"));
            let each = map.iter().flat_map(|(key, value)| {
                let at = format!("{at}.{key}");
                match (&schema["properties"][key], &schema["additionalProperties"]) {
                    (Value::Null, Value::Object(_)) => {
                        misfits(&schema["additionalProperties"], value, &at)
                    }
                    (Value::Null, _) => vec![format!("{at}: unknown")],
                    (known, _) => misfits(known, value, &at),
                }
            });
            missing.chain(each).collect()
        }
        (wanted, _) => wrong(&format!("is no {wanted}")),
    }
}

fn of_toml(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// "#key" shows a key; "# text" is a comment.
fn uncommented(sample: &str) -> Value {
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => {
            key
        }
        _ => line,
    });
    of_toml(&lines.map(|line| format!("{line}\n")).collect::<String>())
}

#[test]
fn the_samples_fit_the_schemas_as_they_are_and_with_every_key_uncommented() {
    for (schema, sample) in [
        (coordinator_schema(), COORDINATOR_TOML),
        (hosts_schema(), HOSTS_TOML),
    ] {
        for value in [of_toml(sample), uncommented(sample)] {
            assert_eq!(misfits(&schema, &value, ""), Vec::<String>::new());
        }
    }
}

#[test]
fn what_loading_refuses_for_its_shape_the_schemas_refuse_too() {
    let schema = hosts_schema();
    for (text, misfit) in [
        (
            "[[host.a.hook]]\non = \"failed\"\n",
            ".host.a.hook[0]: \"run\" is missing",
        ),
        (
            "[host.a]\naddress = \"a\"\nadress = \"a\"\n",
            ".host.a.adress: unknown",
        ),
        (
            "[defaults]\naddress = \"a\"\n",
            ".defaults.address: unknown",
        ),
        (
            "[defaults]\ngroups = [\"a\"]\n",
            ".defaults.groups: unknown",
        ),
        (
            "[group.g]\nmax_new = \"5\"\n",
            ".group.g.max_new: no choice",
        ),
        ("[group.g]\nuser = 5\n", ".group.g.user: is no string"),
        (
            "[group.g.limits]\nidle = \"30m1h\"\n",
            ".group.g.limits.idle: pattern",
        ),
        (
            "[group.g.limits]\nidle = \"\"\n",
            ".group.g.limits.idle: pattern",
        ),
        (
            "[group.g.limits]\ntunnel_connections = 9\n",
            ".group.g.limits.tunnel_connections: out of range",
        ),
        (
            "[group.g]\ntransport = \"tpc\"\n",
            ".group.g.transport: no such word",
        ),
        ("[group.g]\npaths = \"/\"\n", ".group.g.paths: is no array"),
        ("[group.g]\njump = 5\n", ".group.g.jump: no choice"),
        (
            "[group.g]\njump = { usr = \"a\", address = \"b\" }\n",
            ".group.g.jump: no choice",
        ),
        (
            "[group.g]\ncommit = \"most\"\n",
            ".group.g.commit: no choice",
        ),
        ("[group.g]\ncommit = 0\n", ".group.g.commit: no choice"),
        ("[groups.g]\n", ".groups: unknown"),
    ] {
        assert_eq!(misfits(&schema, &of_toml(text), ""), [misfit], "{text}");
    }
    let text = "[host.a]\naddress = \"a\"\njump = { address = \"b\" }\nmax_new = \"1.5 tib\"\nlimits = { run = \"1d12h\" }\ncommit = 2\n";
    assert!(misfits(&schema, &of_toml(text), "").is_empty());
    let text = "state_dir = \"s\"\n[[destination]]\nname = \"a\"\nurl = \"s3://b\"\nbandwidth = \"10MiB\"\n";
    let found = misfits(&coordinator_schema(), &of_toml(text), "");
    assert_eq!(found, [".destination[0].bandwidth: pattern"]);
}

/// Every default of the table that stands right below one of these tables, against a configuration that sets nothing.
#[test]
fn defaults_of_the_table_are_the_built_in_ones() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coordinator.toml");
    let coordinator = "state_dir = \"s\"\n[[destination]]\nname = \"a\"\nurl = \"file:///a\"\n";
    std::fs::write(&file, coordinator).unwrap();
    let host = "[host.a]\naddress = \"a\"\nuser = \"u\"\nidentity_file = \"i\"\npaths = [\"/\"]\n";
    std::fs::write(directory.path().join("hosts.toml"), host).unwrap();
    let shown = effective(&Config::load(&file).unwrap(), None);
    let defaults = |schema: &Value, shown: &Value, skipped: &[&str]| {
        let keys = schema["properties"].as_object().unwrap();
        for (key, schema) in keys {
            if let Some(default) = schema.get("default")
                && !skipped.contains(&key.as_str())
            {
                // A key that may be "" for none is not shown then.
                let built_in = match &shown[key] {
                    Value::Null => &json!(""),
                    set => set,
                };
                assert_eq!(built_in, default, "{key}");
            }
        }
    };
    let schema = coordinator_schema();
    for table in ["limits", "prune", "scan", "log"] {
        defaults(&schema["properties"][table], &shown[table], &[]);
    }
    let destination = &schema["properties"]["destination"]["items"];
    // Nothing is locked in a directory.
    defaults(destination, &shown["destination"][0], &["lock_max"]);
    let host = &hosts_schema()["properties"]["host"]["additionalProperties"];
    defaults(host, &shown["host"]["a"], &[]);
    defaults(
        &host["properties"]["limits"],
        &shown["host"]["a"]["limits"],
        &[],
    );
}

#[test]
fn every_key_has_a_meaning_from_the_sample() {
    let hosts = hosts_schema();
    let host = &hosts["properties"]["host"]["additionalProperties"];
    assert_eq!(
        host["properties"]["keep_floor"]["description"],
        "So many of the last verified snapshots are never dropped, whatever `keep` says."
    );
    let group = &hosts["properties"]["group"]["additionalProperties"];
    assert_eq!(group["properties"]["user"], host["properties"]["user"]);
    let idle = &host["properties"]["limits"]["properties"]["idle"];
    assert_eq!(idle["default"], json!("5m"));
    let mut silent = Vec::new();
    for schema in [&coordinator_schema(), &hosts] {
        let tables = schema["properties"].as_object().unwrap();
        for (name, table) in tables {
            let items = ["items", "additionalProperties"].map(|inner| &table[inner]);
            let inner = [table, items[0], items[1]].map(|table| table["properties"].as_object());
            for (key, schema) in inner.into_iter().flatten().flatten() {
                if schema["description"].is_null() {
                    silent.push(format!("{name}.{key}"));
                }
            }
        }
    }
    assert_eq!(silent, Vec::<String>::new());
}
