//! A host that is another one at each backup, and of whose snapshots the rules keep the last two: what it needs again may just have been
//! condemned. Remembers what it was like at each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::compare::expect_equal;
use crate::coordinator_process::Finished;
use crate::corpus::bytes::incompressible;
use crate::shapes::{RunReport, SnapshotLine};
use crate::world::{World, WorldOptions, below, copy_tree};

/// The host, and its coordinator.
#[derive(Debug)]
pub struct ChangingHost {
    /// Where both are.
    pub world: World,
    /// Its sources as they were at each snapshot.
    was: BTreeMap<String, PathBuf>,
    /// As they were at a run that did not end well, and may have committed.
    in_doubt: Option<PathBuf>,
    seed: u64,
    copies: u64,
}

impl ChangingHost {
    /// One that was never backed up. What is condemned is removed after `grace`.
    pub fn new(grace: &str) -> Result<Self> {
        let world = World::with(WorldOptions {
            host_lines: vec!["keep = { last = 2 }".into(), "keep_floor = 1".into()],
            ..WorldOptions::default()
        })?;
        world.replace_config_line("#grace = ", &format!("grace = \"{grace}\""))?;
        fs::write(world.source().join("stays"), incompressible(1, 300 << 10))?;
        Ok(Self {
            world,
            was: BTreeMap::new(),
            in_doubt: None,
            seed: 0,
            copies: 0,
        })
    }

    /// Something new, and something that was there some snapshots ago: it may just be condemned.
    pub fn change(&mut self) -> Result<()> {
        self.seed += 1;
        let source = self.world.source();
        let new = incompressible(100 + self.seed, 200 << 10);
        fs::write(source.join("new"), new)?;
        let again = incompressible(10 + self.seed % 4, 400 << 10);
        fs::write(source.join("again"), again)?;
        Ok(())
    }

    /// Remembers what a run that is over has committed.
    pub fn committed(&mut self, run: &Finished) -> Result<()> {
        let report: RunReport = run.json()?;
        let id = report.snapshot.context("a snapshot")?.id;
        let copy = self.copy()?;
        self.was.insert(id, copy);
        Ok(())
    }

    /// Remembers what a run that did not end well may have committed.
    pub fn may_have_committed(&mut self) -> Result<()> {
        self.in_doubt = Some(self.copy()?);
        Ok(())
    }

    /// Forgets it, unless it is among these snapshots.
    pub fn settle_doubt(&mut self, snapshots: &[SnapshotLine]) -> Result<()> {
        let doubted = self.in_doubt.take();
        let mut snapshots = snapshots.iter();
        if let Some(unknown) = snapshots.find(|found| !self.was.contains_key(&found.id)) {
            let was = doubted.context("a run that did not end well")?;
            self.was.insert(unknown.id.clone(), was);
        }
        Ok(())
    }

    /// What a snapshot was restored to is what it was.
    pub fn expect_was(&mut self, id: &str, restored: &Path) -> Result<()> {
        if let Some(doubted) = self.in_doubt.take_if(|_| !self.was.contains_key(id)) {
            self.was.insert(id.to_owned(), doubted);
        }
        let was = self.was.get(id).context("a snapshot of this test")?;
        expect_equal(was, &below(restored, &self.world.source()))?;
        Ok(fs::remove_dir_all(restored)?)
    }

    /// The sources as they are.
    fn copy(&mut self) -> Result<PathBuf> {
        self.copies += 1;
        let copy = self.world.directory().join(format!("was-{}", self.copies));
        copy_tree(&self.world.source(), &copy)?;
        Ok(copy)
    }
}
