//! Files that systemd hands to a service as credentials (`LoadCredential=`), written `$CREDENTIALS_DIRECTORY/NAME` wherever
//! the configuration names a file with a secret. Knows where they are and who may read them; reads none.

use std::path::{Path, PathBuf};

/// The variable by which systemd tells a service where its credentials are.
pub const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// How the configuration writes that directory.
const WRITTEN: &str = "$CREDENTIALS_DIRECTORY";

/// The file that a configuration in `directory` names. A credential keeps its written name where systemd gave none.
pub fn locate(directory: &Path, text: &str) -> PathBuf {
    locate_in(credentials().as_deref(), directory, text)
}

fn locate_in(credentials: Option<&Path>, directory: &Path, text: &str) -> PathBuf {
    let name = Path::new(text).strip_prefix(WRITTEN).ok();
    match (name, credentials) {
        (Some(name), Some(credentials)) => credentials.join(name),
        (Some(_), None) => PathBuf::from(text),
        (None, _) => directory.join(text),
    }
}

/// Whether a path is that of a credential, in a process to which systemd gave none.
pub fn is_unavailable(path: &Path) -> bool {
    path.starts_with(WRITTEN)
}

/// The permission bits that a file with a secret must not have. Of a credential systemd sees to who may read it, with an
/// access list whose mask stands where the group's rights are.
pub fn exposing_bits(path: &Path) -> u32 {
    exposing_bits_in(credentials().as_deref(), path)
}

fn exposing_bits_in(credentials: Option<&Path>, path: &Path) -> u32 {
    match credentials {
        Some(credentials) if path.starts_with(credentials) => 0o007,
        _ => 0o077,
    }
}

fn credentials() -> Option<PathBuf> {
    std::env::var_os(VARIABLE)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::{exposing_bits_in, is_unavailable, locate_in};
    use std::path::{Path, PathBuf};

    #[test]
    fn a_credential_is_where_systemd_put_it_and_another_file_where_it_was() {
        let here = Path::new("/etc/coordinator");
        let given = Path::new("/run/credentials/coordinator.service");
        let credential = "$CREDENTIALS_DIRECTORY/secret_daemon.key";
        let found = locate_in(Some(given), here, credential);
        assert_eq!(found, given.join("secret_daemon.key"));
        assert!(!is_unavailable(&found));
        let plain = locate_in(Some(given), here, "keys/daemon.key");
        assert_eq!(plain, here.join("keys/daemon.key"));
        // By hand there are none, and the name says what is missing.
        let written = locate_in(None, here, credential);
        assert_eq!(written, PathBuf::from(credential));
        assert!(is_unavailable(&written) && !is_unavailable(&plain));
    }

    #[test]
    fn only_credentials_may_show_their_access_list_as_a_group() {
        let given = Path::new("/run/credentials/coordinator.service");
        assert_eq!(exposing_bits_in(Some(given), &given.join("key")), 0o007);
        let beside = Path::new("/run/credentials/coordinator.service2/key");
        assert_eq!(exposing_bits_in(Some(given), beside), 0o077);
        assert_eq!(exposing_bits_in(None, &given.join("key")), 0o077);
    }
}
