//! Where everything happens: the work directory, the private sshd, and copies of the peers where a login sees them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::statvfs;
use tempfile::TempDir;
use tests::sshd::{Sshd, SshdOptions};

use crate::options::Options;

/// Not below `/tmp`, `/var/tmp` or root's home, which the private sshd hides.
const BASES: [&str; 3] = ["/srv", "/var/lib", "/opt"];

/// The place of one benchmark. All of it but kept data goes when the value is dropped.
#[derive(Debug)]
pub struct Ground {
    // Order matters: the server ends before its directory goes.
    sshd: Sshd,
    coordinator: PathBuf,
    data: PathBuf,
    directory: TempDir,
}

impl Ground {
    /// Starts the sshd and copies the peers.
    pub fn prepare(options: &Options) -> Result<Self> {
        tests::processes::raise_descriptor_limit();
        let directory = fresh_directory(options.dir.as_deref())?;
        let path = directory.path();
        for name in ["sshd", "bin", "turns"] {
            fs::create_dir(path.join(name))?;
        }
        if options.peers.join("bin").is_dir() {
            copy_tree(&options.peers, &path.join("peers"))?;
        }
        let coordinator = path.join("bin/coordinator");
        let built = built_coordinator(options)?;
        fs::copy(&built, &coordinator).with_context(|| {
            format!(
                "copying {}: build it with `cargo build --release -p coordinator`",
                built.display()
            )
        })?;
        let data = options.dir.as_deref().unwrap_or(path).join("data");
        fs::create_dir_all(&data)?;
        Ok(Self {
            sshd: Sshd::start(&path.join("sshd"), SshdOptions::default())?,
            coordinator,
            data,
            directory,
        })
    }

    /// Where sets lie.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where turns make what they make.
    pub fn turns(&self) -> PathBuf {
        self.directory.path().join("turns")
    }

    /// The coordinator that is measured.
    pub fn coordinator(&self) -> &Path {
        &self.coordinator
    }

    /// A program of the peers.
    pub fn peer(&self, name: &str) -> PathBuf {
        self.directory.path().join("peers/bin").join(name)
    }

    /// The private sshd.
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    /// `ssh` with everything it needs but the destination and the remote command.
    pub fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.ssh_arguments());
        command
    }

    /// The destination that belongs to [`Ground::ssh`].
    pub fn destination(&self) -> &'static str {
        "root@127.0.0.1"
    }

    /// The same as one line for programs that start `ssh` themselves; no word of it holds a blank.
    pub fn ssh_line(&self) -> String {
        format!("ssh {}", self.ssh_arguments().join(" "))
    }

    fn ssh_arguments(&self) -> Vec<String> {
        let identity = self.sshd.identity_file();
        let mut arguments = vec!["-F".to_owned(), "/dev/null".to_owned()];
        let port = self.sshd.address().port();
        arguments.extend(["-p".to_owned(), port.to_string()]);
        arguments.extend(["-i".to_owned(), identity.display().to_string()]);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ExitOnForwardFailure=yes",
        ] {
            arguments.extend(["-o".to_owned(), option.to_owned()]);
        }
        arguments
    }

    /// Bytes that may still be written here.
    pub fn free_bytes(&self) -> Result<u64> {
        let found = statvfs(self.directory.path()).context("asking for the free space")?;
        Ok(found.f_bavail * found.f_frsize)
    }
}

/// The coordinator that the options name.
pub fn built_coordinator(options: &Options) -> Result<PathBuf> {
    if let Some(path) = &options.coordinator {
        return Ok(path.clone());
    }
    let own = std::env::current_exe().context("asking for the path of this program")?;
    Ok(own.with_file_name("coordinator"))
}

/// One word for a shell.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let text = word.as_ref().to_string_lossy().replace('\'', r"'\''");
    format!("'{text}'")
}

/// Copies a tree with everything in it.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--archive", "--one-file-system", "--no-target-directory"])
        .args([from, to])
        .status()
        .context("running cp")?;
    ensure!(
        status.success(),
        "copying {} to {} failed",
        from.display(),
        to.display()
    );
    Ok(())
}

fn fresh_directory(chosen: Option<&Path>) -> Result<TempDir> {
    if let Some(chosen) = chosen {
        fs::create_dir_all(chosen).with_context(|| format!("creating {}", chosen.display()))?;
        let chosen = chosen.canonicalize()?;
        ensure!(
            !["/tmp", "/var/tmp", "/root", "/dev/shm"]
                .iter()
                .any(|hidden| chosen.starts_with(hidden)),
            "{} is hidden from a login at the private sshd; choose a directory elsewhere, such as /srv",
            chosen.display()
        );
        return Ok(temporary_in(&chosen)?);
    }
    for base in BASES {
        if let Ok(directory) = temporary_in(Path::new(base)) {
            return Ok(directory);
        }
    }
    bail!("no place for the work directory below {BASES:?}; name one with --dir")
}

fn temporary_in(base: &Path) -> std::io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("capstan-bench-")
        .tempdir_in(base)
}
