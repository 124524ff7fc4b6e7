//! The products that are compared, each as its users run it: through SSH, with its own defaults. A product prepares a
//! repository and gives the commands of each step; it never measures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::ground::Ground;
use crate::options::Step;
use crate::proc_files::Peaks;

mod borg;
mod bupstash;
mod capstan;
mod rest_client;
mod rest_server;

/// What every repository is sealed with; nothing secret is in it.
const PASSWORD: &str = "benchmark";

/// Which product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductName {
    /// The one this is all about.
    Capstan,
    /// restic, with an append-only REST server.
    Restic,
    /// bupstash over SSH.
    Bupstash,
    /// borg over SSH.
    Borg,
    /// rustic, with an append-only REST server.
    Rustic,
}

impl ProductName {
    /// All products, in the order of the tables.
    pub const ALL: [Self; 5] = [
        Self::Capstan,
        Self::Restic,
        Self::Bupstash,
        Self::Borg,
        Self::Rustic,
    ];

    /// Its name in the report.
    pub fn text(self) -> &'static str {
        match self {
            Self::Capstan => "capstan",
            Self::Restic => "restic",
            Self::Bupstash => "bupstash",
            Self::Borg => "borg",
            Self::Rustic => "rustic",
        }
    }

    /// How it is run, for the report.
    pub fn how(self) -> &'static str {
        match self {
            Self::Capstan => {
                "coordinator here, agent on the target over SSH; every pack read back before the commit"
            }
            Self::Restic | Self::Rustic => {
                "on the target, append-only REST server here through `ssh -R`; restored on the target the same way"
            }
            Self::Bupstash => "`bupstash put` on the target, `bupstash serve` here over SSH",
            Self::Borg => {
                "`borg create` on the target, `borg serve` here over SSH; repokey-blake2, lz4 (its default)"
            }
        }
    }

    /// Ready to run.
    pub fn product(self) -> Box<dyn Product> {
        match self {
            Self::Capstan => Box::new(capstan::Capstan),
            Self::Restic => Box::new(rest_client::RestClient::restic()),
            Self::Bupstash => Box::new(bupstash::Bupstash),
            Self::Borg => Box::new(borg::Borg),
            Self::Rustic => Box::new(rest_client::RestClient::rustic()),
        }
    }

    /// What it says of its version; `None` when it is not installed.
    pub fn version(self, ground: &Ground) -> Option<String> {
        let (program, argument) = match self {
            Self::Capstan => (ground.coordinator().to_owned(), "--version"),
            Self::Restic => (ground.peer("restic"), "version"),
            Self::Bupstash => (ground.peer("bupstash"), "version"),
            Self::Borg => (ground.peer("borg"), "--version"),
            Self::Rustic => (ground.peer("rustic"), "--version"),
        };
        let output = Command::new(program).arg(argument).output().ok()?;
        if !output.status.success() {
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.lines().next().unwrap_or_default().trim().to_owned())
    }
}

/// One product's turn: its repository, caches and restored trees lie in a directory of its own.
#[derive(Debug)]
pub struct Place<'a> {
    /// Where everything happens.
    pub ground: &'a Ground,
    /// What is backed up.
    pub source: &'a Path,
    /// This turn's own directory.
    pub directory: PathBuf,
}

impl Place<'_> {
    /// The repository, unless the product has its own idea.
    pub fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// Home, caches and keys of the client.
    pub fn client(&self) -> PathBuf {
        self.directory.join("client")
    }
}

/// What is asked of a product, in this order.
pub trait Product {
    /// Makes an empty repository and starts what must run all the time.
    fn prepare(&mut self, place: &Place<'_>) -> Result<()>;

    /// The command that makes the snapshot of a step.
    fn backup(&self, place: &Place<'_>, step: Step) -> Result<Command>;

    /// The command that restores the snapshot of a step into an existing, empty directory.
    fn restore(&self, place: &Place<'_>, step: Step, to: &Path) -> Result<Command>;

    /// The directory whose size counts.
    fn repository(&self, place: &Place<'_>) -> PathBuf {
        place.repository()
    }

    /// Peaks of memory that the product measured itself, from what it printed.
    fn own_peaks(&self, _stdout: &str) -> Peaks {
        Peaks::new()
    }
}

/// Runs a command of the preparation, which is not measured.
fn prepare_with(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("starting {name}"))?;
    ensure!(
        output.status.success(),
        "{name} failed ({}) while its repository was made:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Writes a file below a directory that may be missing.
fn write_below(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
