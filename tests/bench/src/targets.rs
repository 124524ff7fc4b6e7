//! What Capstan set out to reach: ratios to its peers, and bounds of its own.

use crate::limits;
use crate::options::Step;
use crate::product::ProductName::{self, Bupstash, Capstan, Restic};
use crate::results::{Results, SetResults};
use crate::statistics::{Spread, ratio};

/// One row of the table of targets.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// What is measured.
    pub what: String,
    /// On which set.
    pub set: &'static str,
    /// Against what.
    pub against: String,
    /// What was reached.
    pub reached: Option<f64>,
    /// What may be reached at most.
    pub at_most: f64,
}

impl Row {
    /// `None` when it was not measured.
    pub fn met(&self) -> Option<bool> {
        self.reached.map(|reached| reached <= self.at_most)
    }
}

/// A figure of a product on a set.
#[derive(Debug, Clone, Copy)]
enum Figure {
    Wall(Step),
    Cpu(Step),
    RepositorySize,
    RepositoryGrowth,
}

impl Figure {
    fn title(self) -> String {
        match self {
            Self::Wall(step) => format!("{}, seconds", step.title()),
            Self::Cpu(step) => format!("{}, CPU seconds", step.title()),
            Self::RepositorySize => "repository after the first backup".into(),
            Self::RepositoryGrowth => "growth of the repository after 1 % changed".into(),
        }
    }

    fn of(self, set: &SetResults, product: ProductName) -> Option<Spread> {
        match self {
            Self::Wall(step) => set.wall(product, step),
            Self::Cpu(step) => set.cpu(product, step),
            Self::RepositorySize => set.repository(product, Step::Initial),
            Self::RepositoryGrowth => set.growth(product),
        }
    }
}

/// Figure, set, and the most it may be of what the peer has.
const RATIOS: [(Figure, &str, ProductName, f64); 25] = [
    (Figure::Wall(Step::Initial), "mixed", Restic, 0.45),
    (Figure::Wall(Step::Initial), "mixed", Bupstash, 0.65),
    (Figure::Wall(Step::Initial), "small", Restic, 0.40),
    (Figure::Wall(Step::Initial), "small", Bupstash, 0.80),
    (Figure::Wall(Step::NoChange), "small", Restic, 0.25),
    (Figure::Wall(Step::NoChange), "small", Bupstash, 1.0),
    (Figure::Wall(Step::NoChange), "mixed", Restic, 0.25),
    (Figure::Wall(Step::NoChange), "mixed", Bupstash, 1.0),
    (Figure::Wall(Step::Changed), "small", Restic, 0.35),
    (Figure::Wall(Step::Changed), "small", Bupstash, 0.35),
    (Figure::Wall(Step::Changed), "big", Restic, 0.6),
    (Figure::Wall(Step::Changed), "big", Bupstash, 0.7),
    (Figure::Wall(Step::Restore), "mixed", Restic, 0.65),
    (Figure::Wall(Step::Restore), "mixed", Bupstash, 0.65),
    (Figure::Wall(Step::Restore), "small", Restic, 0.65),
    (Figure::Wall(Step::Restore), "small", Bupstash, 0.65),
    (Figure::RepositorySize, "mixed", Restic, 0.95),
    (Figure::RepositorySize, "mixed", Bupstash, 1.0),
    (Figure::RepositorySize, "small", Restic, 0.95),
    (Figure::RepositorySize, "small", Bupstash, 1.0),
    (Figure::RepositoryGrowth, "mixed", Restic, 1.0),
    (Figure::RepositoryGrowth, "small", Restic, 1.0),
    (Figure::RepositoryGrowth, "big", Restic, 1.0),
    (Figure::Cpu(Step::Initial), "mixed", Restic, 0.5),
    (Figure::Cpu(Step::Initial), "mixed", Bupstash, 0.75),
];

/// The most memory each process may reach.
const MEMORY_MIB: [(&str, f64); 2] = [("target-agent", 96.0), ("coordinator", 256.0)];

/// The rows of every set that was measured.
pub fn rows(results: &Results) -> Vec<Row> {
    let mut rows: Vec<Row> = RATIOS
        .iter()
        .filter_map(|(figure, name, peer, at_most)| {
            let set = results.set(name)?;
            Some(Row {
                what: figure.title(),
                set: name,
                against: peer.text().into(),
                reached: ratio(figure.of(set, Capstan), figure.of(set, *peer)),
                at_most: *at_most,
            })
        })
        .collect();
    for name in ["mixed", "small", "big"] {
        if let Some(set) = results.set(name) {
            rows.push(growth_to_change(set, name));
            rows.extend(memory(set, name));
        }
    }
    if let Some(set) = results.set("small") {
        rows.push(walk(set));
    }
    rows
}

fn growth_to_change(set: &SetResults, name: &'static str) -> Row {
    let changed = set.facts.change.bytes_in_changed as f64;
    Row {
        what: Figure::RepositoryGrowth.title(),
        set: name,
        against: "bytes in changed files".into(),
        reached: set.growth(Capstan).map(|growth| growth.median / changed),
        at_most: 2.0,
    }
}

fn memory(set: &SetResults, name: &'static str) -> impl Iterator<Item = Row> {
    MEMORY_MIB.into_iter().map(move |(process, at_most)| Row {
        what: format!("peak memory of {process}, MiB"),
        set: name,
        against: "bound".into(),
        reached: set
            .highest_peak(Capstan, process)
            .map(|bytes| bytes / f64::from(1 << 20)),
        at_most,
    })
}

/// A backup of nothing new may cost twice what `find` takes, beside the connection.
fn walk(set: &SetResults) -> Row {
    let reached = || {
        let wall = set.wall(Capstan, Step::NoChange)?.median;
        let connecting = set.limit(limits::CONNECTING)?;
        Some((wall - connecting) / set.limit(limits::FIND)?)
    };
    Row {
        what: "no change, less the time to connect".into(),
        set: "small",
        against: limits::FIND.into(),
        reached: reached(),
        at_most: 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::Row;

    #[test]
    fn a_target_is_met_up_to_its_bound_and_unknown_without_a_measurement() {
        let row = |reached| Row {
            what: String::new(),
            set: "mixed",
            against: String::new(),
            reached,
            at_most: 0.45,
        };
        assert_eq!(row(Some(0.45)).met(), Some(true));
        assert_eq!(row(Some(0.46)).met(), Some(false));
        assert_eq!(row(None).met(), None);
    }
}
