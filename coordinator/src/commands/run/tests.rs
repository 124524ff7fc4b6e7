//! What a run shows: lines of progress, the summary, the JSON object.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::PathBuf;
use std::time::Duration;

use formats::ids::RecordId;
use formats::log::snapshot::SnapshotTotals;
use formats::wire::control::problem::{Problem, ProblemKind};
use serde_json::Value;

use crate::backup::changes::{ChangeKind, Changes};
use crate::backup::error::RunError;
use crate::backup::progress::{Counts, Progress, Step};
use crate::backup::report::{CommittedRun, RunReport, Warning, WarningKind};
use crate::cli::GlobalArgs;
use crate::commands::run::live::{Display, progress_line, watch};
use crate::commands::run::pace::{Pace, fraction, time_left};
use crate::commands::run::{Presentation, present_run};
use crate::exit_code::ExitCode;
use crate::logging::Screen;

fn global(json: bool, quiet: bool) -> GlobalArgs {
    GlobalArgs {
        config: PathBuf::new(),
        verbose: 0,
        quiet,
        json,
        no_color: true,
    }
}

fn counts(step: Step) -> Counts {
    let progress = Progress::default();
    progress.update(|counts| {
        counts.step = step;
        counts.entries = 1_500;
        counts.files = 1_234;
        counts.bytes = 5 << 20;
        counts.bytes_read = 3 << 20;
        counts.bytes_new = 1 << 20;
        counts.expected = (3_000, 10 << 20);
    });
    progress.counts()
}

fn problem(number: u32) -> Problem {
    Problem {
        kind: ProblemKind::Unreadable,
        path: format!("etc/\u{1b}[31m{number}").into_bytes(),
        errno: 13,
        text: "open".to_owned(),
    }
}

fn committed(problems: u64) -> RunReport {
    RunReport {
        host: "web1".to_owned(),
        result: Ok(CommittedRun {
            id: RecordId([0xab; 32]),
            sequence: 7,
            committed_nanos: 1_000_000_000,
            totals: SnapshotTotals {
                files: 10,
                directories: 3,
                others: 2,
                bytes: 4096,
                bytes_read: 2048,
                bytes_new: 1024,
                bytes_stored: 512,
                problems,
            },
            problems: (0..25)
                .take(usize::try_from(problems).unwrap())
                .map(problem)
                .collect(),
            held: None,
            changes: Some(Changes {
                added: 4,
                paths: vec![(ChangeKind::Added, b"srv/new\x07".to_vec())],
                ..Changes::default()
            }),
        }),
        duration: Duration::from_millis(1500),
        transport: Some("unix"),
        agent_memory: 1 << 20,
        agent_cpu: Duration::from_millis(2_500),
        left_behind: Vec::new(),
        warnings: Vec::new(),
    }
}

async fn shown(report: RunReport, global: GlobalArgs) -> (ExitCode, String, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let progress = Progress::default();
    let code = present_run(
        "web1",
        async { report },
        &progress,
        Presentation {
            global: &global,
            screen: &Screen::default(),
            out: &mut out,
            errors: &mut errors,
        },
    )
    .await
    .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(errors))
}

#[test]
fn a_line_of_progress_says_step_counts_speed_and_what_is_left() {
    let line = progress_line(&counts(Step::BackUp), 2 << 20, Duration::from_secs(30));
    assert_eq!(
        line,
        "back up: 1,234 files, 3.0 MiB read, 1.0 MiB new, 2.0 MiB/s, about 30.0 s left"
    );
    assert_eq!(
        progress_line(&counts(Step::Connect), 0, Duration::ZERO),
        "connect"
    );
    let mut last = counts(Step::Commit);
    last.problems = 2;
    assert_eq!(
        progress_line(&last, 0, Duration::ZERO),
        "commit: 1,234 files, 3.0 MiB read, 1.0 MiB new, 2 problems"
    );
}

#[test]
fn without_a_parent_or_a_beginning_no_time_is_guessed() {
    let mut without = counts(Step::BackUp);
    without.expected = (0, 0);
    assert_eq!(fraction(&without), None);
    assert_eq!(time_left(0.001, Duration::from_secs(5)), None);
    let mut grown = counts(Step::BackUp);
    grown.entries = 9_000;
    grown.bytes = 90 << 20;
    assert_eq!(fraction(&grown), Some(0.99));
}

#[test]
fn the_speed_is_that_of_the_last_seconds() {
    let mut pace = Pace::default();
    assert_eq!(pace.bytes_per_sec(), 0);
    for second in 0..100 {
        let bytes = if second < 50 { second * 1_000 } else { 50_000 };
        pace.note(Duration::from_secs(second), bytes);
    }
    assert_eq!(pace.bytes_per_sec(), 0);
    for second in 100..120 {
        pace.note(Duration::from_secs(second), 50_000 + (second - 100) * 4_096);
    }
    assert_eq!(pace.bytes_per_sec(), 4_096);
}

#[tokio::test]
async fn watching_gives_back_what_the_run_gives() {
    let progress = Progress::default();
    let run = async {
        progress.step(Step::Connect);
        tokio::task::yield_now().await;
        42
    };
    assert_eq!(watch(run, &progress, Display::Silent).await, 42);
}

#[tokio::test]
async fn a_run_with_problems_prints_one_json_object_with_the_first_twenty() {
    let (code, out, errors) = shown(committed(25), global(true, false)).await;
    assert_eq!(code, ExitCode::Warnings);
    assert_eq!(out.lines().count(), 1);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["outcome"], "warnings");
    assert_eq!(json["snapshot"]["id"], "ab".repeat(32));
    assert_eq!(json["snapshot"]["seq"], 7);
    assert_eq!(json["snapshot"]["time"], "1970-01-01T00:00:01Z");
    assert_eq!(
        (&json["files"], &json["directories"]),
        (&12.into(), &3.into())
    );
    assert_eq!(json["problems"].as_array().unwrap().len(), 20);
    assert_eq!(json["problem_count"], 25);
    assert_eq!(json["problems"][0]["path"], "/etc/\\x1b[31m0");
    assert_eq!(json["problems"][0]["kind"], "unreadable");
    assert!(
        json["problems"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("open: Permission denied")
    );
    assert_eq!(json["transport"], "unix");
    assert_eq!(json["agent_cpu_secs"], 2.5);
    assert_eq!(json["changes"]["added"], 4);
    assert_eq!(json["changes"]["first"][0]["path"], "/srv/new\\x07");
    assert_eq!(json["error"], Value::Null);
    assert!(json["coordinator_rss_bytes"].as_u64().unwrap() > 0);
    assert!(
        errors.contains("and 5 more") && !errors.contains('\u{1b}'),
        "{errors}"
    );
}

#[tokio::test]
async fn a_failed_run_prints_its_object_too_and_its_reason() {
    let failed = || RunReport {
        result: Err(RunError::Cancelled),
        transport: None,
        ..committed(0)
    };
    let (code, out, _) = shown(failed(), global(true, false)).await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, ExitCode::Cancelled);
    assert_eq!(json["outcome"], "failed");
    assert_eq!(json["snapshot"], Value::Null);
    let error = RunError::Cancelled.to_string();
    assert_eq!(json["error"], error);
    let (_, out, errors) = shown(failed(), global(false, false)).await;
    assert!(out.is_empty());
    assert!(errors.contains("in step \"prepare\""), "{errors}");
    assert!(errors.contains(&format!("\nerror: {error}\n")), "{errors}");
}

#[tokio::test]
async fn quiet_says_nothing_of_a_good_run_and_all_of_a_bad_one() {
    let (code, out, errors) = shown(committed(0), global(false, true)).await;
    assert_eq!(
        (code, out.as_str(), errors.as_str()),
        (ExitCode::Ok, "", "")
    );
    let (_, out, errors) = shown(committed(2), global(false, true)).await;
    assert!(out.is_empty() && errors.contains("2 could not"), "{errors}");
    let (_, out, _) = shown(committed(0), global(false, false)).await;
    assert!(out.starts_with("web1: ok, snapshot abababab of "), "{out}");
}

#[tokio::test]
async fn a_run_that_looks_wrong_is_taken_and_says_so() {
    let held = || {
        let mut report = committed(0);
        if let Ok(run) = &mut report.result {
            run.held = Some("no file is left of 1,000".to_owned());
        }
        report
    };
    let (code, out, _) = shown(held(), global(true, false)).await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, ExitCode::Warnings);
    assert_eq!(json["outcome"], "held");
    assert_eq!(json["held"], "no file is left of 1,000");
    let (_, out, errors) = shown(held(), global(false, false)).await;
    assert!(
        out.starts_with("web1: held, snapshot abababab of "),
        "{out}"
    );
    assert!(errors.contains("coordinator hold release web1"), "{errors}");
}

#[tokio::test]
async fn a_warning_makes_the_outcome_warnings() {
    let warned = || RunReport {
        warnings: vec![Warning::new(
            WarningKind::Coverage,
            "/srv (filesystem, xfs) is in no path".to_owned(),
        )],
        ..committed(0)
    };
    let (code, out, _) = shown(warned(), global(true, false)).await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, ExitCode::Warnings);
    assert_eq!(json["outcome"], "warnings");
    assert_eq!(json["warnings"][0]["kind"], "coverage");
    let (_, out, errors) = shown(warned(), global(false, false)).await;
    assert!(out.starts_with("web1: warnings(1), "), "{out}");
    assert!(errors.contains("web1: coverage: /srv"), "{errors}");
}
