//! The program `btrfs` of the host, which takes and removes snapshots. Never removes what is not a subvolume.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{FileType, Stat, fstat, lstat};

use crate::read::command::PROGRAM_PATH;

/// The program.
const PROGRAM: &str = "btrfs";
/// The inode of every subvolume's own directory.
const SUBVOLUME_INODE: u64 = 256;
/// What is kept of what the program complains about.
const COMPLAINT_CHARS_MAX: usize = 400;

/// Why the program did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error("the host has no program `btrfs`: install btrfs-progs there")]
    Missing,
    /// It cannot be started.
    #[error("start `btrfs`")]
    Start(#[source] io::Error),
    /// It complains.
    #[error("`btrfs {what}` failed: {complaint}")]
    Failed {
        /// What it was asked for.
        what: &'static str,
        /// The end of what it said.
        complaint: String,
    },
}

/// The paths of all subvolumes of the filesystem whose top is mounted at `top`, from there and without a slash in front.
pub fn list(top: &Path) -> Result<Vec<Vec<u8>>, ToolError> {
    let listed = run("subvolume list", &["subvolume", "list"], &[top])?;
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
pub fn take(subvolume: &Path, snapshot: &Path) -> Result<(), ToolError> {
    let words = ["subvolume", "snapshot", "-r"];
    run("subvolume snapshot", &words, &[subvolume, snapshot]).map(drop)
}

/// Removes a subvolume.
pub fn remove(subvolume: &Path) -> Result<(), ToolError> {
    run("subvolume delete", &["subvolume", "delete"], &[subvolume]).map(drop)
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

fn run(what: &'static str, words: &[&str], paths: &[&Path]) -> Result<Vec<u8>, ToolError> {
    let output = Command::new(PROGRAM)
        .args(words)
        .arg("--")
        .args(paths)
        .env_clear()
        .env("PATH", PROGRAM_PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ToolError::Missing,
        _ => ToolError::Start(error),
    })?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(ToolError::Failed {
            what,
            complaint: complaint(&output.stderr),
        }),
    }
}

/// The end of what a program complained about, as one line.
pub(super) fn complaint(stderr: &[u8]) -> String {
    let said = OsStr::from_bytes(stderr).to_string_lossy();
    let line = said.trim().replace('\n', "; ");
    let skipped = line.chars().count().saturating_sub(COMPLAINT_CHARS_MAX);
    line.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::{complaint, is_subvolume, path_of};

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
        assert_eq!(
            complaint(b"ERROR: no\nERROR: space\n"),
            "ERROR: no; ERROR: space"
        );
        assert!(!is_subvolume(std::path::Path::new("/proc/self/exe")));
    }
}
