//! The kernel's table of mounts, as this process sees it. Reads it bounded, and opens nothing of the mounts.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;

use formats::listing::order::is_within;
use rustix::fs::makedev;

/// The most bytes read of the mount table.
const MOUNTINFO_BYTES_MAX: u64 = 4 << 20;

/// A line of mountinfo: `36 35 98:0 /root /point options - type source super`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// Its number.
    pub id: u64,
    /// The number of the mount that it is mounted on.
    pub parent: u64,
    /// The filesystem's number, as `major:minor`.
    pub device: Vec<u8>,
    /// The directory of the filesystem that is mounted.
    pub root: Vec<u8>,
    /// Where.
    pub point: Vec<u8>,
    /// The filesystem's type.
    pub kind: String,
    /// What it is made of: a device, mostly.
    pub source: Vec<u8>,
}

/// The table; empty where there is no `/proc`.
pub fn read() -> Vec<MountLine> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open("/proc/self/mountinfo")
        && file
            .take(MOUNTINFO_BYTES_MAX)
            .read_to_end(&mut bytes)
            .is_err()
    {
        bytes.clear();
    }
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect()
}

/// One line of it; none of what is no such line.
pub fn parse(line: &[u8]) -> Option<MountLine> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = fields.next()?.to_vec();
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let source = unescape(fields.next()?);
    Some(MountLine {
        id,
        parent,
        device,
        root,
        point,
        kind,
        source,
    })
}

/// The number of a filesystem, from `major:minor`.
pub fn number_of(device: &[u8]) -> Option<u64> {
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The kernel writes blanks and backslashes of paths as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut at = 0;
    while let Some(byte) = field.get(at) {
        let digits = field.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(octal) => {
                plain.push(octal);
                at += 4;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

/// A path without the slash in front, as listings have it.
pub fn without_slash(path: &[u8]) -> Vec<u8> {
    path.strip_prefix(b"/").unwrap_or(path).to_vec()
}

/// The mounts that a path can lead to: not those that another one covers.
pub fn visible(all: &[MountLine]) -> Vec<&MountLine> {
    let mut children: HashMap<u64, Vec<&MountLine>> = HashMap::new();
    for line in all.iter().filter(|line| line.parent != line.id) {
        children.entry(line.parent).or_default().push(line);
    }
    let is_first = |line: &&MountLine| {
        let mut others = all.iter().filter(|other| other.id != line.id);
        line.point == b"/" && !others.any(|other| other.id == line.parent)
    };
    let mut found = Vec::new();
    let mut waiting: Vec<&MountLine> = all.iter().find(is_first).into_iter().collect();
    while let Some(line) = waiting.pop() {
        let mounted: &[&MountLine] = children.get(&line.id).map_or(&[], Vec::as_slice);
        // What is mounted on its own top hides it, and all that is mounted on it besides.
        if let Some(top) = mounted.iter().find(|other| other.point == line.point) {
            waiting.push(top);
            continue;
        }
        found.push(line);
        let covered = |line: &MountLine| {
            let mut others = mounted.iter().filter(|other| other.id != line.id);
            others.any(|other| other.point != line.point && is_within(&line.point, &other.point))
        };
        waiting.extend(mounted.iter().filter(|line| !covered(line)));
    }
    found.sort_by(|one, other| one.point.cmp(&other.point));
    found
}

#[cfg(test)]
mod tests {
    use super::{MountLine, parse, read, unescape, visible};

    fn lines(texts: &[&str]) -> Vec<MountLine> {
        texts
            .iter()
            .filter_map(|line| parse(line.as_bytes()))
            .collect()
    }

    #[test]
    fn escapes_that_are_none_stay_as_they_are() {
        assert_eq!(unescape(b"a\\040b\\134c"), b"a b\\c");
        assert_eq!(unescape(b"a\\9\\04"), b"a\\9\\04");
    }

    #[test]
    fn a_covered_mount_and_what_is_on_it_cannot_be_reached() {
        let all = lines(&[
            "1 0 0:1 / / rw - rootfs rootfs rw",
            "27 1 254:0 / / rw - ext4 /dev/vda rw",
            "30 27 0:30 / /srv/a rw - btrfs /dev/vdb rw",
            "31 30 0:31 / /srv/a/below rw - ext4 /dev/vdc rw",
            "32 30 0:32 / /srv/a rw - tmpfs tmpfs rw",
            "33 27 0:33 / /mnt/x/y rw - ext4 /dev/vdd rw",
            "34 27 0:34 / /mnt/x rw - ext4 /dev/vde rw",
            "nonsense",
        ]);
        let seen: Vec<u64> = visible(&all).iter().map(|line| line.id).collect();
        assert_eq!(seen, [27, 34, 32]);
    }

    #[test]
    fn this_machine_has_one_visible_root() {
        let all = read();
        let seen = visible(&all);
        let roots = seen.iter().filter(|line| line.point == b"/");
        assert_eq!(roots.count(), 1, "{all:?}");
        assert!(seen.iter().any(|line| line.kind == "proc"));
    }
}
