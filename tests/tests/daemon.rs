//! The daemon against real servers: what is due is backed up, once, whatever is killed in between; limits are kept; it ends, reloads
//! and stops single runs as it is told.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use tests::calendar::in_seconds;
use tests::coordinator_process::{Running, binary};
use tests::corpus::bytes::incompressible;
use tests::processes;
use tests::shapes::{Outcome, RunReport, SnapshotLine, exit};
use tests::tcp_proxy::TcpProxy;
use tests::world::{HOST, World};

const MIB: usize = 1 << 20;
/// As much as a run takes some ten seconds for over the slow line.
const FILES: u64 = 24;
const FILE_BYTES: usize = 2 * MIB;
const SLOW_BYTES_PER_SEC: u64 = 4 << 20;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(90);

/// What `status --json` prints.
#[derive(Debug, Deserialize)]
struct Status {
    revision: String,
    daemon: Option<Live>,
    hosts: Vec<HostStatus>,
    destinations: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct Live {
    pid: u32,
    revision: String,
    refused: Option<String>,
    running: Vec<LiveRun>,
}

#[derive(Debug, Deserialize)]
struct LiveRun {
    host: String,
    step: String,
}

#[derive(Debug, Deserialize)]
struct HostStatus {
    host: String,
    freshness: String,
    last_good: Option<serde_json::Value>,
    last_run: Option<LastRun>,
    running_since: Option<String>,
    next_run: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LastRun {
    outcome: String,
}

/// One element of `history --json`.
#[derive(Debug, Deserialize)]
struct HistoryLine {
    host: String,
    started: String,
    finished: Option<String>,
    outcome: Option<String>,
}

/// A host's table over the world's own target.
fn host_table(world: &World, name: &str, lines: &[&str]) -> Result<String> {
    Ok(format!(
        "[host.{name}]\naddress = \"{}\"\nuser = \"root\"\nidentity_file = {:?}\nhost_key = [\"{}\"]\npaths = [{:?}]\n{}\n",
        world.sshd().address(),
        world.sshd().identity_file(),
        world.sshd().fingerprint()?,
        world.source(),
        lines.join("\n")
    ))
}

fn write_hosts(world: &World, lines: &[&str]) -> Result<()> {
    world.write_hosts(&host_table(world, HOST, lines)?)
}

/// A daemon that answers.
fn start(world: &World) -> Result<Running> {
    let mut daemon = world.start(&["daemon"])?;
    processes::wait_until("the daemon", DEADLINE, || {
        ensure!(
            !daemon.has_ended()?,
            "the daemon ended: {}",
            daemon.stderr_so_far()
        );
        let live = status(world)?.daemon;
        Ok(live.is_some_and(|live| live.pid == daemon.pid()))
    })?;
    Ok(daemon)
}

fn end(daemon: Running) -> Result<String> {
    processes::signal(daemon.pid(), Signal::TERM)?;
    let finished = daemon
        .finish(Duration::from_secs(200))?
        .expect_code(exit::OK)?;
    Ok(finished.stderr_text())
}

fn status(world: &World) -> Result<Status> {
    let finished = world.coordinator(&["status", "--json"])?;
    finished.expect_code(exit::OK)?.json()
}

fn history(world: &World) -> Result<Vec<HistoryLine>> {
    let finished = world.coordinator(&["history", "--count", "1000", "--json"])?;
    finished.expect_code(exit::OK)?.json()
}

fn outcomes(world: &World) -> Result<Vec<String>> {
    let lines = history(world)?.into_iter();
    Ok(lines
        .map(|line| line.outcome.unwrap_or("running".into()))
        .collect())
}

fn wait_for_outcomes(world: &World, expected: &[&str]) -> Result<()> {
    processes::wait_until(&format!("runs that end {expected:?}"), DEADLINE, || {
        Ok(outcomes(world)? == expected)
    })
    .with_context(|| format!("history: {:?}", history(world)))
}

/// Waits until a host is being read.
fn wait_until_it_backs_up(world: &World, host: &str) -> Result<()> {
    processes::wait_until("a run that reads", DEADLINE, || {
        let live = status(world)?.daemon.context("no daemon")?;
        let mut running = live.running.iter();
        Ok(running.any(|run| run.host == host && run.step == "back up"))
    })
}

/// Files that a run takes a while for, over a line that is slow until it is told otherwise.
fn write_much(world: &World, lines: &[&str]) -> Result<TcpProxy> {
    for number in 0..FILES {
        let bytes = incompressible(number, FILE_BYTES);
        fs::write(world.source().join(format!("f{number}")), bytes)?;
    }
    let line = TcpProxy::start(world.sshd().address())?;
    let own = world.sshd().address().to_string();
    let table = host_table(world, HOST, lines)?;
    world.write_hosts(&table.replace(&own, &line.address().to_string()))?;
    line.set_pace(SLOW_BYTES_PER_SEC);
    Ok(line)
}

#[test]
fn what_is_due_is_backed_up_again_and_again_and_the_daemon_ends_when_it_is_told() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "first")?;
    write_hosts(&world, &["schedule = \"*:*:0/2\"", "sla = \"1h\""])?;
    let before = world.target_state()?;
    let daemon = start(&world)?;
    processes::wait_until("three snapshots", DEADLINE, || {
        Ok(outcomes(&world)?.len() >= 3)
    })?;
    // Another command works beside it.
    world.expect_restores("latest", "beside")?;
    let now = status(&world)?;
    let host = &now.hosts[0];
    assert_eq!((host.host.as_str(), host.freshness.as_str()), (HOST, "ok"));
    ensure!(host.last_good.is_some() && host.next_run.is_some());
    assert_eq!(host.last_run.as_ref().context("no run")?.outcome, "ok");
    assert_eq!(now.destinations.context("destinations")?.len(), 1);
    let second = world.coordinator(&["daemon"])?.expect_code(exit::LOCKED)?;
    second.expect_stderr(&["another daemon runs"])?;
    end(daemon)?;
    let lines = history(&world)?;
    // One run for each occasion: never two that begin within the same two seconds.
    let mut slots: Vec<String> = lines
        .iter()
        .map(|line| line.started[..19].to_owned())
        .collect();
    let count = slots.len();
    slots.dedup();
    assert_eq!(slots.len(), count, "{lines:?}");
    ensure!(status(&world)?.daemon.is_none());
    world.expect_target_clean(&before)?;
    world.verify()?;
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_in_a_run_tries_its_occasion_again_and_nothing_twice() -> Result<()> {
    let world = World::new()?;
    let schedule = format!("schedule = \"{}\"", in_seconds(7)?);
    let line = write_much(&world, &[&schedule, "retry_delay = \"1s\""])?;
    let mut daemon = start(&world)?;
    wait_until_it_backs_up(&world, HOST)?;
    daemon.kill()?;
    daemon.finish(DEADLINE)?;
    let now = status(&world)?;
    ensure!(
        now.daemon.is_none() && now.hosts[0].running_since.is_none(),
        "{now:?}"
    );
    assert_eq!(now.hosts[0].freshness, "never");
    line.set_pace(0);
    let daemon = start(&world)?;
    wait_for_outcomes(&world, &["died", "ok"])?;
    end(daemon)?;
    // Started again and again, it finds nothing that is due.
    for _ in 0..3 {
        end(start(&world)?)?;
    }
    assert_eq!(outcomes(&world)?, ["died", "ok"]);
    assert_eq!(status(&world)?.hosts[0].freshness, "ok");
    world.expect_restores("latest", "after")?;
    Ok(())
}

#[test]
fn a_daemon_that_is_told_to_end_stops_its_run_in_order_and_goes_on_with_it_later() -> Result<()> {
    let world = World::new()?;
    let schedule = format!("schedule = \"{}\"", in_seconds(7)?);
    // No retries: what the daemon's own end cut short does not count as one.
    let line = write_much(&world, &[&schedule, "retries = 0"])?;
    let before = world.target_state()?;
    let daemon = start(&world)?;
    wait_until_it_backs_up(&world, HOST)?;
    end(daemon)?;
    assert_eq!(outcomes(&world)?, ["cancelled"]);
    world.expect_target_clean(&before)?;
    line.set_pace(0);
    let daemon = start(&world)?;
    wait_for_outcomes(&world, &["cancelled", "ok"])?;
    end(daemon)?;
    world.expect_restores("latest", "after")?;
    Ok(())
}

#[test]
fn a_run_that_is_cancelled_ends_in_order_and_is_not_tried_again() -> Result<()> {
    let world = World::new()?;
    let line = write_much(&world, &[])?;
    let before = world.target_state()?;
    let daemon = start(&world)?;
    let run = world.start(&["run", HOST, "--json"])?;
    wait_until_it_backs_up(&world, HOST)?;
    // A second one is refused meanwhile.
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::LOCKED)?;
    world
        .coordinator(&["cancel", HOST])?
        .expect_code(exit::OK)?;
    let report: RunReport = run.finish(DEADLINE)?.expect_code(exit::CANCELLED)?.json()?;
    assert_eq!(report.outcome, Outcome::Failed);
    ensure!(
        report
            .error
            .is_some_and(|error| error.contains("cancelled"))
    );
    world
        .coordinator(&["cancel", HOST])?
        .expect_code(exit::ERROR)?;
    world.expect_target_clean(&before)?;
    line.set_pace(0);
    world.coordinator(&["run", HOST])?.expect_code(exit::OK)?;
    end(daemon)?;
    assert_eq!(outcomes(&world)?, ["cancelled", "ok"]);
    Ok(())
}

#[test]
fn a_configuration_that_is_wrong_changes_nothing_and_one_that_is_right_is_taken() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "first")?;
    write_hosts(&world, &["schedule = \"yearly\""])?;
    let daemon = start(&world)?;
    let first = status(&world)?;
    let refused =
        || -> Result<Option<String>> { Ok(status(&world)?.daemon.context("no daemon")?.refused) };
    write_hosts(&world, &["schedule = \"now and then\""])?;
    let told = world.coordinator(&["reload"])?.expect_code(exit::ERROR)?;
    told.expect_stderr(&["is no schedule", "hosts.toml"])?;
    processes::signal(daemon.pid(), Signal::HUP)?;
    processes::wait_until("the signal's refusal", DEADLINE, || {
        Ok(daemon
            .stderr_so_far()
            .contains("the configuration is not taken"))
    })?;
    write_hosts(&world, &["schedule = \"yearly\""])?;
    let live = status(&world)?.daemon.context("no daemon")?;
    assert_eq!(live.revision, first.revision);
    ensure!(
        live.refused
            .is_some_and(|why| why.contains("is no schedule"))
    );
    // What is only read at the start is not taken in half.
    world.replace_config_line("#patience", "patience = \"1m\"")?;
    let told = world.coordinator(&["reload"])?.expect_code(exit::ERROR)?;
    told.expect_stderr(&["started again"])?;
    world.replace_config_line("patience = ", "#patience = \"2m\"")?;
    write_hosts(&world, &["schedule = \"*:*:0/2\""])?;
    world.coordinator(&["reload"])?.expect_code(exit::OK)?;
    assert_eq!(refused()?, None);
    let second = status(&world)?;
    assert_eq!(
        second.daemon.context("no daemon")?.revision,
        second.revision
    );
    ensure!(second.revision != first.revision);
    processes::wait_until("a run by the new schedule", DEADLINE, || {
        Ok(outcomes(&world)?.iter().any(|outcome| outcome == "ok"))
    })?;
    end(daemon)?;
    Ok(())
}

#[test]
fn no_more_hosts_than_allowed_are_backed_up_at_once_and_one_of_a_key() -> Result<()> {
    for (limit, lines) in [
        ("max_parallel = 1", ["", "", ""]),
        (
            "max_parallel = 3",
            ["concurrency_key = \"san\"", "concurrency_key = \"san\"", ""],
        ),
    ] {
        let world = World::new()?;
        for number in 0..4_u8 {
            let bytes = incompressible(number.into(), 8 * MIB);
            fs::write(world.source().join(format!("f{number}")), bytes)?;
        }
        world.replace_config_line("#max_parallel", limit)?;
        let schedule = format!("schedule = \"{}\"", in_seconds(7)?);
        let names = ["db1", "db2", "web1"];
        let tables = names.iter().zip(lines);
        let tables = tables.map(|(name, line)| host_table(&world, name, &[&schedule, line]));
        world.write_hosts(&tables.collect::<Result<String>>()?)?;
        let daemon = start(&world)?;
        wait_for_outcomes(&world, &["ok", "ok", "ok"])?;
        end(daemon)?;
        let mut lines = history(&world)?;
        if limit != "max_parallel = 1" {
            lines.retain(|line| line.host.starts_with("db"));
        }
        lines.sort_by(|one, other| one.started.cmp(&other.started));
        for pair in lines.windows(2) {
            // Both are RFC 3339 in UTC, to a fraction of a second.
            let ended = pair[0].finished.as_ref().context("no end")?;
            ensure!(
                seconds(ended)? <= seconds(&pair[1].started)?,
                "{limit}: {lines:?}"
            );
        }
    }
    Ok(())
}

/// The seconds of a day, with their fraction.
fn seconds(time: &str) -> Result<f64> {
    let (_, clock) = time
        .trim_end_matches('Z')
        .split_once('T')
        .context("no time")?;
    let mut total = 0.0;
    for part in clock.split(':') {
        total = total * 60.0 + part.parse::<f64>()?;
    }
    Ok(total)
}

#[test]
fn runs_by_hand_go_through_the_daemon_where_there_is_one_and_heed_the_window() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), "first")?;
    // A minute that has just passed: it is closed for almost a day.
    let closed = Command::new("date")
        .args(["-u", "-d", "-10 minutes", "+%H:%M"])
        .output()?;
    let from = Command::new("date")
        .args(["-u", "-d", "-20 minutes", "+%H:%M"])
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let window = format!(
        "window = \"{}-{}\"",
        text(&from.stdout),
        text(&closed.stdout)
    );
    let tables = [
        host_table(&world, "open", &["tags = [\"t\"]"])?,
        host_table(&world, "shut", &["tags = [\"t\"]", &window])?,
    ];
    world.write_hosts(&tables.concat())?;
    for with_daemon in [false, true] {
        let daemon = with_daemon.then(|| start(&world)).transpose()?;
        let run = |arguments: &[&str], code: i32| -> Result<Vec<serde_json::Value>> {
            let all = [&["run", "--json"], arguments].concat();
            world.coordinator(&all)?.expect_code(code)?.json()
        };
        let both = run(&["@t"], exit::ERROR)?;
        assert_eq!(both.len(), 2, "{both:?}");
        for report in &both {
            let expected = if report["host"] == "open" {
                "ok"
            } else {
                "skipped"
            };
            assert_eq!(report["outcome"], expected, "{report}");
        }
        let all = run(&["--all", "--outside-window"], exit::OK)?;
        assert_eq!(all.len(), 2);
        world
            .coordinator(&["run", "@nobody"])?
            .expect_code(exit::NOT_FOUND)?;
        let one: RunReport = world
            .coordinator(&["run", "open", "--json"])?
            .expect_code(exit::OK)?
            .json()?;
        assert_eq!(one.outcome, Outcome::Ok);
        if let Some(daemon) = daemon {
            let told = end(daemon)?;
            ensure!(
                told.contains("outside_window=true") && told.contains("user:"),
                "{told}"
            );
        }
    }
    let snapshots: Vec<SnapshotLine> = world
        .coordinator(&["snapshots", "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    assert_eq!(snapshots.len(), 8);
    let explained = world
        .coordinator(&["host", "explain", "shut"])?
        .expect_code(exit::OK)?;
    ensure!(explained.stdout_text().contains("no schedule"));
    Ok(())
}

#[test]
fn systemd_is_told_when_the_daemon_is_ready_and_when_it_stops() -> Result<()> {
    let world = World::new()?;
    write_hosts(&world, &[])?;
    let path = world.directory().join("notify");
    let systemd = std::os::unix::net::UnixDatagram::bind(&path)?;
    systemd.set_read_timeout(Some(DEADLINE))?;
    let config = world.config();
    let arguments = [OsStr::new("-c"), config.as_os_str(), OsStr::new("daemon")];
    let notify = path.to_str().context("a UTF-8 path")?;
    let environment = [("NOTIFY_SOCKET", notify), ("WATCHDOG_USEC", "1000000")];
    let daemon = Running::spawn(&binary("coordinator")?, &arguments, &environment)?;
    let next = |wanted: &str| -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let length = systemd
                .recv(&mut bytes)
                .with_context(|| format!("waiting for {wanted}"))?;
            if String::from_utf8_lossy(&bytes[..length]).contains(wanted) {
                return Ok(());
            }
        }
    };
    next("READY=1")?;
    next("WATCHDOG=1")?;
    next("WATCHDOG=1")?;
    processes::signal(daemon.pid(), Signal::HUP)?;
    next("RELOADING=1")?;
    next("READY=1")?;
    processes::signal(daemon.pid(), Signal::TERM)?;
    next("STOPPING=1")?;
    daemon.finish(DEADLINE)?.expect_code(exit::OK)?;
    Ok(())
}

#[test]
fn prunes_and_scans_come_on_their_own_schedules() -> Result<()> {
    let world = World::new()?;
    write_hosts(&world, &["keep = { last = 1 }", "keep_floor = 1"])?;
    for content in ["first", "second"] {
        fs::write(world.source().join("file"), content)?;
        world.run()?;
    }
    world.replace_config_line("#schedule = \"Sun", "schedule = \"*:*:0/3\"")?;
    world.replace_config_line("#schedule = \"07", "schedule = \"*:*:1/3\"")?;
    let daemon = start(&world)?;
    processes::wait_until("a prune and a scan", DEADLINE, || {
        let told = daemon.stderr_so_far();
        Ok(told.contains("forgotten=1") && told.contains("scanned"))
    })
    .with_context(|| daemon.stderr_so_far())?;
    end(daemon)?;
    assert_eq!(world.snapshots()?.len(), 1);
    world.expect_restores("latest", "after")?;
    Ok(())
}

/// Whoever waits for runs to end, however many they are.
#[test]
fn many_who_wait_for_runs_keep_nobody_from_asking() -> Result<()> {
    const WAITING: usize = 80;
    let world = World::new()?;
    world.replace_config_line("#max_parallel", "max_parallel = 1")?;
    let line = write_much(&world, &[])?;
    let slow = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
    let others = (0..WAITING).map(|number| host_table(&world, &format!("other{number}"), &[]));
    world.write_hosts(&format!("{slow}{}", others.collect::<Result<String>>()?))?;
    let daemon = start(&world)?;
    let socket = world.coordinator_dir().join("state/daemon.sock");
    let ask = |host: &str| -> Result<UnixStream> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let run = serde_json::json!({ "hosts": [host], "full_read": false, "first": false, "outside_window": false, "through": null });
        let question = serde_json::json!({ "protocol": 2, "question": { "run": run } });
        writeln!(stream, "{question}")?;
        Ok(stream)
    };
    let first = ask(HOST)?;
    wait_until_it_backs_up(&world, HOST)?;
    let waiting: Vec<UnixStream> = (0..WAITING)
        .map(|number| ask(&format!("other{number}")))
        .collect::<Result<_>>()?;
    // Each of them is heard at once, although nothing of it begins.
    for stream in &waiting {
        let mut heard = String::new();
        BufReader::new(stream).read_line(&mut heard)?;
        ensure!(heard.contains("waits for its turn"), "{heard}");
    }
    let live = status(&world)?.daemon.context("no daemon")?;
    assert_eq!(live.running.len(), 1);
    world
        .coordinator(&["cancel", HOST])?
        .expect_code(exit::OK)?;
    for number in 0..WAITING {
        world.coordinator(&["cancel", &format!("other{number}")])?;
    }
    drop((first, waiting));
    line.set_pace(0);
    end(daemon)?;
    Ok(())
}

#[test]
fn a_daemon_that_hangs_is_said_not_to_answer() -> Result<()> {
    let world = World::new()?;
    write_hosts(&world, &[])?;
    let daemon = start(&world)?;
    processes::signal(daemon.pid(), Signal::STOP)?;
    // Both wait for it at the same time.
    let (told, shown) = (world.start(&["cancel", HOST]), world.start(&["status"]));
    let told = told.and_then(|asked| asked.finish(DEADLINE));
    let shown = shown.and_then(|asked| asked.finish(DEADLINE));
    processes::signal(daemon.pid(), Signal::CONT)?;
    told?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["did not answer", "Look at its log"])?;
    let shown = shown?.expect_code(exit::OK)?.stdout_text();
    ensure!(
        shown.contains("a daemon runs and does not answer"),
        "{shown}"
    );
    end(daemon)?;
    Ok(())
}
