//! The program `btrfs` of the host, which takes and removes snapshots. Never removes what is not a subvolume.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{FileType, Stat, fstat, lstat};

use crate::fs_snapshot::program::{self, Program, ProgramError};

const BTRFS: Program = Program {
    name: "btrfs",
    package: "btrfs-progs",
};
/// The inode of every subvolume's own directory.
const SUBVOLUME_INODE: u64 = 256;

/// The paths of all subvolumes of the filesystem whose top is mounted at `top`, from there and without a slash in front.
pub fn list(top: &Path) -> Result<Vec<Vec<u8>>, ProgramError> {
    let listed = run("btrfs subvolume list", &["subvolume", "list"], &[top])?;
    let lines = listed.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(path_of).map(<[u8]>::to_vec).collect())
}

/// The path in a line: `ID 257 gen 7 top level 256 path @data/nest`. A name with a newline gives a path that is not there; its
/// directory in the snapshot then is empty, which the walk reports.
fn path_of(line: &[u8]) -> Option<&[u8]> {
    const BEFORE: &[u8] = b" path ";
    let at = line
        .windows(BEFORE.len())
        .position(|window| window == BEFORE)?;
    line.get(at + BEFORE.len()..)
        .filter(|path| line.starts_with(b"ID ") && !path.is_empty())
}

/// Takes a read-only snapshot.
pub fn take(subvolume: &Path, snapshot: &Path) -> Result<(), ProgramError> {
    let words = ["subvolume", "snapshot", "-r"];
    run("btrfs subvolume snapshot", &words, &[subvolume, snapshot]).map(drop)
}

/// Removes a subvolume.
pub fn remove(subvolume: &Path) -> Result<(), ProgramError> {
    let words = ["subvolume", "delete"];
    run("btrfs subvolume delete", &words, &[subvolume]).map(drop)
}

/// Whether this is a subvolume's own directory.
pub fn is_subvolume(path: &Path) -> bool {
    lstat(path).is_ok_and(is_own_directory)
}

/// The same of what is open.
pub fn is_open_subvolume(opened: &OwnedFd) -> bool {
    fstat(opened).is_ok_and(is_own_directory)
}

fn is_own_directory(found: Stat) -> bool {
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    is_directory && found.st_ino == SUBVOLUME_INODE
}

fn run(what: &'static str, words: &[&str], paths: &[&Path]) -> Result<Vec<u8>, ProgramError> {
    let words = words.iter().chain(&["--"]).map(OsStr::new);
    let arguments: Vec<_> = words
        .chain(paths.iter().map(|path| path.as_os_str()))
        .collect();
    program::run(BTRFS, what, &arguments, Stdio::null())
}

#[cfg(test)]
mod tests {
    use super::{is_subvolume, path_of};

    #[test]
    fn a_path_is_all_that_follows_its_word() {
        let line = b"ID 257 gen 7 top level 256 path @data/a path b ";
        assert_eq!(path_of(line), Some(&b"@data/a path b "[..]));
        for other in [
            &b""[..],
            b"ID 257",
            b"half path x",
            b"ID 1 gen 1 top level 5 path ",
        ] {
            assert_eq!(path_of(other), None);
        }
        assert!(!is_subvolume(std::path::Path::new("/proc/self/exe")));
    }
}
