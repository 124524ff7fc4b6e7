//! Numbers of this machine's users by their names, as `/etc/passwd` has them: system users are there. Asks no directory
//! service.

use std::io;
use std::path::{Path, PathBuf};

/// Where users are.
pub const PASSWD: &str = "/etc/passwd";

/// A user's number could not be told.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody of that name.
    #[error(
        "there is no user {name:?} in {}: create it, correct the name, or write its number into `allow_uids`",
        path.display()
    )]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// The numbers of these users, in this order.
pub fn uids_of(names: &[String], passwd: &Path) -> Result<Vec<u32>, AccountError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(passwd).map_err(|source| AccountError::Read {
        path: passwd.to_owned(),
        source,
    })?;
    let uid_of = |name: &String| {
        uid_in(&text, name).ok_or_else(|| AccountError::Unknown {
            name: name.clone(),
            path: passwd.to_owned(),
        })
    };
    names.iter().map(uid_of).collect()
}

fn uid_in(passwd: &str, name: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next().is_some_and(|field| field == name);
        let uid = fields.nth(1)?;
        if found { uid.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{AccountError, uids_of};

    #[test]
    fn users_are_found_by_their_whole_name_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        let text = "root:x:0:0::/root:/bin/sh\n\
                    coordinator2:x:7:7::/:/bin/false\n\
                    +@nis\n\
                    coordinator:x:998:997:Capstan:/var/lib/coordinator:/usr/sbin/nologin\n";
        std::fs::write(&path, text).unwrap();
        let names = ["coordinator".to_owned(), "root".to_owned()];
        assert_eq!(uids_of(&names, &path).unwrap(), [998, 0]);
        let error = uids_of(&["coord".to_owned()], &path).unwrap_err();
        assert!(matches!(error, AccountError::Unknown { name, .. } if name == "coord"));
        // Where nobody is asked for, the file is not needed.
        assert!(uids_of(&[], &dir.path().join("none")).unwrap().is_empty());
    }
}
