//! Names: of logical volumes as the kernel maps them, and of the snapshots that runs take of them, which say whose they are.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use formats::ids::{RepositoryId, RunId};

/// How the snapshots' names begin; then come the repository, `_` and the run, each as 32 hexadecimal digits, `_` and a number.
/// Without hyphens, which the kernel's names have twice.
const PREFIX: &str = "capstan_";
/// How the kernel's identifiers of mapped devices begin that are LVM's.
const LVM: &str = "LVM-";
/// Bytes of such an identifier, that of a whole volume: two of 32 follow, and parts of volumes have more.
const IDENTIFIER_BYTES: usize = LVM.len() + 64;

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The volume group's name.
    pub group: String,
    /// Its name there.
    pub name: String,
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.name)
    }
}

impl Volume {
    /// The volume that a device is, by its number in the mount table; none if it is none, or only a part of one.
    pub fn of_device(number: &[u8]) -> Option<Self> {
        let number = std::str::from_utf8(number).ok()?;
        let told = |what: &str| fs::read_to_string(format!("/sys/dev/block/{number}/dm/{what}"));
        let identifier = told("uuid").ok()?;
        let is_volume = identifier.starts_with(LVM) && identifier.trim().len() == IDENTIFIER_BYTES;
        Self::of_mapping(told("name").ok()?.trim()).filter(|_| is_volume)
    }

    /// From the kernel's name: both names with a hyphen in between, and their own twice.
    fn of_mapping(mapping: &str) -> Option<Self> {
        let mut parts = vec![String::new()];
        let mut rest = mapping.chars().peekable();
        while let Some(next) = rest.next() {
            if next == '-' && rest.next_if_eq(&'-').is_none() {
                parts.push(String::new());
            } else {
                parts.last_mut()?.push(next);
            }
        }
        let [group, name] = <[String; 2]>::try_from(parts).ok()?;
        (!group.is_empty() && !name.is_empty()).then_some(Self { group, name })
    }

    /// Its device.
    pub fn device(&self) -> PathBuf {
        let twice = |name: &str| name.replace('-', "--");
        format!("/dev/mapper/{}-{}", twice(&self.group), twice(&self.name)).into()
    }
}

/// The name of a run's snapshot.
pub fn snapshot_name(repository: RepositoryId, run: RunId, number: usize) -> String {
    format!("{PREFIX}{repository}_{run}_{number}")
}

/// Whether this is the name of a snapshot that a run of the repository took.
pub fn is_snapshot_name(name: &str, repository: RepositoryId) -> bool {
    let rest = name.strip_prefix(&format!("{PREFIX}{repository}_"));
    let parts = rest.and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(run, number)| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        run.len() == 32
            && run.bytes().all(is_digit)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use formats::ids::{RepositoryId, RunId};

    use super::{Volume, is_snapshot_name, snapshot_name};

    #[test]
    fn the_kernels_names_are_read_and_written() {
        for (mapping, group, name) in [
            ("vg-root", "vg", "root"),
            ("vg--0-var--log", "vg-0", "var-log"),
            ("vg---lv", "vg-", "lv"),
            ("debian--vg-a_b+c.d", "debian-vg", "a_b+c.d"),
        ] {
            let volume = Volume::of_mapping(mapping).expect("is a volume");
            assert_eq!((&*volume.group, &*volume.name), (group, name));
            let device = format!("/dev/mapper/{mapping}");
            assert_eq!(volume.device().to_string_lossy(), device);
        }
        for other in ["", "cryptroot", "vg--root", "-root", "vg-", "vg-lv-real"] {
            assert_eq!(Volume::of_mapping(other), None, "{other}");
        }
        assert_eq!(Volume::of_device(b"0:0"), None);
    }

    #[test]
    fn only_whole_names_are_ours() {
        let repository = RepositoryId([0xab; 16]);
        let name = snapshot_name(repository, RunId([1; 16]), 12);
        assert!(is_snapshot_name(&name, repository));
        assert!(!is_snapshot_name(&name, RepositoryId([0xac; 16])));
        for other in [
            format!("{name}x"),
            format!("x{name}"),
            name.replace("_12", "_"),
            name.replace("_12", ""),
            name.replace("01", "0g"),
            name.to_uppercase(),
        ] {
            assert!(!is_snapshot_name(&other, repository), "{other}");
        }
    }
}
