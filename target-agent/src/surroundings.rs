//! Looks around on the machine before the run: what tells it from another one, what is mounted, where databases and
//! containers keep data. Reads the kernel's tables and a few directories, bounded; opens nothing of the mounts themselves.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::bounded;
use formats::limits::{MOUNTS_MAX, STORES_MAX};
use formats::wire::surroundings::{Mount, Store, Surroundings};

use crate::facts::{clipped, small_file};
use crate::mount_table::{self, MountLine, without_slash};
use crate::walk::pseudo::is_pseudo;

/// The most bytes of paths that are told: a message has an end.
const PATHS_BYTES_MAX: usize = 512 << 10;
/// How long data directories are looked for: one of them may be on a filesystem that hangs.
const STORES_WAIT: Duration = Duration::from_secs(5);

/// Where programs keep data by default.
const STORES: [(&str, &str); 11] = [
    ("postgresql", "/var/lib/postgresql"),
    ("postgresql", "/var/lib/pgsql"),
    ("mysql", "/var/lib/mysql"),
    ("mongodb", "/var/lib/mongodb"),
    ("mongodb", "/var/lib/mongo"),
    ("redis", "/var/lib/redis"),
    ("docker volumes", "/var/lib/docker/volumes"),
    ("podman volumes", "/var/lib/containers/storage/volumes"),
    ("containerd volumes", "/var/lib/nerdctl"),
    ("kubernetes volumes", "/var/lib/rancher/k3s/storage"),
    ("virtual machines", "/var/lib/libvirt/images"),
];

/// What is around.
pub fn look_around() -> Surroundings {
    let all = mount_table::read();
    Surroundings {
        machine_uuid: clipped(&small_file("/sys/class/dmi/id/product_uuid").unwrap_or_default()),
        root_filesystem: clipped(&root_filesystem(&all).unwrap_or_default()),
        mounts: told(&all),
        stores: stores_in_time(),
    }
}

/// The root filesystem's name for itself. For some types the kernel makes its number from the UUID; the others have a link
/// that udev made. A number that the kernel makes up at each mount would be another one tomorrow.
fn root_filesystem(mounts: &[MountLine]) -> Option<String> {
    let root = mounts.iter().rfind(|mount| mount.point == b"/")?;
    match root.kind.as_str() {
        "ext2" | "ext3" | "ext4" | "zfs" => {
            let number = rustix::fs::statvfs("/").ok()?.f_fsid;
            (number != 0).then(|| format!("{}:{number:016x}", root.kind))
        }
        _ => {
            let device = fs::canonicalize(Path::new(std::ffi::OsStr::from_bytes(&root.source)));
            let device = device.ok()?;
            let links = fs::read_dir("/dev/disk/by-uuid").ok()?;
            let link = links
                .filter_map(Result::ok)
                .find(|link| fs::canonicalize(link.path()).is_ok_and(|to| to == device))?;
            Some(format!("uuid:{}", link.file_name().to_string_lossy()))
        }
    }
}

/// What is told of the mount table: no pseudo-filesystem, and nothing that is only another way to a directory of a filesystem
/// which is mounted itself.
fn told(all: &[MountLine]) -> Vec<Mount> {
    let mut by_device: HashMap<&[u8], Vec<&MountLine>> = HashMap::new();
    for line in all.iter().filter(|line| !is_pseudo(&line.kind)) {
        by_device.entry(&line.device).or_default().push(line);
    }
    let mut mounts: Vec<Mount> = Vec::new();
    for lines in by_device.into_values() {
        let first = |line: &&&MountLine| {
            let mut others = lines.iter().filter(|other| !std::ptr::eq(**other, **line));
            !others.any(|other| {
                let same = other.root == line.root;
                let shorter = (other.point.len(), &other.point) < (line.point.len(), &line.point);
                (same && shorter) || (!same && contains(&other.root, &line.root))
            })
        };
        let chosen = lines.iter().filter(first).take(limit(MOUNTS_MAX));
        mounts.extend(chosen.map(|line| Mount {
            path: without_slash(&line.point),
            kind: clipped(&line.kind),
        }));
    }
    mounts.sort();
    mounts.dedup();
    let mut bytes = 0;
    mounts.retain(|mount| {
        bytes += mount.path.len();
        bytes <= PATHS_BYTES_MAX
    });
    mounts.truncate(limit(MOUNTS_MAX));
    mounts
}

fn limit(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn contains(above: &[u8], below: &[u8]) -> bool {
    above == b"/"
        || below
            .strip_prefix(above)
            .is_some_and(|rest| rest.starts_with(b"/"))
}

fn stores_in_time() -> Vec<Store> {
    let (found, looking) = bounded(1);
    let looked = std::thread::Builder::new()
        .name("stores".to_owned())
        .stack_size(128 << 10)
        // A thread that hangs ends with the process; nobody waits for it, and nobody hears it then.
        .spawn(move || found.send(stores(&STORES)).ok());
    match looked {
        Ok(_) => looking.recv_timeout(STORES_WAIT).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Those of the directories that are there and hold something, by their true paths.
fn stores(known: &[(&str, &str)]) -> Vec<Store> {
    let found = known.iter().filter_map(|(of, path)| {
        let path: PathBuf = fs::canonicalize(path).ok()?;
        fs::read_dir(&path).ok()?.next()?.ok()?;
        Some(Store {
            path: without_slash(path.as_os_str().as_bytes()),
            of: (*of).to_owned(),
        })
    });
    let mut found: Vec<Store> = found.take(limit(STORES_MAX)).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::{look_around, stores, told};
    use crate::mount_table::parse;

    #[test]
    fn this_machine_has_a_root_that_is_told_once() {
        let around = look_around();
        let roots = around.mounts.iter().filter(|mount| mount.path.is_empty());
        assert_eq!(roots.count(), 1, "{around:?}");
        assert!(around.mounts.iter().all(|mount| mount.kind != "proc"));
        assert_eq!(look_around().root_filesystem, around.root_filesystem);
    }

    #[test]
    fn other_ways_to_one_filesystem_are_not_told_and_subvolumes_are() {
        let lines = [
            "27 1 254:0 / / rw - ext4 /dev/vda rw",
            "42 27 254:0 /srv/data /mnt/again rw - ext4 /dev/vda rw",
            "43 27 254:0 / /mnt/root rw shared:1 - ext4 /dev/vda rw",
            "44 27 0:30 /@home /home rw - btrfs /dev/vdb rw",
            "45 27 0:30 /@srv /srv/with\\040blank rw - btrfs /dev/vdb rw",
            "46 27 0:21 / /proc rw - proc proc rw",
            "nonsense",
        ];
        let lines: Vec<_> = lines
            .iter()
            .filter_map(|line| parse(line.as_bytes()))
            .collect();
        let told: Vec<(String, String)> = told(&lines)
            .into_iter()
            .map(|mount| {
                (
                    String::from_utf8_lossy(&mount.path).into_owned(),
                    mount.kind,
                )
            })
            .collect();
        let expected = [("", "ext4"), ("home", "btrfs"), ("srv/with blank", "btrfs")];
        let expected = expected.map(|(path, kind)| (path.to_owned(), kind.to_owned()));
        assert_eq!(told, expected);
    }

    #[test]
    fn an_empty_directory_is_no_store_and_a_link_leads_to_the_true_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = std::fs::canonicalize(dir.path()).expect("its true path");
        for name in ["empty", "full"] {
            std::fs::create_dir(base.join(name)).expect("makes it");
        }
        std::fs::write(base.join("full/ibdata1"), "x").expect("writes");
        std::os::unix::fs::symlink(base.join("full"), base.join("link")).expect("links");
        let path = |name: &str| base.join(name).display().to_string();
        let (empty, full, link, none) = (path("empty"), path("full"), path("link"), path("none"));
        let known = [
            ("empty", empty.as_str()),
            ("mysql", link.as_str()),
            ("none", none.as_str()),
        ];
        let found = stores(&known);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].of, "mysql");
        assert_eq!(found[0].path, full.as_bytes()[1..]);
    }
}
