//! The commented sample files of `config/`, as they are and filled in for a new directory. Never
//! written by hand twice: `init`, `config example` and the tests use these.

use std::path::Path;

use toml_edit::{DocumentMut, Item, TomlError, Value};

/// coordinator.toml with every key, default and meaning.
pub const COORDINATOR_TOML: &str = include_str!("../../../config/coordinator.toml");
/// hosts.toml with every key, default and meaning.
pub const HOSTS_TOML: &str = include_str!("../../../config/hosts.toml");
/// append-server.toml with every key, default and meaning.
pub const APPEND_SERVER_TOML: &str = include_str!("../../../config/append-server.toml");

/// The line of coordinator.toml that shows the key of an append-server that runs by itself.
const SOCKET_DIR_COMMENTED: &str = "#socket_dir = \"/run/append-server\"";

/// What `init` puts in the place of the sample's values.
#[derive(Debug, Clone, Copy)]
pub struct InitValues<'a> {
    /// The state directory; relative ones start at the new file's directory.
    pub state_dir: &'a Path,
    /// The absolute directory of the first destination.
    pub destination: &'a Path,
    /// The bundle that the daemon unlocks.
    pub bundle: &'a str,
    /// The key file that unlocks it.
    pub key_file: &'a str,
    /// Where an append-server that runs by itself has its sockets.
    pub socket_dir: Option<&'a Path>,
}

/// The sample coordinator.toml with these values and all its comments.
pub fn coordinator_toml(values: &InitValues<'_>) -> Result<String, TomlError> {
    let mut document: DocumentMut = with_socket_dir(values.socket_dir).parse()?;
    let url = format!("file://{}", values.destination.display());
    let destination = document
        .get_mut("destination")
        .and_then(Item::as_array_of_tables_mut)
        .and_then(|tables| tables.get_mut(0));
    if let Some(table) = destination {
        set(table.get_mut("url"), &url);
    }
    let state_dir = values.state_dir.display().to_string();
    set(document.get_mut("state_dir"), &state_dir);
    if let Some(keys) = document.get_mut("keys") {
        set(keys.get_mut("bundle"), values.bundle);
        set(keys.get_mut("key_file"), values.key_file);
    }
    Ok(document.to_string())
}

/// The sample with `socket_dir` in the place of its comment, so that it stays below what explains it.
fn with_socket_dir(socket_dir: Option<&Path>) -> String {
    let Some(socket_dir) = socket_dir else {
        return COORDINATOR_TOML.to_owned();
    };
    let value = Value::from(socket_dir.display().to_string());
    COORDINATOR_TOML.replace(SOCKET_DIR_COMMENTED, &format!("socket_dir = {value}"))
}

/// Replaces a value and keeps the spaces and comments around it.
fn set(item: Option<&mut Item>, text: &str) {
    if let Some(value) = item.and_then(Item::as_value_mut) {
        let decor = value.decor().clone();
        *value = Value::from(text);
        *value.decor_mut() = decor;
    }
}

#[cfg(test)]
mod tests;
