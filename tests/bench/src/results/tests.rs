//! Figures come from the right measurements, and merged runs count their rounds on.

use super::{Measurement, SetResults};
use crate::options::Step;
use crate::proc_files::Peaks;
use crate::product::ProductName;
use crate::set::{ChangeFacts, Facts};

fn measurement(round: usize, step: Step, repository_bytes: u64) -> Measurement {
    measurement_of(ProductName::Capstan, round, step, repository_bytes)
}

/// One measurement of a product.
pub fn measurement_of(
    product: ProductName,
    round: usize,
    step: Step,
    repository_bytes: u64,
) -> Measurement {
    Measurement {
        product,
        round,
        step,
        wall_secs: 1.0 + round as f64,
        cpu_secs: 2.0,
        peak_rss_bytes: Peaks::from([("coordinator".to_owned(), 10 * (round as u64 + 1))]),
        repository_bytes: Some(repository_bytes),
    }
}

/// A set with these measurements and nothing else.
pub fn set_of(measurements: Vec<Measurement>) -> SetResults {
    SetResults {
        name: "mixed".into(),
        facts: Facts {
            entries: 3,
            bytes: 1000,
            allocated_bytes: 4096,
            change: ChangeFacts {
                changed: 1,
                of: 2,
                bytes_in_changed: 100,
            },
        },
        measurements,
        failures: Vec::new(),
        limits: Vec::new(),
    }
}

#[test]
fn growth_is_taken_within_each_round() {
    let set = set_of(vec![
        measurement(0, Step::Initial, 100),
        measurement(0, Step::NoChange, 110),
        measurement(0, Step::Changed, 150),
        measurement(1, Step::Initial, 200),
        measurement(1, Step::Changed, 260),
    ]);
    let growth = set.growth(ProductName::Capstan);
    assert_eq!(
        growth.map(|spread| (spread.min, spread.max)),
        Some((40.0, 60.0))
    );
    assert_eq!(set.growth(ProductName::Restic), None);
}

#[test]
fn merged_runs_count_their_rounds_on() {
    let mut set = set_of(vec![measurement(0, Step::Initial, 1)]);
    set.add(set_of(vec![
        measurement(0, Step::Initial, 1),
        measurement(1, Step::Initial, 1),
    ]));
    let rounds: Vec<_> = set.measurements.iter().map(|found| found.round).collect();
    assert_eq!(rounds, [0, 1, 2]);
    let peak = set.highest_peak(ProductName::Capstan, "coordinator");
    assert_eq!(peak, Some(20.0));
}
