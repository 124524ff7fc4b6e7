//! A real tree of empty files in memory, for the real agent to walk: the same folders as the synthetic one. It lies in
//! the measurement's own mount namespace and goes with it, or when the value is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::isolation::command;
use crate::synthetic_tree::{
    FILES_OF_FOLDER, FOLDERS_OF_FOLDER, file_name, inner_name, inner_of, outer_name,
};

/// What an empty file takes of memory, with its name and what the walk leaves in caches.
const FILE_BYTES: u64 = 1_536;

/// A mounted tree.
#[derive(Debug)]
pub struct RealTree {
    path: PathBuf,
}

impl RealTree {
    /// Mounts a memory filesystem in `directory`, which must not exist, and fills it.
    pub fn new(directory: &Path, files: u64) -> Result<Self> {
        let available = available_bytes()?;
        ensure!(
            files * FILE_BYTES < available / 2,
            "{files} files in memory would take {} MiB of the {} MiB there are",
            (files * FILE_BYTES) >> 20,
            available >> 20
        );
        fs::create_dir(directory).with_context(|| format!("creating {}", directory.display()))?;
        let inodes = files + inner_of(files) * 2 + 100;
        let size = format!(
            "mode=0755,size={},nr_inodes={inodes}",
            files * FILE_BYTES + (64 << 20)
        );
        let path = directory.display().to_string();
        command("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &path])?;
        let tree = Self {
            path: directory.to_owned(),
        };
        tree.fill(files)?;
        Ok(tree)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fill(&self, files: u64) -> Result<()> {
        for folder in 0..inner_of(files) {
            let path = self
                .path
                .join(outer_name(folder / FOLDERS_OF_FOLDER))
                .join(inner_name(folder % FOLDERS_OF_FOLDER));
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
            let here = (files - folder * FILES_OF_FOLDER).min(FILES_OF_FOLDER);
            for file in 0..here {
                let file = path.join(file_name(file));
                File::create(&file).with_context(|| format!("creating {}", file.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for RealTree {
    fn drop(&mut self) {
        let path = self.path.display().to_string();
        let gone = command("umount", &[&path]).and_then(|_| Ok(fs::remove_dir(&self.path)?));
        if let Err(error) = gone {
            eprintln!("scale: {error:#}");
        }
    }
}

fn available_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .context("no MemAvailable in /proc/meminfo")?;
    let kib: u64 = line
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()
        .context("reading MemAvailable")?;
    Ok(kib * 1024)
}
