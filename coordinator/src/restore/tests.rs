//! Restores built in memory and compared object by object, and hostile snapshots that must not get out.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod fidelity;
mod hostile;
mod policies;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use formats::listing::content::Content;
use formats::listing::entry::{Entry, EntryKind, Timestamp};
use formats::wire::control::names::Names;
use rustix::fs::{Mode, OFlags};

use crate::restore::error::RestoreError;
use crate::restore::open_target::open_root;
use crate::restore::options::RestoreOptions;
use crate::restore::run::{RestoreContext, restore};
use crate::restore::summary::{RestoreOutcome, RestoreSummary};
use crate::restore::tree::{DirectoryTree, Walk};
use crate::snapshot::tree_builder::Built;

type Blocks = BTreeMap<Vec<Vec<u8>>, Vec<Entry>>;

fn options(to: &Path) -> RestoreOptions {
    RestoreOptions {
        sync: false,
        ..RestoreOptions::everything_to(to.to_path_buf(), Names::default())
    }
}

async fn run(built: &Built, options: RestoreOptions) -> Result<RestoreSummary, RestoreError> {
    restore(built.listing().await, options, RestoreContext::default()).await
}

async fn run_all(built: &Built, to: &Path) -> RestoreSummary {
    run(built, options(to)).await.unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut out);
    out
}

fn expect_ok(summary: &RestoreSummary) {
    assert_eq!(
        summary.outcome,
        RestoreOutcome::Ok,
        "{:?}",
        summary.problems
    );
    assert_eq!(summary.problem_count, 0);
}

fn names_in(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Compares every listed object with what stands below `root`, by descriptors.
fn expect_tree(root: &Path, blocks: &Blocks) {
    let walk = Walk {
        create: false,
        make_accessible: false,
    };
    let mut tree = DirectoryTree::new(open_root(root).unwrap(), walk);
    for (directory, entries) in blocks {
        let directory = directory.join(&b'/');
        let open = tree.open(&directory).unwrap();
        let mut listed = 0;
        for entry in rustix::fs::Dir::read_from(open.as_fd()).unwrap() {
            let name = entry.unwrap().file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                assert!(
                    entries.iter().any(|entry| entry.name == name),
                    "{} should not be there",
                    name.escape_ascii()
                );
                listed += 1;
            }
        }
        assert_eq!(listed, entries.len(), "{}", directory.escape_ascii());
        for entry in entries {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&open, entry.name.as_slice(), flags, Mode::empty());
            expect_object(&fd.unwrap(), entry);
        }
    }
}

fn expect_object(fd: &OwnedFd, entry: &Entry) {
    let name = entry.name.escape_ascii().to_string();
    let stat = rustix::fs::fstat(fd).unwrap();
    let kind = crate::restore::decide::kind(&stat).unwrap();
    assert_eq!(kind, entry.stat.kind, "{name}");
    if kind != EntryKind::Symlink {
        assert_eq!(
            stat.st_mode & 0o7777,
            u32::from(entry.stat.mode),
            "mode of {name}"
        );
    }
    assert_eq!(
        (stat.st_uid, stat.st_gid),
        (entry.stat.uid, entry.stat.gid),
        "{name}"
    );
    assert_eq!(
        crate::restore::decide::mtime(&stat),
        entry.stat.mtime,
        "{name}"
    );
    match kind {
        EntryKind::File => assert_eq!(stat.st_size as u64, entry.stat.size, "{name}"),
        EntryKind::Symlink => {
            let target = rustix::fs::readlinkat(fd, c"", Vec::new()).unwrap();
            assert_eq!(target.to_bytes(), entry.link_target, "{name}");
        }
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            let (major, minor) = entry.stat.device;
            assert_eq!(stat.st_rdev, rustix::fs::makedev(major, minor), "{name}");
        }
        _ => {}
    }
    if kind != EntryKind::Directory {
        assert_eq!(stat.st_nlink as u64, entry.stat.links, "links of {name}");
    }
    for xattr in &entry.xattrs {
        let mut value = vec![0; 70_000];
        let path = crate::restore::tree::descriptor_path(fd);
        let read = rustix::fs::getxattr(path, xattr.name.as_slice(), value.as_mut_slice());
        assert!(read.is_ok(), "{} of {name}", xattr.name.escape_ascii());
        value.truncate(read.unwrap());
        assert_eq!(
            value,
            xattr.value,
            "{} of {name}",
            xattr.name.escape_ascii()
        );
    }
    assert!(
        entry.hard_link_to.is_none() || entry.content == Content::None,
        "{name}"
    );
}

fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds,
    }
}
