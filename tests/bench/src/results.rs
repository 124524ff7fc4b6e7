//! Every raw measurement, as it is kept in JSON, and the figures that tables are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::limits::Limit;
use crate::machine::Machine;
use crate::options::Step;
use crate::proc_files::Peaks;
use crate::product::ProductName;
use crate::set::Facts;
use crate::statistics::{Spread, spread};

/// One invocation, or several that were merged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// When it began, RFC 3339.
    pub started: String,
    /// Where.
    pub machine: Machine,
    /// Size of the sets; 1 is what the targets are for.
    pub scale: f64,
    /// What was measured.
    pub products: Vec<Version>,
    /// Per set.
    pub sets: Vec<SetResults>,
    /// What a reader must know.
    pub notes: BTreeSet<String>,
}

/// A product and what it says of its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Which product.
    pub product: ProductName,
    /// Its own words.
    pub version: String,
}

/// What was measured on one set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetResults {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub facts: Facts,
    /// Every step that succeeded.
    pub measurements: Vec<Measurement>,
    /// Every step that did not.
    pub failures: Vec<Failure>,
    /// What the machine can do with these data.
    pub limits: Vec<Limit>,
}

/// One step of one product in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// Which product.
    pub product: ProductName,
    /// Which round, from 0.
    pub round: usize,
    /// Which step.
    pub step: Step,
    /// Wall-clock seconds.
    pub wall_secs: f64,
    /// CPU seconds of the whole machine.
    pub cpu_secs: f64,
    /// Peak memory by process.
    pub peak_rss_bytes: Peaks,
    /// Size of the repository afterwards; null for a restore.
    pub repository_bytes: Option<u64>,
}

/// A step that failed; what followed it in its turn was left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// Which product.
    pub product: ProductName,
    /// Which round, from 0.
    pub round: usize,
    /// Which step.
    pub step: Step,
    /// What it said.
    pub error: String,
}

impl Results {
    /// Nothing measured yet.
    pub fn empty(machine: Machine, scale: f64) -> Self {
        Self {
            started: jiff::Timestamp::now()
                .round(jiff::Unit::Second)
                .unwrap_or_default()
                .to_string(),
            machine,
            scale,
            products: Vec::new(),
            sets: Vec::new(),
            notes: BTreeSet::new(),
        }
    }

    /// Several invocations as one; rounds of the same set are counted on.
    pub fn merged_from(files: &[PathBuf]) -> Result<Self> {
        let mut read = files.iter().map(|path| -> Result<Self> {
            let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is no file of results", path.display()))
        });
        let mut merged = read.next().context("no file of results was named")??;
        for next in read {
            merged.add(next?);
        }
        Ok(merged)
    }

    fn add(&mut self, other: Self) {
        if other.machine != self.machine || other.scale.total_cmp(&self.scale).is_ne() {
            self.notes.insert(format!(
                "Merged with a run on {} at scale {}, which differs from this one.",
                other.machine.name, other.scale
            ));
        }
        for version in other.products {
            if !self.products.contains(&version) {
                self.products.push(version);
            }
        }
        self.notes.extend(other.notes);
        for set in other.sets {
            match self.sets.iter_mut().find(|known| known.name == set.name) {
                Some(known) => known.add(set),
                None => self.sets.push(set),
            }
        }
    }

    /// The results of one set.
    pub fn set(&self, name: &str) -> Option<&SetResults> {
        self.sets.iter().find(|set| set.name == name)
    }
}

impl SetResults {
    /// The products that were measured, in the order of the tables.
    pub fn products(&self) -> Vec<ProductName> {
        ProductName::ALL
            .into_iter()
            .filter(|product| {
                self.measurements
                    .iter()
                    .any(|measurement| measurement.product == *product)
            })
            .collect()
    }

    /// Wall-clock seconds of a step.
    pub fn wall(&self, product: ProductName, step: Step) -> Option<Spread> {
        spread(self.of(product, step).map(|found| found.wall_secs))
    }

    /// CPU seconds of a step.
    pub fn cpu(&self, product: ProductName, step: Step) -> Option<Spread> {
        spread(self.of(product, step).map(|found| found.cpu_secs))
    }

    /// Bytes of the repository after a step.
    pub fn repository(&self, product: ProductName, step: Step) -> Option<Spread> {
        spread(
            self.of(product, step)
                .filter_map(|found| found.repository_bytes)
                .map(|bytes| bytes as f64),
        )
    }

    /// Bytes that the repository grew by when about 1 % had changed.
    pub fn growth(&self, product: ProductName) -> Option<Spread> {
        spread(self.of(product, Step::Changed).filter_map(|after| {
            let before = [Step::NoChange, Step::Initial]
                .into_iter()
                .find_map(|step| {
                    self.of(product, step)
                        .find(|before| before.round == after.round)
                })?;
            Some(after.repository_bytes? as f64 - before.repository_bytes? as f64)
        }))
    }

    /// Peak memory of each process of a product in a step: the median of the rounds.
    pub fn peaks(&self, product: ProductName, step: Step) -> BTreeMap<String, f64> {
        let mut by_process: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for measurement in self.of(product, step) {
            for (process, peak) in &measurement.peak_rss_bytes {
                by_process
                    .entry(process.clone())
                    .or_default()
                    .push(*peak as f64);
            }
        }
        by_process
            .into_iter()
            .filter_map(|(process, peaks)| Some((process, spread(peaks)?.median)))
            .collect()
    }

    /// The highest memory that a process of a product ever reached.
    pub fn highest_peak(&self, product: ProductName, process: &str) -> Option<f64> {
        self.measurements
            .iter()
            .filter(|measurement| measurement.product == product)
            .filter_map(|measurement| measurement.peak_rss_bytes.get(process))
            .max()
            .map(|bytes| *bytes as f64)
    }

    /// What the machine can do, by name.
    pub fn limit(&self, what: &str) -> Option<f64> {
        let found = self.limits.iter().find(|limit| limit.what == what)?;
        Some(found.median)
    }

    fn of(&self, product: ProductName, step: Step) -> impl Iterator<Item = &Measurement> {
        self.measurements
            .iter()
            .filter(move |found| found.product == product && found.step == step)
    }

    fn add(&mut self, other: Self) {
        let rounds = self.measurements.iter().map(|found| found.round + 1).max();
        let first = rounds.unwrap_or_default();
        for mut measurement in other.measurements {
            measurement.round += first;
            self.measurements.push(measurement);
        }
        for mut failure in other.failures {
            failure.round += first;
            self.failures.push(failure);
        }
        if self.limits.is_empty() {
            self.limits = other.limits;
        }
    }
}

#[cfg(test)]
pub mod tests;
