//! A filesystem that is soon full: a memory filesystem of a given size, mounted on a directory and gone with its value.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A mounted filesystem.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one on an existing directory; what the directory held before is copied in.
    pub fn mount(path: &Path, kibibytes: u64) -> Result<Self> {
        let disk = Self {
            path: path.to_owned(),
        };
        let script = "set -e; old=$(mktemp -d -p \"$(dirname \"$1\")\"); cp -a \"$1/.\" \"$old\"; \
                      mount -t tmpfs -o mode=0700,size=\"$2\"k capstan-test \"$1\"; cp -a \"$old/.\" \"$1\"; rm -r \"$old\"";
        run(Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(path)
            .arg(kibibytes.to_string()))?;
        Ok(disk)
    }

    /// Gives it another size.
    pub fn resize(&self, kibibytes: u64) -> Result<()> {
        run(Command::new("mount")
            .args(["-o", &format!("remount,size={kibibytes}k")])
            .arg(&self.path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg("-l").arg(&self.path)) {
            eprintln!("{error:#}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("running a mount command")?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
