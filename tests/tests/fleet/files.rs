//! Files that say themselves whether they are whole: whatever a snapshot caught of a tree that changes all the time, each of its
//! files is one that was there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tests::corpus::bytes::incompressible;

/// Files of a tree.
pub const FILES: u64 = 60;
/// Bytes of each, at least.
const FILE_BYTES: usize = 24 << 10;

/// A tree that changes by whole files: each is written elsewhere and renamed.
#[derive(Debug)]
pub struct Tree {
    source: PathBuf,
    elsewhere: PathBuf,
    owner: String,
    generation: u64,
}

impl Tree {
    /// Writes all files of it. `elsewhere` is on the same filesystem, and not backed up.
    pub fn new(source: &Path, elsewhere: &Path, owner: &str) -> Result<Self> {
        fs::create_dir_all(source)?;
        fs::create_dir_all(elsewhere)?;
        let tree = Self {
            source: source.to_owned(),
            elsewhere: elsewhere.to_owned(),
            owner: owner.to_owned(),
            generation: 0,
        };
        for number in 0..FILES {
            tree.write(number)?;
        }
        Ok(tree)
    }

    /// Changes a few files.
    pub fn change(&mut self) -> Result<()> {
        self.generation += 1;
        for step in 0..3 {
            self.write((self.generation * 7 + step * 11) % FILES)?;
        }
        Ok(())
    }

    /// Makes of everything what an extortioner leaves.
    pub fn encrypt(&mut self) -> Result<()> {
        self.generation += 1;
        for number in 0..FILES {
            let path = self.source.join(name(number));
            fs::write(&path, incompressible(u64::MAX - number, FILE_BYTES))?;
            fs::rename(&path, self.source.join(format!("{}.locked", name(number))))?;
        }
        Ok(())
    }

    fn write(&self, number: u64) -> Result<()> {
        let seed = self.generation * FILES + number;
        let body = incompressible(seed, FILE_BYTES + usize::try_from(seed % 977)?);
        let head = format!("{} {number} {}\n", self.owner, blake3::hash(&body));
        let new = self.elsewhere.join("new");
        fs::write(&new, [head.as_bytes(), &body].concat())?;
        fs::rename(&new, self.source.join(name(number)))?;
        Ok(())
    }
}

fn name(number: u64) -> String {
    format!("file-{number:03}.dat")
}

/// Every file of a tree of `owner` is there and whole.
pub fn expect_whole(restored: &Path, owner: &str) -> Result<()> {
    for number in 0..FILES {
        let path = restored.join(name(number));
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (head, body) = bytes.split_at(end.context("a head")? + 1);
        let expected = format!("{owner} {number} {}\n", blake3::hash(body));
        ensure!(
            head == expected.as_bytes(),
            "{} is not whole",
            path.display()
        );
    }
    let count = fs::read_dir(restored)?.count();
    ensure!(
        count == usize::try_from(FILES)?,
        "{count} entries in {}",
        restored.display()
    );
    Ok(())
}
