//! The view of the tree: every place that the walk comes to, from its snapshot or as it is, bound together below one root. Made
//! in the mount namespace of the calling thread; what it mounts is seen by nobody else, and never stays.
//!
//! Users of the host can put links where they like, and directories in the place of links, while all this goes on. So nothing is
//! bound, and nothing bound upon, that a link leads to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use formats::listing::order::is_within;
use formats::wire::control::problem::Problem;
use formats::wire::start::FsSnapshot;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use crate::fs_snapshot::places::{Place, Reading};
use crate::fs_snapshot::{SnapshotError, SnapshotOptions, problem, shown};
use crate::threads::chain;

/// Where it is put together: every Linux has this directory, and no backup wants what it hides.
const WORK_AREA: &str = "/sys";
/// Its root, in the work area.
const ROOT: &str = "/sys/view";
/// How filesystems are mounted whose snapshots are taken or shown.
pub const PLAIN: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME);

/// A view.
#[derive(Debug)]
pub struct View {
    /// Its root.
    pub root: File,
    /// Filesystem and inode of directories in it that hold snapshots.
    pub own_directories: Vec<(u64, u64)>,
    /// The filesystems of which it shows snapshots.
    pub snapshots_of: Vec<u64>,
    /// What is worth telling.
    pub problems: Vec<Problem>,
}

/// Gives the calling thread a mount namespace of its own, with an empty work area.
pub fn enter_namespace() -> Result<(), SnapshotError> {
    let of_kernel = |error: Errno| SnapshotError::Namespace(error.into());
    #[expect(
        deprecated,
        reason = "the other one is unsafe, for flags that take descriptors from other threads; this one does not"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNS).map_err(of_kernel)?;
    // What the machine unmounts meanwhile goes here too, and nothing that is mounted here shows there.
    let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", propagation).map_err(of_kernel)?;
    let failed = |error: io::Error| SnapshotError::WorkArea(error);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("capstan", WORK_AREA, "tmpfs", flags, c"mode=0700,size=1m")
        .map_err(|error| failed(error.into()))?;
    fs::create_dir(ROOT).map_err(failed)
}

/// Leaves the work area with everything that is mounted in it.
pub fn leave() -> Result<(), Errno> {
    unmount(WORK_AREA, UnmountFlags::DETACH)
}

/// Makes a directory of the work area to mount a filesystem on.
pub fn mount_point(number: usize) -> io::Result<PathBuf> {
    let place = Path::new(WORK_AREA).join(number.to_string());
    fs::create_dir(&place)?;
    Ok(place)
}

/// Where each place is bound from: its snapshot, which `snapshot_of` gives, or what it is; none for those that are gone or
/// hidden by the work area, and for those that hold no source and have no snapshot, which is told.
pub fn sources_of(
    options: &SnapshotOptions,
    planned: &[(&Place, Reading)],
    problems: &mut Vec<Problem>,
    mut snapshot_of: impl FnMut(&Place) -> Result<Option<PathBuf>, SnapshotError>,
) -> Result<Vec<Option<PathBuf>>, SnapshotError> {
    let mut sources = Vec::with_capacity(planned.len());
    for (place, reading) in planned {
        if *reading != Reading::Snapshot {
            let live = below(Path::new("/"), &place.path);
            sources.push(Some(live).filter(|live| !live.starts_with(WORK_AREA)));
            continue;
        }
        let holds_source = holds_source(options, place);
        let source = match snapshot_of(place) {
            Ok(source) => source,
            // Such as one with a file that is swapped to.
            Err(error) if !holds_source => {
                let text = format!("left out: {}", chain(&error));
                problems.push(problem(&place.path, &text));
                None
            }
            Err(error) => return Err(error),
        };
        if source.is_none() && holds_source {
            return Err(SnapshotError::Gone {
                path: shown(&place.path),
            });
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Whether a place has a source: what is wrong with it then ends the run.
pub fn holds_source(options: &SnapshotOptions, place: &Place) -> bool {
    let mut sources = options.rules.sources.iter();
    sources.any(|source| is_within(source, &place.path))
}

/// Binds the places one below the other. What has no snapshot is told where it is walked; what cannot be shown and holds no
/// source, too.
pub fn show_all(
    options: &SnapshotOptions,
    planned: &[(&Place, Reading)],
    sources: &[Option<PathBuf>],
    problems: &mut Vec<Problem>,
) -> Result<(), SnapshotError> {
    for ((place, reading), source) in planned.iter().zip(sources) {
        let Some(source) = source else {
            continue;
        };
        if *reading == Reading::AsItIs {
            let text = format!(
                "read as it is, not from a snapshot: {} has none{}",
                place.kind,
                match options.rules.fs_snapshot {
                    FsSnapshot::Lvm => " without a logical volume",
                    _ => "",
                }
            );
            problems.push(problem(&place.path, &text));
        }
        match show(source, &below(Path::new(ROOT), &place.path)) {
            Ok(()) => {}
            Err(error) if holds_source(options, place) => {
                return Err(SnapshotError::Show {
                    path: shown(&place.path),
                    source: error,
                });
            }
            Err(error) => {
                let text = format!("cannot be shown beside the snapshots: {error}");
                problems.push(problem(&place.path, &text));
            }
        }
    }
    Ok(())
}

/// Binds one over the other, whatever becomes of their paths meanwhile.
fn show(source: &Path, place: &Path) -> io::Result<()> {
    let (source, place) = (open_plain(source)?, open_plain(place)?);
    Ok(mount_bind(by_descriptor(&source), by_descriptor(&place))?)
}

/// Opens the root of what was shown.
pub fn open_root() -> Result<File, SnapshotError> {
    File::open(ROOT).map_err(|source| SnapshotError::Show {
        path: shown(b""),
        source,
    })
}

/// Opens what a path is, if no part of it is a link.
pub fn open_plain(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    Ok(opened)
}

/// A name for what is open that no rename changes, for this process and those that it starts.
pub fn by_descriptor(opened: &OwnedFd) -> PathBuf {
    let (process, number) = (std::process::id(), opened.as_raw_fd());
    PathBuf::from(format!("/proc/{process}/fd/{number}"))
}

/// A path without a slash in front, below a directory.
pub fn below(directory: &Path, path: &[u8]) -> PathBuf {
    with(directory, Path::new(OsStr::from_bytes(path)))
}

/// Joins, without a slash at the end where there is nothing to join: a file may be bound, too.
pub fn with(directory: &Path, rest: &Path) -> PathBuf {
    match rest.as_os_str().is_empty() {
        true => directory.to_owned(),
        false => directory.join(rest),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{by_descriptor, open_plain};

    #[test]
    fn nothing_is_opened_that_a_link_leads_to() {
        let top = tempfile::tempdir().expect("a directory");
        let path = |name: &str| top.path().join(name);
        fs::create_dir_all(path("home/data")).expect("makes it");
        symlink("home", path("link")).expect("links");
        symlink("/etc", path("home/etc")).expect("links");
        for refused in ["link", "link/data", "home/etc", "home/etc/passwd", "gone"] {
            assert!(open_plain(&path(refused)).is_err(), "{refused}");
        }
        let opened = open_plain(&path("home/data")).expect("is no link");
        // Whatever comes into its place, it is what it was.
        fs::rename(path("home"), path("moved")).expect("renames");
        symlink("/etc", path("home")).expect("links");
        fs::write(path("moved/data/file"), "here").expect("writes");
        let seen = fs::read_to_string(by_descriptor(&opened).join("file"));
        assert_eq!(seen.expect("reads"), "here");
    }
}
