//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::product::ProductName;

/// Runs Capstan and its peers on the same data in turn, and reports times, sizes, memory and the ratios.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub struct Options {
    /// Generated sets to measure; by default all of them, or none when a tree is given.
    #[arg(long, value_delimiter = ',')]
    pub sets: Vec<GeneratedSet>,
    /// Measures a copy of this tree.
    #[arg(long, value_name = "PATH")]
    pub tree: Option<PathBuf>,
    /// How often each product is measured; tables show medians.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Products to measure, in this order; by default Capstan and every peer that is installed.
    #[arg(long, value_delimiter = ',')]
    pub products: Vec<ProductName>,
    /// Steps to leave out; the first backup cannot be.
    #[arg(long, value_delimiter = ',', value_name = "STEP")]
    pub skip: Vec<Step>,
    /// Leaves out what the machine itself can do.
    #[arg(long)]
    pub no_limits: bool,
    /// Work directory; its data are kept and used again. By default a fresh one below /srv that goes at the end.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where tests/bench/peers installed the peers.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.peers"))]
    pub peers: PathBuf,
    /// The coordinator to measure; by default the one built beside this program.
    #[arg(long, value_name = "FILE")]
    pub coordinator: Option<PathBuf>,
    /// Where reports go, each in a directory of its own.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    pub results: PathBuf,
    /// Name of the machine in the report; by default its processor.
    #[arg(long)]
    pub name: Option<String>,
    /// Makes every set this many times as large; to try the benchmark out.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Seconds of rest after large trees were removed.
    #[arg(long, default_value_t = 30)]
    pub settle_secs: u64,
    /// Measures nothing: merges these JSON files and writes their report.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub report_only: Vec<PathBuf>,
}

/// A set that the generator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GeneratedSet {
    /// 4.3 GB in 40,000 files.
    Mixed,
    /// 1.7 GB in 200,000 files.
    Small,
    /// One image of 8 GiB.
    Big,
}

impl GeneratedSet {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mixed, Self::Small, Self::Big];

    /// Its name for the generator and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Small => "small",
            Self::Big => "big",
        }
    }
}

/// What is measured of each product, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The first backup, into an empty repository.
    Initial,
    /// The second, of the same data.
    NoChange,
    /// The third, after about 1 % changed.
    Changed,
    /// The last snapshot into an empty directory.
    Restore,
}

impl Step {
    /// All steps, in their order.
    pub const ALL: [Self; 4] = [Self::Initial, Self::NoChange, Self::Changed, Self::Restore];

    /// Its heading in the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::NoChange => "no change",
            Self::Changed => "1 % changed",
            Self::Restore => "restore",
        }
    }

    /// Its name for snapshots and directories.
    pub fn label(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::NoChange => "no-change",
            Self::Changed => "changed",
            Self::Restore => "restore",
        }
    }
}
