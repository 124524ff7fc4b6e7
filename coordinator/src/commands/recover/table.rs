//! The destination's table of a recovered coordinator.toml, from a URL and `--set`.

use std::path::PathBuf;

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use crate::config::sample::{InitValues, coordinator_toml as sample};

/// The destination's name in the configuration that is written.
const NAME: &str = "recovered";

/// What was said of the destination cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Not a key and a value.
    #[error("--set {given:?} is not KEY=VALUE")]
    NoValue {
        /// What was given.
        given: String,
    },
    /// A key that is given otherwise.
    #[error("--set {key} is not needed: the destination's {key} is known already")]
    Known {
        /// The key.
        key: String,
    },
    /// Where a relative path begins is not known.
    #[error("could not find {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The sample cannot be filled in.
    #[error("cannot fill in the sample configuration")]
    Sample(#[from] toml_edit::TomlError),
}

/// The sample coordinator.toml over this one destination. Paths become absolute: the file is written elsewhere.
pub(super) fn coordinator_toml(url: &str, settings: &[String]) -> Result<String, TableError> {
    let text = sample(&InitValues {
        state_dir: "state",
        destination: std::path::Path::new("/"),
        bundle: "keys/daemon.bundle",
        key_file: "keys/daemon.key",
    })?;
    let mut document: DocumentMut = text.parse()?;
    let mut tables = ArrayOfTables::new();
    tables.push(destination_table(url, settings)?);
    document.insert("destination", Item::ArrayOfTables(tables));
    Ok(document.to_string())
}

/// The destination's table alone.
pub(in crate::commands) fn destination_table(
    url: &str,
    settings: &[String],
) -> Result<Table, TableError> {
    let mut table = Table::new();
    table.insert("name", NAME.into());
    table.insert("url", url.into());
    for given in settings {
        let (key, value) = given
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| TableError::NoValue {
                given: given.clone(),
            })?;
        if matches!(key, "name" | "url" | "required") {
            let key = key.to_owned();
            return Err(TableError::Known { key });
        }
        table.insert(key, Item::Value(value_of(key, value)?));
    }
    Ok(table)
}

fn value_of(key: &str, text: &str) -> Result<Value, TableError> {
    if key.ends_with("_file") {
        let path = PathBuf::from(text);
        let absolute = std::path::absolute(&path);
        let absolute = absolute.map_err(|source| TableError::Path { path, source })?;
        return Ok(absolute.display().to_string().into());
    }
    // `true`, `["a", "b"]` and quoted texts are what they are; anything else is a text as it stands.
    if let Ok(value) = text.parse::<Value>()
        && matches!(
            value,
            Value::Boolean(_) | Value::Array(_) | Value::String(_)
        )
    {
        return Ok(value);
    }
    if key == "host_key" {
        return Ok(Value::Array(Array::from_iter([text])));
    }
    Ok(text.into())
}
