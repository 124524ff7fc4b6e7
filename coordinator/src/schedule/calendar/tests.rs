//! Both ways to write a calendar mean what cron and systemd make of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::civil::DateTime;

use crate::schedule::calendar::{Calendar, TEXT_BYTES_MAX};
use crate::schedule::error::ScheduleError;

fn calendar(text: &str) -> Calendar {
    text.parse()
        .unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

/// The first times after a Wednesday afternoon.
fn next(text: &str, count: usize) -> Vec<String> {
    let calendar = calendar(text);
    let mut at: DateTime = "2026-07-15T14:20:30".parse().unwrap();
    let mut found = Vec::new();
    for _ in 0..count {
        at = calendar.next_after(at).unwrap();
        found.push(at.strftime("%a %Y-%m-%d %H:%M:%S").to_string());
    }
    found
}

#[test]
fn crons_fields_are_read_as_cron_reads_them() {
    assert_eq!(
        next("0 1 * * *", 2),
        ["Thu 2026-07-16 01:00:00", "Fri 2026-07-17 01:00:00"]
    );
    assert_eq!(
        next("*/20 14,22 * * *", 4),
        [
            "Wed 2026-07-15 14:40:00",
            "Wed 2026-07-15 22:00:00",
            "Wed 2026-07-15 22:20:00",
            "Wed 2026-07-15 22:40:00"
        ]
    );
    assert_eq!(
        next("30 2 * * mon-fri", 3),
        [
            "Thu 2026-07-16 02:30:00",
            "Fri 2026-07-17 02:30:00",
            "Mon 2026-07-20 02:30:00"
        ]
    );
    for sunday in ["0", "7", "sun", "Sunday", "6-7/7,7"] {
        let found = next(&format!("5 4 * * {sunday}"), 3);
        assert!(
            found.contains(&"Sun 2026-07-19 04:05:00".to_owned()),
            "{sunday}"
        );
    }
    assert_eq!(next("0 0 29 2 *", 1), ["Tue 2028-02-29 00:00:00"]);
    assert_eq!(
        next("10-30/10 23 1 jan,Dec *", 2)[1],
        "Tue 2026-12-01 23:20:00"
    );
    // From a number on, in steps to the end.
    assert_eq!(next("50/5 14 * * *", 2)[1], "Wed 2026-07-15 14:55:00");
}

#[test]
fn cron_takes_either_day_when_both_are_restricted_and_both_when_one_is_a_star() {
    assert_eq!(
        next("0 0 20 * fri", 3),
        [
            "Fri 2026-07-17 00:00:00",
            "Mon 2026-07-20 00:00:00",
            "Fri 2026-07-24 00:00:00"
        ]
    );
    // A step of a star is a star: every other day, if it is a Friday.
    assert_eq!(
        next("0 0 */2 * fri", 2),
        ["Fri 2026-07-17 00:00:00", "Fri 2026-07-31 00:00:00"]
    );
    assert_eq!(next("0 0 20 * *", 1), ["Mon 2026-07-20 00:00:00"]);
}

#[test]
fn crons_words_are_the_fields_they_stand_for() {
    for (word, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ] {
        assert_eq!(next(word, 5), next(fields, 5), "{word}");
    }
}

#[test]
fn systemds_calendars_are_read_as_systemd_reads_them() {
    assert_eq!(next("daily", 1), ["Thu 2026-07-16 00:00:00"]);
    assert_eq!(next("weekly", 1), ["Mon 2026-07-20 00:00:00"]);
    assert_eq!(next("monthly", 1), ["Sat 2026-08-01 00:00:00"]);
    assert_eq!(next("quarterly", 1), ["Thu 2026-10-01 00:00:00"]);
    assert_eq!(next("yearly", 1), ["Fri 2027-01-01 00:00:00"]);
    assert_eq!(next("hourly", 1), ["Wed 2026-07-15 15:00:00"]);
    assert_eq!(next("minutely", 1), ["Wed 2026-07-15 14:21:00"]);
    assert_eq!(next("02:00", 1), ["Thu 2026-07-16 02:00:00"]);
    assert_eq!(
        next("Mon..Fri *-*-* 02:00", 3),
        [
            "Thu 2026-07-16 02:00:00",
            "Fri 2026-07-17 02:00:00",
            "Mon 2026-07-20 02:00:00"
        ]
    );
    assert_eq!(next("Sat,Sun 03:30", 2)[1], "Sun 2026-07-19 03:30:00");
    assert_eq!(next("*-*-* 01:00:00", 1), ["Thu 2026-07-16 01:00:00"]);
    assert_eq!(next("2027-*-1/10 12:00", 2)[1], "Mon 2027-01-11 12:00:00");
    assert_eq!(next("12-24", 1), ["Thu 2026-12-24 00:00:00"]);
    assert_eq!(next("*-02~01", 2)[1], "Tue 2028-02-29 00:00:00");
    assert_eq!(next("*:0/5", 1), ["Wed 2026-07-15 14:25:00"]);
    assert_eq!(
        next("*-*-* *:*:0/10", 2),
        ["Wed 2026-07-15 14:20:40", "Wed 2026-07-15 14:20:50"]
    );
    assert_eq!(next("2028..2040/4-02-29", 2)[1], "Sun 2032-02-29 00:00:00");
    assert_eq!(next("Mon", 1), ["Mon 2026-07-20 00:00:00"]);
}

#[test]
fn what_is_no_calendar_is_refused_and_says_what_is_wrong() {
    for text in [
        "",
        " ",
        "often",
        "every day",
        "0 1 * *",
        "0 1 * * * *",
        "@never",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "1,, * * * *",
        "-1 * * * *",
        "+1 * * * *",
        "1.5 * * * *",
        "* * * foo *",
        "25:00",
        "12:60",
        "1:2:3:4",
        "2026-13-01",
        "26-01-01",
        "Mo *-*-* 02:00",
        "1 02:00",
        "*-*-* 02:00 02:00",
        "Mon..Fri Tue 02:00",
    ] {
        assert!(text.parse::<Calendar>().is_err(), "{text:?}");
    }
    let error = |text: &str| text.parse::<Calendar>().unwrap_err();
    assert_eq!(error("@reboot"), ScheduleError::Reboot);
    assert!(matches!(error("0 0 30 2 *"), ScheduleError::Never { .. }));
    assert!(matches!(error("1999-01-01"), ScheduleError::Never { .. }));
    assert!(matches!(
        error("*-*-* 02:00 Europe/Zurich"),
        ScheduleError::Zone { .. }
    ));
    assert!(
        error("61 * * * *")
            .to_string()
            .contains("\"61\" is no minute: write numbers from 0 to 59")
    );
    assert!(error(&"x".repeat(TEXT_BYTES_MAX + 1)).to_string().len() < 2 * TEXT_BYTES_MAX + 200);
}

#[test]
fn a_calendar_is_shown_as_it_was_written() {
    assert_eq!(calendar("0  1 * *   *").to_string(), "0 1 * * *");
    assert_eq!(calendar("Mon..Fri 02:00").to_string(), "Mon..Fri 02:00");
}
