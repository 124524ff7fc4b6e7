//! One alteration at a time: the comparison must notice each, under the right name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken fixture ends the test at once"
)]

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use tempfile::TempDir;

use super::{Fact, differences, rsync_differences};
use crate::corpus::{Corpus, CorpusOptions};

/// A corpus and its twin: the same options give the same tree, past PATH_MAX too, where no copying tool goes.
fn twins() -> (TempDir, Corpus, PathBuf) {
    let directory = crate::world::temporary_directory().unwrap();
    let options = CorpusOptions::tiny();
    let corpus = Corpus::create(&directory.path().join("source"), &options).unwrap();
    let copy = Corpus::create(&directory.path().join("copy"), &options).unwrap();
    (directory, corpus, copy.root().to_owned())
}

/// Alters the copy and gives the facts found different, each once.
fn facts_after(alter: impl FnOnce(&Path)) -> Vec<Fact> {
    let (_directory, corpus, copy) = twins();
    assert_eq!(
        differences(corpus.root(), &copy).unwrap(),
        vec![],
        "the twins differ before anything was altered"
    );
    alter(&copy);
    let mut facts: Vec<Fact> = differences(corpus.root(), &copy)
        .unwrap()
        .into_iter()
        .map(|difference| difference.fact)
        .collect();
    facts.sort();
    facts.dedup();
    facts
}

/// Keeps the times of a file, and of its directory, while it is altered.
fn keeping_times(path: &Path, alter: impl FnOnce(&Path)) {
    let places = [path.to_owned(), path.parent().unwrap().to_owned()];
    let before: Vec<_> = places
        .iter()
        .map(|place| rustix::fs::statat(CWD, place, AtFlags::SYMLINK_NOFOLLOW).ok())
        .collect();
    alter(path);
    for (place, stat) in places.iter().zip(&before) {
        // What was added or removed has no time to keep.
        let (Some(stat), Ok(_)) = (stat, place.symlink_metadata()) else {
            continue;
        };
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap();
        let time = Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn an_exact_copy_has_no_difference_and_rsync_agrees() {
    let (_directory, corpus, copy) = twins();
    assert_eq!(differences(corpus.root(), &copy).unwrap(), vec![]);
    assert_eq!(
        rsync_differences(corpus.root(), &copy, corpus.rsync_excludes()).unwrap(),
        ""
    );
}

#[test]
fn one_changed_byte_is_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("files/one-mebibyte"), |path| {
            let file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 777_777).unwrap();
            file.write_all_at(&[byte[0] ^ 1], 777_777).unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::Contents]);
}

#[test]
fn a_byte_in_a_hole_is_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("files/sparse"), |path| {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .write_all_at(&[1], 5 << 20)
                .unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::Contents]);
}

#[test]
fn a_longer_file_is_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("files/sparse"), |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() + 1).unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::Size]);
}

#[test]
fn filled_holes_are_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("files/sparse"), |path| {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .write_all_at(&vec![0; 2 << 20], 4 << 20)
                .unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::Allocation]);
}

#[test]
fn every_permission_bit_is_noticed() {
    for bit in [0o4000, 0o2000, 0o1000, 0o001] {
        let facts = facts_after(|copy| {
            let path = copy.join("files/one-mebibyte");
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode ^ bit)).unwrap();
        });
        assert_eq!(facts, vec![Fact::Mode], "bit {bit:o}");
    }
}

#[test]
fn owners_are_noticed_also_on_symlinks_and_directories() {
    for name in [
        "files/one-mebibyte",
        "links/dangling",
        "special/fifo",
        "files",
    ] {
        let uid =
            facts_after(|copy| std::os::unix::fs::lchown(copy.join(name), Some(7), None).unwrap());
        assert_eq!(uid, vec![Fact::Uid], "{name}");
        let gid =
            facts_after(|copy| std::os::unix::fs::lchown(copy.join(name), None, Some(7)).unwrap());
        assert_eq!(gid, vec![Fact::Gid], "{name}");
    }
}

#[test]
fn one_nanosecond_is_noticed_everywhere() {
    for name in [
        "files/one-mebibyte",
        "links/dangling",
        "special/fifo",
        "files",
        "",
    ] {
        let facts = facts_after(|copy| {
            let path = copy.join(name);
            let stat = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap() ^ 1;
            let time = Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: nanoseconds,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        });
        assert_eq!(facts, vec![Fact::Mtime], "{name:?}");
    }
}

#[test]
fn attributes_changed_lost_and_added_are_noticed() {
    let path = "metadata/user-xattrs";
    let changed = facts_after(|copy| {
        rustix::fs::lsetxattr(copy.join(path), "user.plain", b"other", XattrFlags::REPLACE).unwrap()
    });
    assert_eq!(changed, vec![Fact::Xattr]);
    let lost = facts_after(|copy| rustix::fs::lremovexattr(copy.join(path), "user.plain").unwrap());
    assert_eq!(lost, vec![Fact::Xattr]);
    let added = facts_after(|copy| {
        rustix::fs::lsetxattr(copy.join(path), "user.added", b"", XattrFlags::CREATE).unwrap()
    });
    assert_eq!(added, vec![Fact::Xattr]);
    let on_symlink = facts_after(|copy| {
        rustix::fs::lsetxattr(
            copy.join("links/dangling"),
            "trusted.added",
            b"x",
            XattrFlags::CREATE,
        )
        .unwrap()
    });
    assert_eq!(on_symlink, vec![Fact::Xattr]);
    let on_directory = facts_after(|copy| {
        rustix::fs::lsetxattr(copy.join("files"), "user.added", b"x", XattrFlags::CREATE).unwrap()
    });
    assert_eq!(on_directory, vec![Fact::Xattr]);
}

#[test]
fn acls_and_capabilities_are_noticed() {
    for (name, attribute) in [
        ("metadata/access-acl", "system.posix_acl_access"),
        ("metadata/default-acl", "system.posix_acl_default"),
        ("metadata/capability", "security.capability"),
    ] {
        let facts = facts_after(|copy| {
            let path = copy.join(name);
            let mode = fs::metadata(&path).unwrap().permissions();
            rustix::fs::lremovexattr(&path, attribute).unwrap();
            fs::set_permissions(&path, mode).unwrap();
        });
        assert_eq!(facts, vec![Fact::Xattr], "{name}");
    }
}

#[test]
fn a_symlink_to_elsewhere_is_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("links/loop-a"), |path| {
            let length = fs::read_link(path).unwrap().as_os_str().len();
            fs::remove_file(path).unwrap();
            symlink("x".repeat(length), path).unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::LinkTarget]);
}

#[test]
fn another_device_number_is_noticed() {
    use rustix::fs::{FileType, Mode, makedev, mknodat};
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("special/char-large-numbers"), |path| {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
            fs::remove_file(path).unwrap();
            mknodat(
                CWD,
                path,
                FileType::CharacterDevice,
                Mode::empty(),
                makedev(1, 5),
            )
            .unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::Device]);
}

#[test]
fn a_hard_link_that_became_a_copy_is_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("links/hard-b"), |path| {
            fs::remove_file(path).unwrap();
            fs::copy(copy.join("links/hard-a"), path).unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::HardLinks]);
}

#[test]
fn two_files_that_became_one_are_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("files/twin-b"), |path| {
            fs::remove_file(path).unwrap();
            fs::hard_link(copy.join("files/twin-a"), path).unwrap();
        });
    });
    // One inode has one time, so one of the two names has lost its own.
    assert_eq!(facts, vec![Fact::Mtime, Fact::HardLinks]);
}

#[test]
fn missing_and_added_entries_are_noticed() {
    let missing = facts_after(|copy| {
        keeping_times(&copy.join("files/twin-a"), |path| {
            fs::remove_file(path).unwrap()
        })
    });
    assert_eq!(missing, vec![Fact::Presence]);
    let added = facts_after(|copy| {
        keeping_times(&copy.join("files/added"), |path| {
            fs::write(path, "").unwrap()
        })
    });
    assert_eq!(added, vec![Fact::Presence]);
}

#[test]
fn another_type_under_the_same_name_is_noticed() {
    let facts = facts_after(|copy| {
        keeping_times(&copy.join("files/empty"), |path| {
            fs::remove_file(path).unwrap();
            symlink("elsewhere", path).unwrap();
        });
    });
    assert_eq!(facts, vec![Fact::Type]);
}

#[test]
fn a_change_past_path_max_is_noticed() {
    let facts = facts_after(|copy| {
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg("cd \"$1\" && while [ -n \"$(ls -d */ 2>/dev/null)\" ]; do cd -P -- */; done && touch -d @5 bottom");
        assert!(
            command
                .arg("sh")
                .arg(copy.join("names/deep"))
                .status()
                .unwrap()
                .success()
        );
    });
    assert_eq!(facts, vec![Fact::Mtime]);
}
