//! What this program's user may do in a local destination. A directory knows no roles: its owner may do everything, whatever
//! the role, and nobody else may look. Works on one file in the folder of temporary copies.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::answer::chain;
use crate::destination::local_put::TEMPORARY;
use crate::role::Role;
use crate::role_trial::Expected::{NotRefusable, Works};
use crate::role_trial::{Found, Rights, RoleTrial, TrialRow, trial_name};

const LISTING: Rights = Rights::new(Works, Works, Works, Works);
const STORING: Rights = Rights::new(Works, NotRefusable, Works, NotRefusable);
const READING: Rights = Rights::new(Works, Works, Works, NotRefusable);
const REMOVING: Rights = Rights::new(NotRefusable, NotRefusable, NotRefusable, Works);
const OWNING: Rights = Rights::new(Works, Works, Works, Works);

/// Tries out this program's user as a role.
pub fn try_role(root: &Path, role: Role) -> RoleTrial {
    let uid = rustix::process::geteuid().as_raw();
    let mut rows = Vec::new();
    let mut note = |what, rights: Rights, found| {
        let expected = rights.of(role);
        rows.push(TrialRow {
            what,
            expected,
            found,
        });
    };
    let (owned, seen) = owner_and_mode(root, uid);
    note("owning the directory", OWNING, owned);
    note("other users looking in", Rights::NOBODYS, seen);
    note("listing", LISTING, found(&fs::read_dir(root).map(drop)));
    let path = root.join(TEMPORARY).join(trial_name());
    let stored = store(&path);
    note("storing", STORING, found(&stored));
    let mut left = Vec::new();
    if stored.is_ok() {
        note("reading", READING, found(&fs::read(&path).map(drop)));
        let removed = fs::remove_file(&path);
        note("removing", REMOVING, found(&removed));
        if let Err(error) = removed {
            left.push(format!("{}: {}", path.display(), chain(&error)));
        }
    }
    RoleTrial {
        who: format!("user {uid} of this machine"),
        rows,
        left,
    }
}

fn owner_and_mode(root: &Path, uid: u32) -> (Found, Found) {
    let facts = match fs::metadata(root) {
        Ok(facts) => facts,
        Err(error) => {
            let unclear = Found::Unclear(chain(&error));
            return (unclear.clone(), unclear);
        }
    };
    let owned = if facts.uid() == uid {
        Found::Works
    } else {
        let owner = facts.uid();
        Found::Unclear(format!(
            "it is user {owner}'s, who alone shows what works: try as that user"
        ))
    };
    let seen = if facts.mode() & 0o077 == 0 {
        Found::Refused
    } else {
        Found::Works
    };
    (owned, seen)
}

fn store(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        crate::claimed_dir::make_private_dir(folder)?;
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)?;
    file.write_all(b"Capstan tries out what this user may.\n")?;
    file.sync_all()
}

fn found(answer: &io::Result<()>) -> Found {
    match answer {
        Ok(()) => Found::Works,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Found::Refused,
        Err(error) => Found::Unclear(chain(error)),
    }
}
