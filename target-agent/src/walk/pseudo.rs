//! Pseudo-filesystems: what the kernel makes up and no backup wants. Their mount points are listed, their
//! contents are not. `tmpfs` and `ramfs` hold real files and are none of them.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::fs::fstatfs;

use crate::mount_table::{self, MountLine, number_of};

/// Kernel magic numbers and the names they have in the mount table.
const PSEUDO: &[(u64, &str)] = &[
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x0000_1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6165_676c, "pstore"),
    (0xcafe_4a11, "bpf"),
    (0x6265_6570, "configfs"),
    (0x6573_5543, "fusectl"),
    (0x9584_58f6, "hugetlbfs"),
    (0x1980_0202, "mqueue"),
    (0x6759_6969, "rpc_pipefs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x0000_0187, "autofs"),
    (0x6e73_6673, "nsfs"),
    (0xde5e_81e4, "efivarfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x6e66_7364, "nfsd"),
    (0x5345_4d5f, "resctrl"),
    (0x0077_1584, "resctrl"),
    (0xabba_1974, "xenfs"),
    (0x0000_9fa2, "usbdevfs"),
    (0x0900_3c3c, "aafs"),
    (0x5a3c_69f0, "apparmorfs"),
];

/// Types that the magic number does not tell apart from real ones.
const PSEUDO_BY_NAME: &[&str] = &["devtmpfs"];

/// Whether a type of the mount table is a pseudo-filesystem.
pub fn is_pseudo(kind: &str) -> bool {
    let known = PSEUDO.iter().map(|(_, name)| *name);
    known
        .chain(PSEUDO_BY_NAME.iter().copied())
        .any(|known| known == kind)
}

/// Which filesystems of this host are pseudo-filesystems, as far as the mount table tells. The table is asked
/// first, because opening a directory of autofs or of a hung mount is what must not happen.
#[derive(Debug, Default)]
pub struct Mounts {
    types: HashMap<u64, String>,
}

impl Mounts {
    /// Reads the mount table; empty where there is no `/proc`.
    pub fn read() -> Self {
        Self {
            types: mount_table::read()
                .into_iter()
                .filter_map(numbered)
                .collect(),
        }
    }

    /// The pseudo-filesystem's type, by the filesystem's number alone.
    pub fn pseudo_type(&self, filesystem: u64) -> Option<&'static str> {
        let name = self.types.get(&filesystem)?;
        let known = PSEUDO.iter().map(|(_, name)| name).chain(PSEUDO_BY_NAME);
        known.copied().find(|known| known == name)
    }
}

/// The pseudo-filesystem's type of an open directory, by the kernel's magic number.
pub fn pseudo_type_of(directory: impl AsFd) -> Option<&'static str> {
    let magic = fstatfs(directory).ok()?.f_type;
    // The field is signed on some architectures; magic numbers have 32 bits.
    #[allow(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "the low 32 bits are the number"
    )]
    let magic = u64::from(magic as u32);
    PSEUDO
        .iter()
        .find(|(known, _)| *known == magic)
        .map(|(_, name)| *name)
}

/// The number and type of a mounted filesystem.
fn numbered(line: MountLine) -> Option<(u64, String)> {
    Some((number_of(&line.device)?, line.kind))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::{Mounts, numbered, pseudo_type_of};
    use crate::mount_table::parse;

    #[test]
    fn proc_is_pseudo_by_table_and_by_number_and_the_root_is_not() {
        let mounts = Mounts::read();
        let proc = std::fs::metadata("/proc").expect("it is mounted");
        assert_eq!(mounts.pseudo_type(proc.dev()), Some("proc"));
        let opened = std::fs::File::open("/proc").expect("opens");
        assert_eq!(pseudo_type_of(&opened), Some("proc"));
        let root = std::fs::metadata("/").expect("there is one");
        assert_eq!(mounts.pseudo_type(root.dev()), None);
        assert_eq!(
            parse(b"25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw").and_then(numbered),
            Some((rustix::fs::makedev(0, 23), "sysfs".to_owned()))
        );
    }
}
