//! Which tables a host's value comes from, in words and for scripts. Never says what the value is.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::host::Host;
use crate::config::table_keys::TableKeys;

/// Keys to which every table adds; of all others the strongest table's value is taken.
const ADDED_UP: [&str; 2] = ["exclude", "limits"];

/// The tables that give a host's value for a key, the weakest first; none when it is built in.
fn origins<'a>(host: &'a Host, key: &str) -> Vec<(&'a TableKeys, u32)> {
    let tables = host.tables.iter();
    let set = tables.filter_map(|table| Some((table.as_ref(), table.line(key)?)));
    let mut found: Vec<_> = if ADDED_UP.contains(&key) {
        set.collect()
    } else {
        set.take(1).collect()
    };
    found.reverse();
    found
}

/// One line such as `group.db, hosts.toml:12`.
pub(super) fn origin_note(main: &Path, host: &Host, key: &str) -> String {
    let found = origins(host, key);
    if found.is_empty() {
        return "built in".to_owned();
    }
    let beside = main.parent().unwrap_or(Path::new(""));
    let notes = found.into_iter().map(|(table, line)| {
        let file = table.file.strip_prefix(beside).unwrap_or(&table.file);
        // A control character would end the comment that this stands in.
        let file = file.display().to_string().replace(char::is_control, "?");
        format!("{}, {file}:{line}", table.table)
    });
    notes.collect::<Vec<_>>().join("; ")
}

/// The same for scripts: one object for each table.
pub(super) fn origin_json(host: &Host, key: &str) -> Value {
    let found = origins(host, key).into_iter();
    let shown = found.map(|(table, line)| {
        json!({
            "table": table.table,
            "file": table.file.display().to_string(),
            "line": line,
        })
    });
    Value::Array(shown.collect())
}
