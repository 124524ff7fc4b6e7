//! A Btrfs filesystem in a file: its top mounted in a temporary directory, subvolumes where a test wants them, and gone with
//! its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::world::temporary_directory;

/// The image's size: what is not written takes no room on the disk.
const IMAGE_BYTES: u64 = 1 << 30;
/// How the directories begin that runs make for their snapshots.
const CONTAINER_PREFIX: &str = ".capstan-snapshot-";

/// A mounted filesystem.
#[derive(Debug)]
pub struct BtrfsDisk {
    mounted: Vec<PathBuf>,
    device: String,
    directory: TempDir,
}

impl BtrfsDisk {
    /// Makes one and mounts its top.
    pub fn new() -> Result<Self> {
        let directory = temporary_directory()?;
        let image = directory.path().join("image");
        fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.btrfs").arg("-q").arg(&image))?;
        let mut disk = Self {
            mounted: Vec::new(),
            device: String::new(),
            directory,
        };
        let top = disk.top();
        fs::create_dir(&top)?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&top))?;
        disk.mounted.push(top);
        let found = run(Command::new("losetup")
            .args(["-n", "-O", "NAME", "-j"])
            .arg(&image))?;
        disk.device = found.trim().to_owned();
        Ok(disk)
    }

    /// Where its top is mounted.
    pub fn top(&self) -> PathBuf {
        self.directory.path().join("top")
    }

    /// Makes a subvolume at a path below the top.
    pub fn create(&self, path: &str) -> Result<PathBuf> {
        let path = self.top().join(path);
        run(Command::new("btrfs")
            .args(["subvolume", "create"])
            .arg(&path))?;
        Ok(path)
    }

    /// Takes a snapshot of a subvolume into a path below the top, as somebody else would.
    pub fn snapshot(&self, subvolume: &Path, path: &str) -> Result<PathBuf> {
        let path = self.top().join(path);
        let words = ["subvolume", "snapshot", "-r"];
        run(Command::new("btrfs").args(words).arg(subvolume).arg(&path))?;
        Ok(path)
    }

    /// Mounts a subvolume beside the top.
    pub fn mount(&mut self, subvolume: &str, name: &str) -> Result<PathBuf> {
        let place = self.directory.path().join(name);
        fs::create_dir(&place)?;
        let options = format!("subvol={subvolume}");
        run(Command::new("mount")
            .args(["-o", &options, &self.device])
            .arg(&place))?;
        self.mounted.push(place.clone());
        Ok(place)
    }

    /// Mounts a memory filesystem on a directory of it.
    pub fn mount_memory(&mut self, place: &Path) -> Result<()> {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "capstan-test"])
            .arg(place))?;
        self.mounted.push(place.to_owned());
        Ok(())
    }

    /// The directories of runs that hold snapshots now.
    pub fn containers(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.top())? {
            let entry = entry?;
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(CONTAINER_PREFIX)
            {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

impl Drop for BtrfsDisk {
    fn drop(&mut self) {
        for place in self.mounted.iter().rev() {
            if let Err(error) = run(Command::new("umount").arg("-l").arg(place)) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
