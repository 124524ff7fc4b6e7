//! `--set KEY=VALUE`: one key of a destination's table, given on the command line as it would stand in coordinator.toml.

use std::path::PathBuf;

use toml_edit::{Array, Value};

/// A text that sets no key.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// Not a key and a value.
    #[error("--set {given:?} is not KEY=VALUE")]
    NoValue {
        /// What was given.
        given: String,
    },
    /// Where a relative path begins is not known.
    #[error("could not find {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// One key and its value.
#[derive(Debug, Clone)]
pub struct TableSetting {
    /// The key.
    pub key: String,
    /// What it is to be. A path is absolute: it was written for another directory than the file's.
    pub value: Value,
}

impl TableSetting {
    /// Reads what was given.
    pub fn read(given: &str) -> Result<Self, SettingError> {
        let (key, value) = given
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| SettingError::NoValue {
                given: given.to_owned(),
            })?;
        Ok(Self {
            key: key.to_owned(),
            value: value_of(key, value)?,
        })
    }
}

fn value_of(key: &str, text: &str) -> Result<Value, SettingError> {
    if key.ends_with("_file") {
        let path = PathBuf::from(text);
        let absolute = std::path::absolute(&path);
        let absolute = absolute.map_err(|source| SettingError::Path { path, source })?;
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
