//! What becomes of a host at a time: due, waiting, tried again, or let go.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::Timestamp;

use crate::config::timing_settings::CatchUp;
use crate::schedule::outlook::{Attempted, LastOccasion, Outlook, Record, WaitsFor, outlook};
use crate::schedule::timing::Timing;

fn at(text: &str) -> Timestamp {
    format!("2026-07-{text}Z").parse().unwrap()
}

fn timing(window: &str) -> Timing {
    Timing {
        calendar: Some("0 1 * * *".parse().unwrap()),
        window: (!window.is_empty()).then(|| window.parse().unwrap()),
        retries: 2,
        ..Timing::default()
    }
}

fn look(timing: &Timing, record: &Record, now: &str) -> Outlook {
    outlook("web1", timing, record, None, at(now))
}

fn after(result: Attempted, attempts: u32, tried: &str) -> Record {
    Record {
        last: Some(LastOccasion {
            at: at("15T01:00:00"),
            attempts,
            tried: at(tried),
            result,
        }),
        ..Record::new(at("01T00:00:00"))
    }
}

fn due(occasion: &str, since: &str) -> Outlook {
    Outlook::Due {
        occasion: at(occasion),
        since: at(since),
    }
}

fn waits(until: &str, what: WaitsFor) -> Outlook {
    Outlook::Waits {
        until: at(until),
        what,
    }
}

#[test]
fn a_new_host_waits_for_its_first_occasion() {
    let record = Record::new(at("15T12:00:00"));
    let next = WaitsFor::Occasion(at("16T01:00:00"));
    assert_eq!(
        look(&timing(""), &record, "15T12:00:00"),
        waits("16T01:00:00", next)
    );
    assert_eq!(
        look(&timing(""), &record, "16T01:00:00"),
        due("16T01:00:00", "16T01:00:00")
    );
    assert_eq!(
        look(&Timing::default(), &record, "16T01:00:00"),
        Outlook::Idle
    );
}

#[test]
fn of_many_that_were_missed_the_newest_is_caught_up_once_or_none_at_all() {
    let record = after(Attempted::Done, 1, "15T01:10:00");
    assert_eq!(
        look(&timing(""), &record, "19T09:00:00"),
        due("19T01:00:00", "19T01:00:00")
    );
    let no = Timing {
        catch_up: CatchUp::No,
        ..timing("")
    };
    let missed = Outlook::Missed {
        occasion: at("19T01:00:00"),
    };
    assert_eq!(look(&no, &record, "19T09:00:00"), missed);
    assert_eq!(
        look(&no, &record, "19T01:01:00"),
        due("19T01:00:00", "19T01:00:00")
    );
    // One that was seen in time and waited for its turn since was not missed.
    let seen = Some(at("19T01:00:01"));
    assert_eq!(
        outlook("web1", &no, &record, seen, at("19T09:00:00")),
        due("19T01:00:00", "19T01:00:00")
    );
}

#[test]
fn what_was_missed_waits_for_the_window() {
    let record = after(Attempted::Done, 1, "15T01:10:00");
    let timing = timing("00:30-05:30");
    assert_eq!(
        look(&timing, &record, "19T09:00:00"),
        waits("20T00:30:00", WaitsFor::Window)
    );
    assert_eq!(
        look(&timing, &record, "20T00:30:00"),
        due("19T01:00:00", "19T01:00:00")
    );
    let no = Timing {
        catch_up: CatchUp::No,
        ..timing
    };
    let missed = Outlook::Missed {
        occasion: at("19T01:00:00"),
    };
    assert_eq!(look(&no, &record, "19T05:30:00"), missed);
}

#[test]
fn a_failed_run_is_tried_again_after_a_while_as_often_as_is_said() {
    let next = WaitsFor::Occasion(at("16T01:00:00"));
    let failed = |attempts, tried| after(Attempted::Failed, attempts, tried);
    assert_eq!(
        look(&timing(""), &failed(1, "15T01:10:00"), "15T01:20:00"),
        waits("15T01:25:00", WaitsFor::Retry)
    );
    assert_eq!(
        look(&timing(""), &failed(1, "15T01:10:00"), "15T01:25:00"),
        due("15T01:00:00", "15T01:25:00")
    );
    assert_eq!(
        look(&timing(""), &failed(2, "15T01:30:00"), "15T01:50:00"),
        waits("15T02:00:00", WaitsFor::Retry)
    );
    assert_eq!(
        look(&timing(""), &failed(3, "15T02:10:00"), "15T09:00:00"),
        waits("16T01:00:00", next)
    );
    // Not when the next one would come first, and not outside the window.
    assert_eq!(
        look(&timing(""), &failed(1, "16T00:50:00"), "16T00:55:00"),
        waits("16T01:00:00", next)
    );
    assert_eq!(
        look(
            &timing("00:30-05:30"),
            &failed(1, "15T05:20:00"),
            "15T05:25:00"
        ),
        waits("16T01:00:00", next)
    );
    assert_eq!(
        look(
            &timing("00:30-05:30"),
            &failed(1, "15T05:00:00"),
            "15T05:40:00"
        ),
        waits("16T01:00:00", next)
    );
}

#[test]
fn what_a_person_stopped_or_what_is_done_is_not_tried_again() {
    let next = WaitsFor::Occasion(at("16T01:00:00"));
    for result in [Attempted::Done, Attempted::Running] {
        let record = after(result, 1, "15T01:10:00");
        assert_eq!(
            look(&timing(""), &record, "15T09:00:00"),
            waits("16T01:00:00", next)
        );
    }
    // What was put off is tried again soon, and as often as needed.
    let record = after(Attempted::PutOff, 0, "15T01:10:00");
    assert_eq!(
        look(&timing(""), &record, "15T01:10:00"),
        waits("15T01:10:15", WaitsFor::Retry)
    );
}

#[test]
fn occasions_before_a_schedule_was_there_do_not_count() {
    let record = Record {
        since: at("15T02:00:00"),
        ..after(Attempted::Failed, 1, "15T01:10:00")
    };
    let next = WaitsFor::Occasion(at("16T01:00:00"));
    assert_eq!(
        look(&timing(""), &record, "15T02:00:01"),
        waits("16T01:00:00", next)
    );
}
