//! Whether a restored tree is the source: every entry by kind and size, and every fiftieth file byte for byte. It says
//! nothing of owners and times, which products restore or not by default.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::set::{self, Entry};

/// One file in so many is compared byte for byte.
const COMPARED_ONE_IN: usize = 50;
const BUFFER_BYTES: usize = 1 << 20;

/// An error names the first difference.
pub fn expect_same(source: &Path, restored_into: &Path) -> Result<()> {
    let restored = root_of(source, restored_into);
    let wanted = comparable(set::entries(source)?);
    let found = comparable(set::entries(&restored)?);
    let mut files = 0;
    for (wanted, found) in wanted.iter().zip(&found) {
        let same_place =
            wanted.path == found.path && wanted.metadata.file_type() == found.metadata.file_type();
        ensure!(
            same_place,
            "the restored tree has {} where {} should be",
            found.path.display(),
            wanted.path.display()
        );
        if !wanted.metadata.is_file() {
            continue;
        }
        ensure!(
            wanted.metadata.len() == found.metadata.len(),
            "the restored {} has {} bytes instead of {}",
            found.path.display(),
            found.metadata.len(),
            wanted.metadata.len()
        );
        if files % COMPARED_ONE_IN == 0 {
            let equal = same_bytes(&source.join(&wanted.path), &restored.join(&found.path))?;
            ensure!(equal, "the restored {} differs", found.path.display());
        }
        files += 1;
    }
    ensure!(
        wanted.len() == found.len(),
        "the restored tree has {} entries instead of {}",
        found.len(),
        wanted.len()
    );
    Ok(())
}

/// Products put a tree at its whole path, below its last name, or right into the directory.
fn root_of(source: &Path, into: &Path) -> PathBuf {
    let whole = into.join(source.strip_prefix("/").unwrap_or(source));
    let last = source.file_name().map(|name| into.join(name));
    [Some(whole), last]
        .into_iter()
        .flatten()
        .find(|path| path.is_dir())
        .unwrap_or_else(|| into.to_owned())
}

/// Sockets and devices are left to each product's taste.
fn comparable(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.retain(|entry| {
        let kind = entry.metadata.file_type();
        kind.is_dir() || kind.is_file() || kind.is_symlink()
    });
    entries
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| -> Result<_> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file))
    };
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let length = read_full(&mut one, &mut left)?;
        if length != read_full(&mut other, &mut right)? || left[..length] != right[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test at once")]

    use std::fs;

    use super::expect_same;

    #[test]
    fn differences_in_name_size_and_content_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let (source, out) = (directory.path().join("tree"), directory.path().join("out"));
        let copy = out.join("tree");
        for root in [&source, &copy] {
            fs::create_dir_all(root.join("d")).unwrap();
            fs::write(root.join("d/file"), "content").unwrap();
        }
        expect_same(&source, &out).unwrap();
        fs::write(copy.join("d/file"), "c0ntent").unwrap();
        expect_same(&source, &out).unwrap_err();
        fs::write(copy.join("d/file"), "conten").unwrap();
        expect_same(&source, &out).unwrap_err();
        fs::rename(copy.join("d/file"), copy.join("d/file2")).unwrap();
        expect_same(&source, &out).unwrap_err();
    }
}
