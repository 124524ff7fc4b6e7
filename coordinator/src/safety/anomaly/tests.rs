//! What is suspicious, and what ordinary hosts do every night and is not.

use super::{AnomalyLimits, Compared, Figures, Passed, Sign, signs};
use crate::safety::stream_size::StreamSize;

const MIB: u64 = 1 << 20;

/// A host of 1,000 files and 1 GiB on an ordinary night.
fn usual() -> Figures {
    Figures {
        files: 1_000,
        bytes: 1_024 * MIB,
        bytes_with_holes: Some(1_024 * MIB),
        new_bytes: 10 * MIB,
        incompressible: MIB,
        compared: Compared {
            before: 1_000,
            changed: 20,
            same_inode: 990,
            ..Compared::default()
        },
        new_ending: None,
        streams: Vec::new(),
        rules: [1; 32],
    }
}

const NIGHT: Passed = after(1);

/// Nobody has accepted anything.
const fn after(periods: u64) -> Passed {
    Passed {
        periods,
        accepted_runs: usize::MAX,
    }
}

fn judged(now: &Figures) -> Vec<Sign> {
    signs(now, &vec![usual(); 5], &AnomalyLimits::default(), NIGHT)
}

#[test]
fn an_ordinary_night_is_not_suspicious() {
    assert_eq!(judged(&usual()), []);
    let nothing = Figures {
        new_bytes: 0,
        incompressible: 0,
        ..usual()
    };
    assert_eq!(judged(&nothing), []);
}

#[test]
fn encrypting_in_place_is() {
    let now = Figures {
        new_bytes: 1_000 * MIB,
        incompressible: 1_000 * MIB,
        compared: Compared {
            changed: 950,
            ..usual().compared
        },
        ..usual()
    };
    let found = judged(&now);
    assert!(
        matches!(found[0], Sign::Changed { changed: 950, .. }),
        "{found:?}"
    );
    assert!(matches!(found[1], Sign::New { .. }), "{found:?}");
    assert!(matches!(
        found[2],
        Sign::Incompressible {
            percent: 100,
            usual: 10,
            ..
        }
    ));
    let text = found[0].to_string();
    assert_eq!(
        text,
        "950 of 1,000 files changed (95 %, usually 2 %), and 97 % of all bytes are new"
    );
}

#[test]
fn encrypting_under_other_names_is() {
    let now = Figures {
        new_bytes: 1_000 * MIB,
        incompressible: 1_000 * MIB,
        compared: Compared {
            before: 1_000,
            gone: 900,
            moved: 900,
            added: 900,
            added_bytes: 920 * MIB,
            ..Compared::default()
        },
        new_ending: Some(("locked".to_owned(), 900)),
        ..usual()
    };
    let found = judged(&now);
    assert!(
        found
            .iter()
            .any(|sign| matches!(sign, Sign::Gone { gone: 900, .. }))
    );
    assert!(
        found
            .iter()
            .any(|sign| matches!(sign, Sign::Ending { files: 900, .. }))
    );
}

#[test]
fn a_disk_image_encrypted_from_within_is() {
    let image = Figures {
        files: 1,
        bytes: 1_024 * MIB,
        compared: Compared {
            before: 1,
            changed: 1,
            ..Compared::default()
        },
        ..usual()
    };
    let now = Figures {
        new_bytes: 700 * MIB,
        incompressible: 690 * MIB,
        ..image.clone()
    };
    let found = signs(&now, &vec![image; 4], &AnomalyLimits::default(), NIGHT);
    assert!(
        found.iter().any(|sign| matches!(sign, Sign::New { .. })),
        "{found:?}"
    );
}

#[test]
fn emptying_is() {
    let none = Figures {
        files: 0,
        bytes: 0,
        new_bytes: 0,
        ..usual()
    };
    assert_eq!(judged(&none), [Sign::NoFiles { before: 1_000 }]);
    let few = Figures {
        files: 300,
        bytes: 100 * MIB,
        compared: Compared {
            before: 1_000,
            gone: 700,
            ..Compared::default()
        },
        ..usual()
    };
    assert_eq!(judged(&few).len(), 3);
}

#[test]
fn what_a_person_did_on_purpose_is_not() {
    let fewer_paths = Figures {
        files: 300,
        bytes: 100 * MIB,
        rules: [2; 32],
        compared: Compared {
            before: 1_000,
            gone: 700,
            ..Compared::default()
        },
        ..usual()
    };
    assert_eq!(judged(&fewer_paths), []);
    let many_photos = Figures {
        files: 5_000,
        bytes: 9_000 * MIB,
        new_bytes: 8_000 * MIB,
        incompressible: 8_000 * MIB,
        compared: Compared {
            added: 4_000,
            added_bytes: 7_976 * MIB,
            ..usual().compared
        },
        ..usual()
    };
    assert_eq!(judged(&many_photos), []);
    let touched = Figures {
        compared: Compared {
            changed: 1_000,
            ..usual().compared
        },
        ..usual()
    };
    assert_eq!(judged(&touched), []);
}

#[test]
fn dumps_that_are_new_every_night_are_not() {
    let dumps = Figures {
        files: 200,
        new_bytes: 900 * MIB,
        incompressible: 900 * MIB,
        compared: Compared {
            before: 200,
            changed: 200,
            ..Compared::default()
        },
        ..usual()
    };
    let past = vec![dumps.clone(); 4];
    assert_eq!(signs(&dumps, &past, &AnomalyLimits::default(), NIGHT), []);
}

#[test]
fn nothing_is_judged_without_a_history_or_below_the_floors() {
    let emptied = Figures {
        files: 0,
        bytes: 0,
        ..usual()
    };
    let limits = AnomalyLimits::default();
    assert_eq!(signs(&emptied, &[], &limits, NIGHT), []);
    assert_eq!(signs(&emptied, &vec![usual(); 2], &limits, NIGHT), []);
    assert_eq!(signs(&emptied, &vec![usual(); 3], &limits, NIGHT).len(), 1);
    let small = Figures {
        files: 9,
        bytes: MIB,
        ..usual()
    };
    assert_eq!(signs(&emptied, &vec![small; 3], &limits, NIGHT), []);
}

#[test]
fn a_stream_that_collapses_is_and_one_that_does_not_is_not() {
    let stream = |name: &str, size| StreamSize::measure(name.to_owned(), size, Some(1_000), 50);
    let now = Figures {
        streams: vec![stream("good", 900), stream("bad", 499)],
        ..usual()
    };
    let found = judged(&now);
    assert_eq!(found.len(), 1, "{found:?}");
    let text = found[0].to_string();
    assert!(text.starts_with("stream bad has 499"), "{text}");
    assert_eq!(signs(&now, &[], &AnomalyLimits::default(), NIGHT), []);
}

/// A host that rewrites a tenth of itself each night, after some nights without a backup.
fn rewritten(percent: u64, periods: u64) -> Vec<Sign> {
    let lively = Figures {
        new_bytes: 102 * MIB,
        incompressible: 10 * MIB,
        compared: Compared {
            changed: 100,
            ..usual().compared
        },
        ..usual()
    };
    let now = Figures {
        new_bytes: 1_024 * MIB * percent / 100,
        incompressible: 102 * MIB * percent / 100,
        compared: Compared {
            changed: 10 * percent,
            ..usual().compared
        },
        ..usual()
    };
    signs(
        &now,
        &vec![lively; 5],
        &AnomalyLimits::default(),
        after(periods),
    )
}

#[test]
fn what_a_host_does_in_weeks_is_suspicious_in_a_night_and_not_after_weeks() {
    assert_eq!(rewritten(10, 1), []);
    assert_eq!(rewritten(85, 1).len(), 2);
    assert_eq!(rewritten(85, 21), []);
    // Nearly everything is a person's to look at, however long it was.
    assert_eq!(rewritten(95, 21).len(), 2);
    assert_eq!(rewritten(95, u64::MAX).len(), 2);
}

#[test]
fn waiting_silences_nothing_that_encrypting_and_emptying_are_known_by() {
    let encrypted = Figures {
        new_bytes: 400 * MIB,
        incompressible: 400 * MIB,
        new_ending: Some(("locked".to_owned(), 390)),
        compared: Compared {
            before: 1_000,
            gone: 390,
            added: 390,
            ..Compared::default()
        },
        ..usual()
    };
    let found = signs(
        &encrypted,
        &vec![usual(); 5],
        &AnomalyLimits::default(),
        after(u64::MAX),
    );
    assert!(
        found
            .iter()
            .any(|sign| matches!(sign, Sign::Incompressible { .. })),
        "{found:?}"
    );
    assert!(
        found.iter().any(|sign| matches!(sign, Sign::Ending { .. })),
        "{found:?}"
    );
    let none = Figures {
        files: 0,
        bytes: 0,
        ..usual()
    };
    let found = signs(
        &none,
        &vec![usual(); 5],
        &AnomalyLimits::default(),
        after(u64::MAX),
    );
    assert_eq!(found, [Sign::NoFiles { before: 1_000 }]);
}

#[test]
fn files_that_come_and_go_each_night_are_gone_after_weeks() {
    let rotating = |gone: u64| Figures {
        compared: Compared {
            before: 1_000,
            gone,
            added: gone,
            ..Compared::default()
        },
        ..usual()
    };
    let judged = |gone, periods| {
        let past = vec![rotating(50); 5];
        signs(
            &rotating(gone),
            &past,
            &AnomalyLimits::default(),
            after(periods),
        )
        .len()
    };
    assert_eq!((judged(60, 1), judged(640, 1)), (0, 1));
    assert_eq!((judged(640, 20), judged(950, 20)), (0, 1));
}

/// A host with a big sparse file, by the version that counted holes.
fn counted_with_holes() -> Figures {
    Figures {
        bytes: 1 << 40,
        bytes_with_holes: None,
        ..usual()
    }
}

fn judged_after(last: Figures, now: &Figures) -> Vec<Sign> {
    let mut past = vec![last];
    past.extend(vec![counted_with_holes(); 5]);
    signs(now, &past, &AnomalyLimits::default(), NIGHT)
}

#[test]
fn with_runs_of_a_version_that_counted_holes_runs_are_compared_with_holes() {
    let now = |bytes_with_holes| Figures {
        bytes_with_holes: Some(bytes_with_holes),
        ..usual()
    };
    assert_eq!(judged_after(counted_with_holes(), &now(1 << 40)), []);
    let emptied = Figures {
        bytes: 0,
        ..now(1 << 20)
    };
    let found = judged_after(counted_with_holes(), &emptied);
    let fewer = Sign::FewerBytes {
        left: 1 << 20,
        before: 1 << 40,
    };
    assert_eq!(found, [fewer]);
    // Files that are all holes now are no loss by the old counting, and are one by the new.
    let hollow = Figures {
        bytes: MIB,
        ..now(1 << 40)
    };
    assert_eq!(judged_after(counted_with_holes(), &hollow), []);
    let found = judged_after(now(1 << 40), &hollow);
    assert!(matches!(found[..], [Sign::FewerBytes { .. }]), "{found:?}");
}

#[test]
fn with_runs_of_a_version_that_counted_holes_new_data_is_a_share_of_bytes_with_holes() {
    let lively = Figures {
        new_bytes: 700 * MIB,
        incompressible: 70 * MIB,
        bytes_with_holes: Some(1 << 40),
        ..usual()
    };
    let old = Figures {
        new_bytes: 700 * MIB,
        incompressible: 70 * MIB,
        ..counted_with_holes()
    };
    let limits = AnomalyLimits::default();
    assert_eq!(signs(&lively, &vec![old.clone(); 5], &limits, NIGHT), []);
    let past = [vec![lively.clone()], vec![old; 5]].concat();
    assert_eq!(signs(&lively, &past, &limits, NIGHT), []);
    // Once they are gone, what is new is a share of the data.
    let found = signs(&lively, &vec![usual(); 5], &limits, NIGHT);
    assert!(matches!(found[..], [Sign::New { .. }]), "{found:?}");
}

/// A host that was encrypted in place, with so many bytes of what was stored before repeated in another file.
fn encrypted_and_padded(padding: u64) -> Figures {
    Figures {
        bytes: 1_024 * MIB + padding,
        bytes_with_holes: Some(1_024 * MIB + padding),
        new_bytes: 1_000 * MIB,
        incompressible: 1_000 * MIB,
        compared: Compared {
            changed: 950,
            added: 1,
            grown_bytes: Some(0),
            ..usual().compared
        },
        ..usual()
    }
}

#[test]
fn nothing_that_was_stored_before_explains_new_data() {
    for padding in [0, 1_024 * MIB, 1 << 50] {
        let found = judged(&encrypted_and_padded(padding));
        assert!(
            matches!(
                found[..],
                [
                    Sign::Changed { .. },
                    Sign::New { .. },
                    Sign::Incompressible { .. }
                ]
            ),
            "{padding}: {found:?}"
        );
    }
}

#[test]
fn files_that_grow_by_new_data_are_not_suspicious() {
    let grown = |by_new| Figures {
        bytes: 9_000 * MIB,
        bytes_with_holes: Some(9_000 * MIB),
        new_bytes: 8_000 * MIB,
        incompressible: 8_000 * MIB,
        compared: Compared {
            grown_bytes: Some(by_new),
            ..usual().compared
        },
        ..usual()
    };
    assert_eq!(judged(&grown(7_976 * MIB)), []);
    assert_eq!(judged(&grown(0)).len(), 2);
    // Growth counts for no more than all files have grown together.
    let rewritten = Figures {
        bytes: 1_024 * MIB,
        ..grown(7_976 * MIB)
    };
    assert_eq!(judged(&rewritten).len(), 2);
}

/// What was there is encrypted in place, the night after four times as much was added.
fn encrypted_after_padding(accepted_runs: usize) -> Vec<Sign> {
    let padding = 4 * 1_024 * MIB;
    let padded = Figures {
        files: 5_000,
        bytes: 1_024 * MIB + padding,
        bytes_with_holes: Some(1_024 * MIB + padding),
        new_bytes: padding,
        incompressible: padding,
        compared: Compared {
            added: 4_000,
            added_bytes: padding,
            ..usual().compared
        },
        ..usual()
    };
    let mut past = vec![usual(); 5];
    assert_eq!(signs(&padded, &past, &AnomalyLimits::default(), NIGHT), []);
    past.insert(0, padded.clone());
    let now = Figures {
        new_bytes: 980 * MIB,
        incompressible: 980 * MIB,
        compared: Compared {
            before: 5_000,
            changed: 950,
            same_inode: 4_990,
            grown_bytes: Some(0),
            ..Compared::default()
        },
        ..padded
    };
    let passed = Passed {
        accepted_runs,
        ..NIGHT
    };
    signs(&now, &past, &AnomalyLimits::default(), passed)
}

#[test]
fn what_was_added_the_night_before_hides_nothing_unless_a_person_has_accepted_it() {
    let found = encrypted_after_padding(usize::MAX);
    assert!(
        matches!(
            found[..],
            [
                Sign::ChangedOfLasting {
                    changed: 950,
                    files: 1_000,
                    new: 95
                },
                Sign::Incompressible { .. }
            ]
        ),
        "{found:?}"
    );
    assert_eq!(
        found[0].to_string(),
        "950 files changed, where all that have been there for some runs are 1,000 (95 %), and what is new is 95 % of their bytes"
    );
    assert_eq!(encrypted_after_padding(1), []);
}

#[test]
fn data_that_came_lately_may_change_as_it_is_used() {
    // A database, loaded last night onto a host that had little, and written to.
    let loaded = Figures {
        files: 1_010,
        bytes: 9 * 1_024 * MIB,
        bytes_with_holes: Some(9 * 1_024 * MIB),
        ..usual()
    };
    let mut past = vec![usual(); 5];
    past.insert(0, loaded.clone());
    let used = Figures {
        new_bytes: 900 * MIB,
        incompressible: 300 * MIB,
        ..loaded
    };
    assert_eq!(signs(&used, &past, &AnomalyLimits::default(), NIGHT), []);
}

#[test]
fn runs_that_were_asked_for_something_else_say_nothing_of_what_lasts() {
    let less_was_asked_for = Figures {
        files: 10,
        bytes: MIB,
        bytes_with_holes: Some(MIB),
        rules: [2; 32],
        ..usual()
    };
    let past = [vec![usual(); 2], vec![less_was_asked_for; 3]].concat();
    let lively = Figures {
        new_bytes: 100 * MIB,
        incompressible: 95 * MIB,
        compared: Compared {
            changed: 110,
            ..usual().compared
        },
        ..usual()
    };
    assert_eq!(signs(&lively, &past, &AnomalyLimits::default(), NIGHT), []);
}
