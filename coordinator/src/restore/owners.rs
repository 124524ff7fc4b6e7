//! Maps a host's users and groups to local ones by name. Reads `/etc/passwd` and `/etc/group` itself: restores
//! also happen on rescue systems without a name service.

use std::collections::HashMap;
use std::path::Path;

use formats::wire::control::names::Names;

use crate::restore::options::Owner;

/// Which local ids stand for a host's; an id without a line stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    users: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

impl Owners {
    /// The mapping that a policy asks for, on this machine.
    pub fn local(owner: Owner, names: &Names) -> Self {
        match owner {
            Owner::Numeric | Owner::Nobody => Self::default(),
            Owner::ByName => {
                let read = |path| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
                Self::from_files(names, &read("/etc/passwd"), &read("/etc/group"))
            }
        }
    }

    /// The mapping of a host's names to those of files in the form of `/etc/passwd` and `/etc/group`.
    pub fn from_files(names: &Names, passwd: &str, group: &str) -> Self {
        Self {
            users: differing(&names.users, passwd),
            groups: differing(&names.groups, group),
        }
    }

    /// The local user for a host's.
    pub fn user(&self, id: u32) -> u32 {
        self.users.get(&id).copied().unwrap_or(id)
    }

    /// The local group for a host's.
    pub fn group(&self, id: u32) -> u32 {
        self.groups.get(&id).copied().unwrap_or(id)
    }
}

fn differing(names: &[(u32, String)], file: &str) -> HashMap<u32, u32> {
    let mut local: HashMap<&str, u32> = HashMap::new();
    for line in file.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1))
            && let Ok(id) = id.parse()
        {
            local.entry(name).or_insert(id);
        }
    }
    names
        .iter()
        .filter_map(|(id, name)| Some((*id, *local.get(name.as_str())?)))
        .filter(|(id, local)| id != local)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Owners;
    use formats::wire::control::names::Names;

    #[test]
    fn names_decide_and_numbers_stay_where_there_is_no_name() {
        let names = Names {
            users: vec![
                (0, "root".into()),
                (33, "www-data".into()),
                (1000, "ann".into()),
            ],
            groups: vec![(33, "www-data".into())],
        };
        let passwd = "root:x:0:0::/root:/bin/sh\nwww-data:x:82:82::/:/bin/false\nbroken\n";
        let owners = Owners::from_files(&names, passwd, "www-data:x:83:\n");
        assert_eq!(
            (owners.user(0), owners.user(33), owners.user(1000)),
            (0, 82, 1000)
        );
        assert_eq!((owners.group(33), owners.group(7)), (83, 7));
    }
}
