//! The SFTP keys of a `[[destination]]` table.

use std::path::{Path, PathBuf};

use crate::credential_file;
use crate::destination::DestinationName;
use crate::destination::bandwidth::Bandwidth;
use crate::destination::sftp::options::SftpOptions;
use crate::places::secret::{SecretError, SecretSource};
use crate::places::table::{DestinationTable, KeyError};
use crate::places::{FileFacts, PlaceError, without_user};
use crate::ssh::host_key::Fingerprint;
use crate::ssh::target::{Address, SshTarget, Timeouts, agent_socket_from_environment};

/// A directory of an SFTP server as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPlace {
    address: Address,
    user: String,
    path: String,
    host_keys: Vec<Fingerprint>,
    identity_file: Option<PathBuf>,
    password: Option<SecretSource>,
    bandwidth: Option<Bandwidth>,
}

/// Whether a text is an address as `scp` takes it: `user@host:path`.
pub(super) fn is_scp_style(text: &str) -> bool {
    !text.contains("://")
        && text
            .split_once(':')
            .is_some_and(|(place, path)| place.contains('@') && !path.is_empty())
}

impl SftpPlace {
    pub(super) fn read(table: &DestinationTable, file: FileFacts<'_>) -> Result<Self, PlaceError> {
        let url = table.url.get_ref().as_str();
        let wrong = || PlaceError::Url {
            url: without_user(url),
        };
        let (place, path) = place_and_path(url).ok_or_else(wrong)?;
        let (user, address) = place.rsplit_once('@').ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if user.is_empty() || user.starts_with('-') || !user.chars().all(plain) {
            return Err(wrong());
        }
        if path.starts_with('~') {
            return Err(PlaceError::Key(KeyError {
                key: "url",
                problem: "has a path that begins with \"~\": leave that out, for a path without a slash begins where the login \
                          does"
                    .to_owned(),
            }));
        }
        let path = path.trim_end_matches('/');
        let climbs = path.split('/').any(|part| part == ".." || part == ".");
        if path.is_empty() || climbs || path.chars().any(char::is_control) || path.contains("//") {
            return Err(wrong());
        }
        let host_keys = host_keys(table)?;
        Ok(Self {
            address: address.parse().map_err(|_| wrong())?,
            user: user.to_owned(),
            path: path.to_owned(),
            host_keys,
            identity_file: table
                .identity_file
                .as_ref()
                .map(|path| credential_file::locate(file.directory, path)),
            password: table.password().source(file)?,
            bandwidth: table.bandwidth()?,
        })
    }

    pub(super) fn url(&self) -> String {
        if self.path.starts_with('/') {
            format!("sftp://{}@{}{}", self.user, self.address, self.path)
        } else {
            // This form has no port, and so is never read with another.
            let host = self.address.host();
            match host.contains(':') {
                true => format!("{}@[{host}]:{}", self.user, self.path),
                false => format!("{}@{host}:{}", self.user, self.path),
            }
        }
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The root's path as the login sees it, without a slash at its end; absolute, or from where the login begins.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The private key to log in with.
    pub fn identity_file(&self) -> Option<&Path> {
        self.identity_file.as_deref()
    }

    /// Whether it logs in with a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether both are one place, whoever logs in.
    pub(super) fn is_where(&self, other: &Self) -> bool {
        self.address == other.address && self.path == other.path
    }

    /// The most it takes per second.
    pub(super) fn bandwidth(&self) -> Option<Bandwidth> {
        self.bandwidth
    }

    /// Fetches the password.
    pub(super) fn options(&self, name: &DestinationName) -> Result<SftpOptions, SecretError> {
        let password = self.password.as_ref().map(SecretSource::fetch);
        Ok(SftpOptions {
            server: SshTarget {
                name: name.to_string(),
                address: self.address.clone(),
                user: self.user.clone(),
                identity_file: self.identity_file.clone(),
                certificate_file: None,
                agent_socket: agent_socket_from_environment(),
                password: password.transpose()?,
                host_keys: self.host_keys.clone(),
                jump: None,
                timeouts: Timeouts::default(),
            },
            path: self.path.clone(),
            bandwidth: self.bandwidth,
        })
    }
}

/// The two parts of an address. A path after the host begins at the root; scp's, without a slash, where the login does.
fn place_and_path(url: &str) -> Option<(&str, &str)> {
    if let Some(rest) = url.strip_prefix("sftp://") {
        return rest.split_at_checked(rest.find('/')?);
    }
    let host = url.find('@')? + 1;
    let rest = url.get(host..)?;
    // An IPv6 address has colons of its own.
    let colon = match rest.starts_with('[') {
        true => rest.find("]:")? + 1,
        false => rest.find(':')?,
    };
    let (place, path) = url.split_at_checked(host + colon)?;
    Some((place, path.strip_prefix(':')?))
}

fn host_keys(table: &DestinationTable) -> Result<Vec<Fingerprint>, KeyError> {
    let wrong = |problem: String| KeyError {
        key: "host_key",
        problem,
    };
    let texts = table.host_key.as_deref().unwrap_or_default();
    if texts.is_empty() {
        let how =
            "is missing: list the server's fingerprints, as `ssh-keygen -lf` prints them there";
        return Err(wrong(how.to_owned()));
    }
    let parsed = texts.iter().map(|text| text.parse::<Fingerprint>());
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::{SftpPlace, is_scp_style};
    use crate::places::table::DestinationTable;
    use crate::places::{FileFacts, Place, PlaceError};

    fn read(url: &str) -> Result<SftpPlace, PlaceError> {
        let key = "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y";
        let text = format!("name = \"nas\"\nurl = \"{url}\"\nhost_key = [\"{key}\"]\n");
        let table: DestinationTable = toml::from_str(&text).unwrap();
        let file = FileFacts {
            directory: Path::new("/etc"),
            is_private: true,
        };
        SftpPlace::read(&table, file)
    }

    #[test]
    fn addresses_are_read_as_scp_reads_them() {
        for (url, shown, host, path) in [
            (
                "backup@nas:/volume1/b/",
                "sftp://backup@nas:22/volume1/b",
                "nas",
                "/volume1/b",
            ),
            ("backup@nas:b/c", "backup@nas:b/c", "nas", "b/c"),
            (
                "backup@[2001:db8::1]:b",
                "backup@[2001:db8::1]:b",
                "2001:db8::1",
                "b",
            ),
            (
                "backup@nas:with:colon@at",
                "backup@nas:with:colon@at",
                "nas",
                "with:colon@at",
            ),
            (
                "sftp://backup@[::1]:2222/b",
                "sftp://backup@[::1]:2222/b",
                "::1",
                "/b",
            ),
        ] {
            assert_eq!(is_scp_style(url), !url.starts_with("sftp:"), "{url}");
            let place = read(url).unwrap();
            assert_eq!(place.url(), shown);
            assert_eq!(place.address.host(), host);
            assert_eq!(place.path(), path);
            // One spelling: what is shown is read as the same place.
            assert!(read(shown).unwrap().is_where(&place), "{shown}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "backup@nas:",
            "backup@nas:../up",
            "backup@nas:a//b",
            "backup@[::1:b",
            "-oProxyCommand=x@nas:b",
            "backup@-nas:b",
            "backup@nas:a\\nb",
        ] {
            assert!(matches!(read(url), Err(PlaceError::Url { .. })), "{url}");
        }
        let home = read("backup@nas:~/b").unwrap_err().to_string();
        assert!(home.contains("leave that out"), "{home}");
    }

    #[test]
    fn a_table_with_such_an_address_is_a_destination() {
        let text = "name = \"nas\"\nurl = \"backup@nas:b\"\n\
                    host_key = [\"SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y\"]\n";
        let table: DestinationTable = toml::from_str(text).unwrap();
        let file = FileFacts {
            directory: Path::new("/etc"),
            is_private: true,
        };
        assert_eq!(Place::read(&table, file).unwrap().url, "backup@nas:b");
    }
}
