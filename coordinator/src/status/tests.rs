//! Status says what the history says, and no more than is sure.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use formats::ids::{RecordId, RunId};
use formats::log::snapshot::SnapshotTotals;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::catalog::state::results::RunResult;
use crate::catalog::state::{Outcome, State};
use crate::config::Config;
use crate::lock::HostLock;
use crate::repository::layout::StateDir;
use crate::status::json::HostStatusJson;
use crate::status::{Freshness, HostStatus, fleet_status, freshness, host_status};

struct SetUp {
    _dir: TempDir,
    config: Config,
    state: State,
    state_dir: StateDir,
}

impl SetUp {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(
            path("coordinator.toml"),
            "state_dir = \".\"\n[[destination]]\nname = \"d\"\nurl = \"file:///srv/d\"\n",
        )
        .unwrap();
        fs::write(
            path("hosts.toml"),
            "[defaults]\nuser = \"root\"\nuse_agent = true\nschedule = \"0 1 * * *\"\nsla = \"26h\"\n\
             [host.web1]\naddress = \"web1\"\npaths = [\"/\"]\n[host.web2]\naddress = \"web2\"\npaths = [\"/\"]\n\
             jump = \"gate\"\n[host.gate]\naddress = \"gate\"\npaths = []\n",
        )
        .unwrap();
        let config = Config::load(&path("coordinator.toml")).unwrap();
        let state_dir = StateDir::new(dir.path());
        Self {
            state: State::open(&state_dir.state_file()).unwrap(),
            config,
            state_dir,
            _dir: dir,
        }
    }

    fn status(&self, now: Timestamp) -> HostStatus {
        let host = self.config.host("web1").unwrap();
        host_status(&self.state, &self.state_dir, host, now).unwrap()
    }

    fn run(&mut self, number: u8, at: Timestamp, outcome: Outcome) {
        let run = RunId([number; 16]);
        let end = at + SignedDuration::from_secs(60);
        self.state.run_started("web1", run, at).unwrap();
        if matches!(outcome, Outcome::Ok | Outcome::Warnings | Outcome::Held) {
            let result = RunResult {
                snapshot: RecordId([number; 32]),
                committed: end,
                good: outcome != Outcome::Held,
                verified: true,
                totals: SnapshotTotals {
                    files: 10,
                    bytes: 1_000,
                    ..SnapshotTotals::default()
                },
            };
            self.state.note_result("web1", run, &result).unwrap();
        }
        self.state.run_finished(run, end, outcome, None).unwrap();
    }
}

fn at(text: &str) -> Timestamp {
    format!("2026-07-{text}Z").parse().unwrap()
}

#[test]
fn a_host_that_was_never_backed_up_says_so_and_jump_hosts_are_none() {
    let set_up = SetUp::new();
    let all = fleet_status(&set_up.state, &set_up.config, at("15T12:00:00")).unwrap();
    let names: Vec<&str> = all.iter().map(|status| status.host.as_str()).collect();
    assert_eq!(names, ["web1", "web2"]);
    assert_eq!(all[0].freshness, Freshness::Never);
    assert_eq!(all[0].next_run, Some(at("16T01:00:00")));
    assert_eq!((all[0].last_good, &all[0].last_run), (None, &None));
}

#[test]
fn a_held_or_failed_run_is_no_good_snapshot() {
    let mut set_up = SetUp::new();
    set_up.run(1, at("14T01:00:00"), Outcome::Warnings);
    set_up.run(2, at("15T01:00:00"), Outcome::Held);
    set_up.run(3, at("15T02:00:00"), Outcome::Failed);
    let status = set_up.status(at("15T03:00:00"));
    let good = status.last_good.unwrap();
    assert_eq!((good.at, good.took.as_secs()), (at("14T01:01:00"), 60));
    assert_eq!(status.last_run.as_ref().unwrap().outcome, Outcome::Failed);
    assert_eq!(status.verified, Some(at("14T01:01:00")));
    assert_eq!(status.freshness, Freshness::Ok);
    assert_eq!(set_up.status(at("15T03:02:00")).freshness, Freshness::Late);
    set_up
        .state
        .note_verified("web1", at("15T02:30:00"))
        .unwrap();
    assert_eq!(
        set_up.status(at("15T03:02:00")).verified,
        Some(at("15T02:30:00"))
    );
    set_up.state.accept_results("web1").unwrap();
    let good = set_up.status(at("15T03:02:00")).last_good.unwrap();
    assert_eq!(good.at, at("15T01:01:00"));
    let json = HostStatusJson::of(&status, at("15T03:00:00"));
    assert_eq!((json.age_secs, json.sla_secs), (Some(93_540), Some(93_600)));
}

#[test]
fn the_last_run_is_the_one_that_began_last_though_the_clock_was_ahead() {
    let mut set_up = SetUp::new();
    set_up.run(1, at("30T01:00:00"), Outcome::Ok);
    set_up.run(2, at("15T01:00:00"), Outcome::Warnings);
    let status = set_up.status(at("15T03:00:00"));
    assert_eq!(status.last_good.unwrap().at, at("15T01:01:00"));
    assert_eq!(status.last_run.unwrap().outcome, Outcome::Warnings);
}

#[test]
fn what_was_recovered_without_its_runs_counts_until_there_is_a_run() {
    let mut set_up = SetUp::new();
    for (number, day) in [(1, "13"), (2, "14")] {
        let result = RunResult {
            snapshot: RecordId([number; 32]),
            committed: at(&format!("{day}T01:00:00")),
            good: true,
            verified: true,
            totals: SnapshotTotals::default(),
        };
        let noted = set_up
            .state
            .note_result("web1", RunId([number; 16]), &result);
        noted.unwrap();
    }
    let good = |set_up: &SetUp| set_up.status(at("15T03:00:00")).last_good.unwrap().at;
    assert_eq!(good(&set_up), at("14T01:00:00"));
    set_up.run(3, at("15T01:00:00"), Outcome::Ok);
    assert_eq!(good(&set_up), at("15T01:01:00"));
}

#[test]
fn only_a_run_whose_process_lives_is_under_way() {
    let mut set_up = SetUp::new();
    let run = RunId([7; 16]);
    let hosts_dir = set_up.state_dir.hosts_dir();
    let _lock = HostLock::take(&hosts_dir, "web1", run, at("15T01:00:00")).unwrap();
    set_up
        .state
        .run_started("web1", run, at("15T01:00:00"))
        .unwrap();
    assert_eq!(
        set_up.status(at("15T01:05:00")).running_since,
        Some(at("15T01:00:00"))
    );
    // A note of a process that cannot be.
    let note = format!("pid 4194999\nrun {run}\n");
    fs::write(hosts_dir.join("web1.lock"), note).unwrap();
    assert_eq!(set_up.status(at("15T01:05:00")).running_since, None);
}

#[test]
fn freshness_is_late_only_past_the_promise() {
    let sla = Some("1h".parse().unwrap());
    let now = at("15T03:00:00");
    assert_eq!(freshness(Some(at("15T02:00:00")), sla, now), Freshness::Ok);
    assert_eq!(
        freshness(Some(at("15T01:59:59")), sla, now),
        Freshness::Late
    );
    assert_eq!(freshness(Some(at("01T00:00:00")), None, now), Freshness::Ok);
    assert_eq!(freshness(None, None, now), Freshness::Never);
    assert_eq!(
        freshness(Some(at("15T04:00:01")), sla, now),
        Freshness::Late
    );
}
