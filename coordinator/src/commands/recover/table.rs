//! The destination's table of a recovered coordinator.toml, from a URL and `--set`.

use std::path::Path;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

use crate::config::sample::{InitValues, coordinator_toml as sample};
use crate::config::table_setting::{SettingError, TableSetting};

/// The destination's name in the configuration that is written, unless it is given another.
const NAME: &str = "recovered";

/// What was said of the destination cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// What was given sets no key.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A key that is given otherwise.
    #[error("--set {key} is not needed: the destination's {key} is known already")]
    Known {
        /// The key.
        key: String,
    },
    /// The sample cannot be filled in.
    #[error("cannot fill in the sample configuration")]
    Sample(#[from] toml_edit::TomlError),
}

/// The sample coordinator.toml over this one destination. Paths become absolute: the file is written elsewhere.
pub(super) fn coordinator_toml(
    url: &str,
    settings: &[String],
    user: &str,
) -> Result<String, TableError> {
    let text = sample(&InitValues {
        state_dir: Path::new("state"),
        destination: Path::new("/"),
        bundle: &format!("keys/{user}.bundle"),
        key_file: &format!("keys/{user}.key"),
        socket_dir: None,
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
        let TableSetting { key, value } = TableSetting::read(given)?;
        if matches!(key.as_str(), "url" | "required") {
            return Err(TableError::Known { key });
        }
        table.insert(&key, Item::Value(value));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{TableError, destination_table};

    #[test]
    fn the_destination_can_have_the_name_that_it_had() {
        let name = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
            let table = destination_table("file:///mnt", &settings)?;
            Ok::<_, TableError>(table["name"].as_str().unwrap().to_owned())
        };
        assert_eq!(name(&[]).unwrap(), "recovered");
        assert_eq!(name(&["name=nas"]).unwrap(), "nas");
        for known in ["url=file:///srv", "required=false"] {
            assert!(matches!(name(&[known]), Err(TableError::Known { .. })));
        }
    }
}
