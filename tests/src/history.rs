//! A host's sources as they were at each of its snapshots, for tests in which some of those go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::compare::expect_equal;
use crate::corpus::bytes::incompressible;
use crate::shapes::RunReport;
use crate::world::{World, below, copy_tree};

/// Sources as they were at each snapshot.
#[derive(Debug, Default)]
pub struct History {
    was: BTreeMap<String, PathBuf>,
    restores: u32,
}

impl History {
    /// Five snapshots: a file that stays, one that is another in each, and one that only the first has.
    pub fn five(world: &World) -> Result<Self> {
        let mut history = Self::default();
        write(world, "stays", 1, 3 << 20)?;
        write(world, "first", 2, 5 << 20)?;
        for number in 0..5 {
            write(world, "changes", 10 + number, 2 << 20)?;
            history.run(world)?;
            if number == 0 {
                fs::remove_file(world.source().join("first"))?;
            }
        }
        Ok(history)
    }

    /// Backs up, and remembers what was there.
    pub fn run(&mut self, world: &World) -> Result<RunReport> {
        let report = world.run()?;
        self.remember(world, &report)?;
        Ok(report)
    }

    /// Remembers what is there as what was there in a run.
    pub fn remember(&mut self, world: &World, report: &RunReport) -> Result<()> {
        let snapshot = report.snapshot.as_ref().context("a snapshot")?;
        let copy = world.directory().join(format!("was-{}", self.was.len()));
        copy_tree(&world.source(), &copy)?;
        self.was.insert(snapshot.id.clone(), copy);
        Ok(())
    }

    /// A name that no output has.
    pub fn fresh_output(&mut self) -> String {
        self.restores += 1;
        format!("check-{}", self.restores)
    }

    /// A restored snapshot is what it was.
    pub fn expect(&self, world: &World, snapshot: &str, out: &Path) -> Result<()> {
        let was = self.was.get(snapshot);
        let was = was.context("a snapshot of this test")?;
        expect_equal(was, &below(out, &world.source()))
    }
}

/// Writes a file of the source that does not compress.
pub fn write(world: &World, name: &str, seed: u64, bytes: usize) -> Result<()> {
    Ok(fs::write(
        world.source().join(name),
        incompressible(seed, bytes),
    )?)
}
