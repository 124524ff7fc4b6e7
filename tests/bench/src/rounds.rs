//! The whole of a benchmark: set by set and round by round, products in turn, A B C and then C B A.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::ground::Ground;
use crate::interruption;
use crate::limits;
use crate::machine;
use crate::options::{Options, Step};
use crate::product::{Place, ProductName};
use crate::report;
use crate::results::{Results, SetResults, Version};
use crate::set::{Origin, Set};
use crate::turn;

/// What a reader of any report must know.
const STANDING_NOTES: [&str; 3] = [
    "Every repository and every restored tree is made in a fresh directory: on ext4, a restore soon after a large tree \
     was removed took up to 2.7 times as long.",
    "`sync` before every step; the source is read once before each turn. Repositories are on the same disk, and every \
     product makes them as durable as it does by default.",
    "The target's `/tmp` is in memory, which is where restic puts packs that are being made.",
];
/// Kept free whatever is measured.
const RESERVE_BYTES: u64 = 2 << 30;

/// Measures what the options ask for; `results` holds whatever was measured when it fails.
pub fn run(options: &Options, results: &mut Results) -> Result<()> {
    ensure!(
        !options.skip.contains(&Step::Initial),
        "nothing can be measured without a first backup"
    );
    let ground = Ground::prepare(options)?;
    let products = installed(options, &ground, results)?;
    results.notes.extend(STANDING_NOTES.map(str::to_owned));
    results.notes.extend(machine::checkout().map(|commit| {
        format!("The benchmark, and Capstan unless `--coordinator` named another, are of commit {commit}.")
    }));
    for origin in Origin::all(options) {
        let set = Set::prepare(&ground, &origin, options.scale)?;
        let at = results.sets.len();
        results.sets.push(SetResults {
            name: origin.name().into(),
            facts: set.facts.clone(),
            measurements: Vec::new(),
            failures: Vec::new(),
            limits: Vec::new(),
        });
        if !options.no_limits {
            eprintln!(
                "bench: measuring what the machine can do with {}",
                origin.name()
            );
            results.sets[at].limits = limits::measure(&ground, &set, options.scale)?;
        }
        let mut turns = Turns {
            ground: &ground,
            options,
            taken: 0,
        };
        for round in 0..options.rounds {
            for product in order(&products, round) {
                interruption::check()?;
                let place = turns.next_place(&set, products.len(), results)?;
                turn::take(
                    &place,
                    product,
                    round,
                    &set,
                    &options.skip,
                    &mut results.sets[at],
                )?;
                // A long run that ends early still leaves its measurements.
                report::keep_unfinished(&options.results, results)?;
            }
        }
        turns.remove_all()?;
    }
    Ok(())
}

/// The products to measure, and their versions; one that is asked for and not installed is an error.
fn installed(
    options: &Options,
    ground: &Ground,
    results: &mut Results,
) -> Result<Vec<ProductName>> {
    let asked = if options.products.is_empty() {
        &ProductName::ALL[..]
    } else {
        &options.products
    };
    let mut found = Vec::new();
    for product in asked {
        if let Some(version) = product.version(ground) {
            found.push(*product);
            results.products.push(Version {
                product: *product,
                version,
            });
        } else if options.products.is_empty() {
            results
                .notes
                .insert(format!("{} was not installed.", product.text()));
        } else {
            bail!("{} is not installed: run tests/bench/peers", product.text());
        }
    }
    Ok(found)
}

/// Every other round goes backwards, so that none always follows the same one.
fn order(products: &[ProductName], round: usize) -> Vec<ProductName> {
    let mut order = products.to_vec();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Hands out fresh directories for the turns of one set, and makes room when there is none left.
struct Turns<'a> {
    ground: &'a Ground,
    options: &'a Options,
    taken: usize,
}

impl<'a> Turns<'a> {
    fn next_place<'b>(
        &mut self,
        set: &'b Set,
        products: usize,
        results: &mut Results,
    ) -> Result<Place<'b>>
    where
        'a: 'b,
    {
        let allocated = set.facts.allocated_bytes;
        let products = if self.taken.is_multiple_of(products) {
            products
        } else {
            1
        };
        let short = self.ground.free_bytes()? < room_for(allocated, products);
        if short && self.taken > 0 && self.remove_all()? {
            results.notes.insert(format!(
                "The disk was too small to keep everything of a set: where a round or a turn would not have fitted, the \
                 repositories and restored trees of earlier turns were removed before it, followed by {} seconds of \
                 rest.",
                self.options.settle_secs
            ));
        }
        let (free, needed) = (self.ground.free_bytes()?, room_for(allocated, 1));
        ensure!(
            free >= needed,
            "{} MiB of disk are free, and one turn may need {} MiB",
            free >> 20,
            needed >> 20
        );
        self.taken += 1;
        let directory = self.ground.turns().join(format!("turn-{}", self.taken));
        fs::create_dir(&directory).with_context(|| format!("creating {}", directory.display()))?;
        Ok(Place {
            ground: self.ground,
            source: &set.tree,
            directory,
        })
    }

    /// Whether there was anything to remove.
    fn remove_all(&self) -> Result<bool> {
        let taken: Vec<PathBuf> = fs::read_dir(self.ground.turns())?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        for directory in &taken {
            fs::remove_dir_all(directory)
                .with_context(|| format!("removing {}", directory.display()))?;
        }
        if !taken.is_empty() {
            rustix::fs::sync();
            std::thread::sleep(Duration::from_secs(self.options.settle_secs));
        }
        Ok(!taken.is_empty())
    }
}

/// What so many turns may need at most: a repository that may be as large as the set, and what is restored from it.
fn room_for(allocated_bytes: u64, turns: usize) -> u64 {
    allocated_bytes * 2 * turns as u64 + RESERVE_BYTES
}

#[cfg(test)]
mod tests {
    use super::{RESERVE_BYTES, order, room_for};
    use crate::product::ProductName::{Borg, Capstan, Restic};

    #[test]
    fn a_round_needs_room_for_every_turn_of_it() {
        assert_eq!(room_for(100, 1), RESERVE_BYTES + 200);
        assert_eq!(room_for(100, 5), RESERVE_BYTES + 1000);
    }

    #[test]
    fn every_other_round_goes_backwards() {
        let products = [Capstan, Restic, Borg];
        assert_eq!(order(&products, 0), [Capstan, Restic, Borg]);
        assert_eq!(order(&products, 1), [Borg, Restic, Capstan]);
        assert_eq!(order(&products, 2), [Capstan, Restic, Borg]);
    }
}
