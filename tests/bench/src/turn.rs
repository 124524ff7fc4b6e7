//! One product's turn in one round: a fresh repository, then every step. The set is in state 0 before and after it.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::interruption;
use crate::options::Step;
use crate::product::{Place, Product, ProductName};
use crate::restored;
use crate::results::{Failure, Measurement, SetResults};
use crate::set::{self, Set};
use crate::step;

/// Takes the turn; a product that fails is noted among the failures and costs nobody else anything.
pub fn take(
    place: &Place<'_>,
    name: ProductName,
    round: usize,
    set: &Set,
    skip: &[Step],
    results: &mut SetResults,
) -> Result<()> {
    fs::create_dir_all(place.client())?;
    read_everything(&set.tree)?;
    let mut product = name.product();
    let mut turn = Turn {
        place,
        product: product.as_mut(),
        name,
        round,
        skip,
        results,
    };
    let outcome = turn.steps(set);
    interruption::check()?;
    if let Err((step, error)) = outcome {
        eprintln!("bench: {} failed: {error:#}", name.text());
        results.failures.push(Failure {
            product: name,
            round,
            step,
            error: format!("{error:#}"),
        });
    }
    Ok(())
}

struct Turn<'a> {
    place: &'a Place<'a>,
    product: &'a mut dyn Product,
    name: ProductName,
    round: usize,
    skip: &'a [Step],
    results: &'a mut SetResults,
}

/// What failed, and in which step.
type Stumble = (Step, anyhow::Error);

impl Turn<'_> {
    fn steps(&mut self, set: &Set) -> Result<(), Stumble> {
        self.product
            .prepare(self.place)
            .map_err(|error| (Step::Initial, error))?;
        self.backup(Step::Initial)?;
        if !self.skip.contains(&Step::NoChange) {
            self.backup(Step::NoChange)?;
        }
        let change = !self.skip.contains(&Step::Changed);
        let applied = change
            .then(|| set.change.apply())
            .transpose()
            .map_err(|error| (Step::Changed, error))?;
        if change {
            self.backup(Step::Changed)?;
        }
        if !self.skip.contains(&Step::Restore) {
            let last = if change { Step::Changed } else { Step::Initial };
            self.restore(last).map_err(|error| (Step::Restore, error))?;
        }
        if let Some(applied) = applied {
            applied.revert().map_err(|error| (Step::Changed, error))?;
        }
        Ok(())
    }

    fn backup(&mut self, step: Step) -> Result<(), Stumble> {
        let command = self
            .product
            .backup(self.place, step)
            .map_err(|error| (step, error))?;
        let measured = step::run(command, &self.place.directory).map_err(|error| (step, error))?;
        let size =
            stored_bytes(&self.product.repository(self.place)).map_err(|error| (step, error))?;
        self.note(step, measured, Some(size));
        Ok(())
    }

    fn restore(&mut self, snapshot: Step) -> Result<()> {
        let into = self.place.directory.join("restored");
        fs::create_dir(&into)?;
        let command = self.product.restore(self.place, snapshot, &into)?;
        let measured = step::run(command, &self.place.directory)?;
        restored::expect_same(self.place.source, &into)?;
        self.note(Step::Restore, measured, None);
        Ok(())
    }

    fn note(&mut self, step: Step, measured: step::Measured, repository_bytes: Option<u64>) {
        let mut peaks = measured.peaks;
        for (process, peak) in self.product.own_peaks(&measured.stdout) {
            let known = peaks.entry(process).or_default();
            *known = peak.max(*known);
        }
        eprintln!(
            "bench: {} round {} {} {}: {:.2} s, {:.1} CPU s",
            self.results.name,
            self.round + 1,
            self.name.text(),
            step.title(),
            measured.wall_secs,
            measured.cpu_secs
        );
        self.results.measurements.push(Measurement {
            product: self.name,
            round: self.round,
            step,
            wall_secs: measured.wall_secs,
            cpu_secs: measured.cpu_secs,
            peak_rss_bytes: peaks,
            repository_bytes,
        });
    }
}

/// Fills the page cache with a tree.
pub fn read_everything(tree: &Path) -> Result<u64> {
    let mut total = 0;
    let mut buffer = vec![0; 1 << 20];
    for entry in set::entries(tree)? {
        if entry.metadata.is_file() {
            let path = tree.join(&entry.path);
            let mut file = fs::File::open(&path)
                .with_context(|| format!("opening {} to warm the cache", path.display()))?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    length => total += length as u64,
                }
            }
        }
    }
    Ok(total)
}

fn stored_bytes(repository: &Path) -> Result<u64> {
    let files = set::entries(repository)?;
    ensure!(
        !files.is_empty(),
        "the repository {} is empty after a backup",
        repository.display()
    );
    Ok(files
        .iter()
        .filter(|entry| entry.metadata.is_file())
        .map(|entry| entry.metadata.len())
        .sum())
}
