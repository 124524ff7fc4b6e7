#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use formats::ids::{PackId, RepositoryId};
use formats::object::ObjectName;

use super::ledger::Ledger;
use crate::age_clock::Reading;
use crate::destination::DestinationName;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const DAY: u64 = 86_400;

fn pack(number: u8) -> (ObjectName, u64) {
    (ObjectName::Pack(PackId([number; 32])), 100)
}

fn reading(since_boot_secs: u64, unix_secs: u64) -> Reading {
    Reading {
        boot: "one".to_owned(),
        since_boot_secs,
        unix_secs,
    }
}

fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("removals.sqlite")).unwrap();
    (dir, ledger)
}

#[test]
fn setting_the_clock_makes_nothing_older() {
    let (_dir, ledger) = ledger();
    assert_eq!(ledger.advance(&reading(1_000, 50 * DAY)).unwrap(), 0);
    let age = ledger.advance(&reading(1_000 + DAY, 51 * DAY)).unwrap();
    assert_eq!(age, DAY);
    // Ten years ahead, and back again.
    let age = ledger.advance(&reading(1_060 + DAY, 3_700 * DAY)).unwrap();
    assert_eq!(age, DAY + 60);
    let age = ledger.advance(&reading(1_120 + DAY, 51 * DAY)).unwrap();
    assert_eq!(age, DAY + 60);
}

#[test]
fn a_pack_is_as_old_as_its_first_mention_until_it_is_spared() {
    let (_dir, ledger) = ledger();
    ledger.condemn(REPOSITORY, &[pack(1)], 5, 10).unwrap();
    ledger.condemn(REPOSITORY, &[pack(1)], 6, 500).unwrap();
    let noted = ledger.condemned(REPOSITORY, &pack(1).0).unwrap().unwrap();
    assert_eq!((noted.age_secs, noted.swept), (10, false));
    assert_eq!(ledger.spare(REPOSITORY, &[pack(1)]).unwrap(), None);
    ledger.condemn(REPOSITORY, &[pack(1)], 7, 900).unwrap();
    let noted = ledger.condemned(REPOSITORY, &pack(1).0).unwrap().unwrap();
    assert_eq!(noted.age_secs, 900);
}

#[test]
fn what_is_swept_is_due_where_it_must_go_and_never_spared() {
    let (_dir, ledger) = ledger();
    let [near, far]: [DestinationName; 2] = ["near", "far"].map(|name| name.parse().unwrap());
    ledger
        .condemn(REPOSITORY, &[pack(1), pack(2)], 5, 0)
        .unwrap();
    let places = [(near.clone(), 100), (far.clone(), 100 + 30 * DAY)];
    ledger.sweep(REPOSITORY, &pack(1).0, &places, 100).unwrap();
    ledger.sweep(REPOSITORY, &pack(1).0, &places, 100).unwrap();
    assert_eq!(ledger.spent(100).unwrap(), 100, "it counts once");
    let both = [pack(2), pack(1)];
    assert_eq!(ledger.spare(REPOSITORY, &both).unwrap(), Some(pack(1).0));
    let spared = ledger.condemned(REPOSITORY, &pack(2).0).unwrap();
    assert!(spared.is_some(), "all or none");

    let due = |place: &DestinationName, age| {
        let due = ledger.due(place, REPOSITORY, age, 10).unwrap();
        due.len()
    };
    assert_eq!((due(&near, 100), due(&far, 100)), (1, 0));
    assert_eq!(due(&far, 100 + 30 * DAY), 1);
    ledger
        .postpone(&near, REPOSITORY, &pack(1).0, 100 + DAY, "locked")
        .unwrap();
    assert_eq!((due(&near, 100), due(&near, 100 + DAY)), (0, 1));
    let waiting = ledger.waiting(REPOSITORY).unwrap();
    let problems: Vec<_> = waiting.iter().map(|one| one.problem.as_deref()).collect();
    assert_eq!(problems, [None, Some("locked")]);
    for place in [&near, &far] {
        ledger.removed(place, REPOSITORY, &pack(1).0).unwrap();
    }
    assert!(ledger.waiting(REPOSITORY).unwrap().is_empty());
    assert!(ledger.swept(REPOSITORY).unwrap().contains(&pack(1).0));
    assert_eq!(ledger.spent(101 + DAY).unwrap(), 0);
}

#[test]
fn what_is_condemned_at_one_destination_is_another_matter_than_everywhere() {
    let (dir, ledger) = ledger();
    let [near, far]: [DestinationName; 2] = ["near", "far"].map(|name| name.parse().unwrap());
    let packs = [pack(1), pack(2)];
    ledger.condemn_at(&near, REPOSITORY, &packs, 5, 0).unwrap();
    ledger.condemn_at(&near, REPOSITORY, &packs, 6, 90).unwrap();
    let noted = |place: &DestinationName, number| {
        let noted = ledger.condemned_at(place, REPOSITORY, &pack(number).0);
        noted.unwrap().map(|noted| (noted.age_secs, noted.swept))
    };
    assert_eq!((noted(&near, 1), noted(&far, 1)), (Some((0, false)), None));
    assert!(ledger.condemned(REPOSITORY, &pack(1).0).unwrap().is_none());
    for _ in 0..2 {
        ledger
            .sweep_at(&near, REPOSITORY, &pack(1).0, (150, 100))
            .unwrap();
    }
    assert_eq!(ledger.spent(100).unwrap(), 100, "it counts once");
    let due = |place: &DestinationName, age| {
        let due = ledger.due(place, REPOSITORY, age, 10).unwrap();
        due.len()
    };
    assert_eq!(
        (due(&near, 149), due(&near, 150), due(&far, 150)),
        (0, 1, 0)
    );
    let spared = ledger.spare_at(&near, REPOSITORY, &packs).unwrap();
    assert_eq!(spared, Some(pack(1).0), "all or none");
    assert_eq!(noted(&near, 2), Some((0, false)));
    let spared = ledger.spare_at(&near, REPOSITORY, &packs[1..]).unwrap();
    assert_eq!((spared, noted(&near, 2)), (None, None));
    let thinned = ledger.thinned_where(REPOSITORY, &pack(1).0).unwrap();
    assert_eq!(thinned.into_iter().collect::<Vec<_>>(), ["near"]);
    let there = ledger.thinned_at(&near, REPOSITORY).unwrap();
    assert!(there.contains(&pack(1).0) && there.len() == 1);
    assert!(ledger.thinned_at(&far, REPOSITORY).unwrap().is_empty());

    // One that was made before destinations were told apart.
    let path = dir.path().join("before.sqlite");
    drop(Ledger::open(&path).unwrap());
    let before = rusqlite::Connection::open(&path).unwrap();
    before
        .execute_batch("DROP TABLE thinned; PRAGMA user_version = 1;")
        .unwrap();
    drop(before);
    let again = Ledger::open(&path).unwrap();
    again.condemn_at(&near, REPOSITORY, &packs, 5, 0).unwrap();
}

#[test]
fn the_ledger_outlives_its_process() {
    let (dir, ledger) = ledger();
    ledger.advance(&reading(0, 0)).unwrap();
    let hour = Duration::from_secs(3_600).as_secs();
    ledger.advance(&reading(hour, hour)).unwrap();
    ledger.condemn(REPOSITORY, &[pack(1)], 5, hour).unwrap();
    drop(ledger);
    let again = Ledger::open(&dir.path().join("removals.sqlite")).unwrap();
    let noted = again.condemned(REPOSITORY, &pack(1).0).unwrap().unwrap();
    assert_eq!(noted.age_secs, hour);
    assert_eq!(again.advance(&reading(hour, hour)).unwrap(), hour);
}
