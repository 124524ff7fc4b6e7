//! What guards runs and history, against a real sshd: a host that encrypts everything is held and keeps its past; another
//! machine with the host's key stays out of its history; what nobody backs up is told; a quota cuts a run and keeps the last good
//! snapshot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::compare::expect_equal;
use tests::coordinator_process::DEADLINE;
use tests::corpus::bytes::{incompressible, text};
use tests::machine_facts;
use tests::shapes::{Outcome, RunReport, exit};
use tests::sshd::{SshdOptions, UNPRIVILEGED_USER};
use tests::world::{HOST, World, WorldOptions, below, copy_tree};

/// Files of the host that is encrypted.
const FILES: u64 = 60;
/// Bytes of each.
const FILE_BYTES: usize = 64 << 10;

/// One element of `hold ls --json`.
#[derive(Debug, Deserialize)]
struct HoldLine {
    number: u64,
    host: String,
    kind: String,
    reason: String,
    released: Option<String>,
}

/// What matters here of an element of `prune --json`.
#[derive(Debug, Deserialize)]
struct Pruned {
    executed: bool,
    refused: Option<String>,
    forgotten: u64,
    removed: Removed,
    notes: Vec<String>,
    snapshots: Vec<PrunedSnapshot>,
}

#[derive(Debug, Deserialize)]
struct Removed {
    packs: u64,
}

#[derive(Debug, Deserialize)]
struct PrunedSnapshot {
    reasons: Vec<String>,
}

fn world_with(lines: &[&str]) -> Result<World> {
    let world = World::with(WorldOptions {
        host_lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..WorldOptions::default()
    })?;
    world.replace_config_line("#grace = ", "grace = \"1s\"")?;
    Ok(world)
}

/// The same host with further settings.
fn set(world: &World, lines: &[&str]) -> Result<()> {
    let address = world.sshd().address().to_string();
    let hosts = world.hosts_toml(&address, &world.sshd().fingerprint()?)?;
    world.write_hosts(&(hosts + &lines.join("\n") + "\n"))
}

fn holds(world: &World, more: &[&str]) -> Result<Vec<HoldLine>> {
    let arguments = [&["hold", "ls", HOST, "--json"], more].concat();
    world.coordinator(&arguments)?.expect_code(exit::OK)?.json()
}

fn prune(world: &World) -> Result<Pruned> {
    let finished = world.coordinator(&["prune", HOST, "--yes", "--json"])?;
    let reports: Vec<Pruned> = finished.expect_code(exit::OK)?.json()?;
    let report = reports.into_iter().next().context("a report")?;
    ensure!(report.executed && report.refused.is_none(), "{report:?}");
    Ok(report)
}

/// A host with a history: a first run and three ordinary nights. Gives what its source was then.
fn with_history(world: &World) -> Result<PathBuf> {
    for number in 0..FILES {
        let name = world.source().join(format!("report-{number}.txt"));
        fs::write(name, text(number, FILE_BYTES))?;
    }
    world.run()?;
    for night in 0..3 {
        fs::write(
            world.source().join("report-0.txt"),
            text(1_000 + night, FILE_BYTES),
        )?;
        let report = world.run()?;
        ensure!(report.held.is_none(), "{report:?}");
    }
    let copy = world.directory().join("was");
    copy_tree(&world.source(), &copy)?;
    Ok(copy)
}

fn encrypt(world: &World, number: u64, ending: &str) -> Result<()> {
    let name = world.source().join(format!("report-{number}.txt"));
    fs::write(&name, incompressible(number, FILE_BYTES))?;
    if !ending.is_empty() {
        fs::rename(&name, format!("{}{ending}", name.display()))?;
    }
    Ok(())
}

/// The last good snapshot, as `status` has it.
fn last_good(world: &World) -> Result<String> {
    let finished = world.coordinator(&["status", "--json"])?;
    let status: serde_json::Value = finished.expect_code(exit::OK)?.json()?;
    let id = &status["hosts"][0]["last_good"]["id"];
    Ok(id.as_str().context("a good snapshot")?.to_owned())
}

fn held_run(world: &World) -> Result<String> {
    held_run_with(world, &[])
}

fn held_run_with(world: &World, more: &[&str]) -> Result<String> {
    let report = world.run_within(DEADLINE, exit::WARNINGS, more)?;
    ensure!(report.outcome == Outcome::Held, "{report:?}");
    ensure!(report.snapshot.is_some(), "it is taken all the same");
    report.held.context("a reason")
}

const SMALL_HOST: &str = "anomaly = { files = 20, bytes = \"1MiB\" }";

#[test]
fn m29_a_host_that_encrypts_everything_is_held_and_its_past_stays() -> Result<()> {
    let world = world_with(&["keep = { last = 1 }", "keep_floor = 1", SMALL_HOST])?;
    let was = with_history(&world)?;
    for number in 0..FILES {
        encrypt(&world, number, ".locked")?;
    }
    let why = held_run(&world)?;
    ensure!(why.contains("60 of 60 files are gone"), "{why}");
    ensure!(why.contains("the ending \"locked\""), "{why}");

    // What is like the wreck the next night is no good snapshot either, and no second hold comes of it.
    let again = held_run(&world)?;
    ensure!(
        again.starts_with("on hold since ") && again.ends_with(&why),
        "{again}"
    );
    let on_hold = holds(&world, &[])?;
    ensure!(on_hold.len() == 1, "{on_hold:?}");
    ensure!(on_hold[0].kind == "anomaly" && on_hold[0].reason == why);
    ensure!(on_hold[0].host == HOST && on_hold[0].released.is_none());
    let listed = world.snapshots()?;
    ensure!(listed.len() == 6 && listed.iter().all(|line| line.on_hold));
    ensure!(listed[3].outcome == Outcome::Ok, "{listed:?}");
    ensure!(listed[4..].iter().all(|line| line.outcome == Outcome::Held));
    let good = last_good(&world)?;
    ensure!(good == listed[3].id, "{good} of {listed:?}");

    let kept = prune(&world)?;
    ensure!(kept.forgotten == 0, "{kept:?}");
    let held = |snapshot: &PrunedSnapshot| {
        let mut reasons = snapshot.reasons.iter();
        reasons.any(|reason| reason.starts_with("held: anomaly"))
    };
    ensure!(kept.snapshots.iter().all(held), "{kept:?}");
    let good = &listed[3].id;
    world
        .coordinator(&["forget", HOST, good])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["is on hold"])?;
    let out = world.restore(good, "good")?;
    expect_equal(&was, &below(&out, &world.source()))?;

    world
        .coordinator(&["hold", "release", HOST])?
        .expect_code(exit::OK)?;
    world
        .coordinator(&["hold", "release", HOST])?
        .expect_code(exit::NOT_FOUND)?;
    ensure!(holds(&world, &[])?.is_empty());
    ensure!(holds(&world, &["--all"])?[0].released.is_some());
    ensure!(last_good(&world)? == listed[5].id);
    ensure!(prune(&world)?.forgotten == 5);
    Ok(())
}

#[test]
fn encrypting_in_place_and_emptying_are_noticed_too() -> Result<()> {
    let world = world_with(&[SMALL_HOST])?;
    with_history(&world)?;
    for number in 0..FILES {
        encrypt(&world, number, "")?;
    }
    let why = held_run(&world)?;
    for part in ["60 of 60 files changed", "are new in files that were there"] {
        ensure!(why.contains(part), "{why}");
    }
    world
        .coordinator(&["hold", "release", HOST])?
        .expect_code(exit::OK)?;
    // A person said that this is how the host is now.
    world.run()?;
    for number in 0..FILES {
        fs::remove_file(world.source().join(format!("report-{number}.txt")))?;
    }
    let why = held_run(&world)?;
    ensure!(why.contains("no file is left of 60"), "{why}");
    Ok(())
}

/// What hides an encryption: copies of what was encrypted, which are listed before it; and a run that reads everything anew.
#[test]
fn copies_of_what_was_encrypted_explain_nothing_and_a_full_read_is_compared_too() -> Result<()> {
    let world = world_with(&[SMALL_HOST])?;
    with_history(&world)?;
    for number in 2..FILES {
        encrypt(&world, number, "")?;
        let name = format!("report-{number}.txt");
        let copy = world.source().join(format!("a-copy-of-{name}"));
        fs::copy(world.source().join(name), copy)?;
    }
    let why = held_run(&world)?;
    for part in ["58 of 60 files changed", "are new in files that were there"] {
        ensure!(why.contains(part), "{why}");
    }
    world
        .coordinator(&["hold", "release", HOST])?
        .expect_code(exit::OK)?;
    world.run()?;
    for number in 0..FILES {
        let name = world.source().join(format!("report-{number}.txt"));
        fs::rename(&name, format!("{}.locked", name.display()))?;
    }
    let why = held_run_with(&world, &["--full-read"])?;
    ensure!(why.contains("the ending \"locked\""), "{why}");
    Ok(())
}

#[test]
fn nothing_is_removed_while_a_person_holds_the_host() -> Result<()> {
    let world = world_with(&["keep = { last = 1 }", "keep_floor = 1"])?;
    for number in 0..3 {
        fs::write(world.source().join("file"), incompressible(number, 2 << 20))?;
        world.run()?;
    }
    ensure!(prune(&world)?.forgotten == 2);
    let arguments = ["hold", "add", HOST, "--kind", "legal", "--reason", "case 7"];
    for _ in 0..2 {
        world.coordinator(&arguments)?.expect_code(exit::OK)?;
    }
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    let report = prune(&world)?;
    ensure!(report.removed.packs == 0, "{report:?}");
    ensure!(report.notes.iter().any(|note| note.contains("case 7")));
    // What was forgotten before is still there to be brought back.
    world
        .coordinator(&["undelete", HOST])?
        .expect_code(exit::OK)?;
    ensure!(world.snapshots()?.len() == 3);
    world.verify()?;

    world
        .coordinator(&["hold", "release", HOST])?
        .expect_code(exit::USAGE)?;
    for hold in holds(&world, &[])? {
        let number = hold.number.to_string();
        world
            .coordinator(&["hold", "release", HOST, &number])?
            .expect_code(exit::OK)?;
    }
    ensure!(prune(&world)?.forgotten == 2);
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    ensure!(prune(&world)?.removed.packs > 0);
    Ok(())
}

/// A target whose machine-id and DMI UUID are files of the test.
fn world_of_a_machine() -> Result<World> {
    let world = World::with(WorldOptions {
        sshd: SshdOptions {
            setup: machine_facts::setup("first", "first-board"),
            ..SshdOptions::default()
        },
        ..WorldOptions::default()
    })?;
    fs::write(world.source().join("file"), "content")?;
    Ok(world)
}

fn become_machine(world: &World, machine_id: &str, board: &str) -> Result<()> {
    machine_facts::become_machine(&world.directory().join("sshd"), machine_id, board)
}

fn warned(report: &RunReport, kind: &str) -> bool {
    report.warnings.iter().any(|warning| warning.kind == kind)
}

#[test]
fn another_machine_with_the_hosts_key_stays_out_of_its_history() -> Result<()> {
    let world = world_of_a_machine()?;
    world.run()?;

    // One fact alone: a warning, until it is accepted.
    become_machine(&world, "second", "first-board")?;
    for _ in 0..2 {
        let report = world.run_expecting(exit::WARNINGS)?;
        ensure!(report.snapshot.is_some() && warned(&report, "identity"));
    }
    world
        .coordinator(&["host", "accept-identity", HOST])?
        .expect_code(exit::OK)?;
    world.run()?;
    world
        .coordinator(&["host", "accept-identity", HOST])?
        .expect_code(exit::NOT_FOUND)?;

    // Two: another machine.
    fs::write(world.source().join("file"), "of the clone")?;
    become_machine(&world, "third", "other-board")?;
    let before = world.snapshots()?;
    for _ in 0..2 {
        let report = world.run_expecting(exit::HOST_KEY)?;
        ensure!(report.snapshot.is_none() && report.outcome == Outcome::Failed);
        let error = report.error.context("a reason")?;
        ensure!(
            error.contains("machine-id was second and is third")
                && error.contains("DMI UUID was first-board and is other-board"),
            "{error}"
        );
    }
    let after = world.snapshots()?;
    ensure!(before.len() == after.len(), "the history is as it was");
    let on_hold = holds(&world, &[])?;
    ensure!(on_hold.len() == 1 && on_hold[0].kind == "identity");
    let out = world.restore("latest", "before")?;
    let restored = fs::read(below(&out, &world.source()).join("file"))?;
    ensure!(restored == b"content");

    // The host itself is let in all the while; the hold is a person's to end.
    become_machine(&world, "second", "first-board")?;
    world.run()?;
    ensure!(holds(&world, &[])?.len() == 1);

    // The hardware was replaced after all.
    become_machine(&world, "third", "other-board")?;
    world.run_expecting(exit::HOST_KEY)?;
    world
        .coordinator(&["host", "accept-identity", HOST])?
        .expect_code(exit::OK)?;
    ensure!(holds(&world, &[])?.is_empty());
    world.run()?;
    world.expect_restores("latest", "accepted").map(drop)
}

#[test]
fn a_database_that_nobody_backs_up_is_told_or_refused() -> Result<()> {
    let setup = [
        "mount -t tmpfs tmpfs /var/lib",
        "mkdir /var/lib/mysql",
        "echo data > /var/lib/mysql/ibdata1",
    ];
    let world = World::with(WorldOptions {
        sshd: SshdOptions {
            setup: setup.map(str::to_owned).to_vec(),
            ..SshdOptions::default()
        },
        ..WorldOptions::default()
    })?;
    ensure!(!world.directory().starts_with("/var/lib"));
    fs::write(world.source().join("file"), "content")?;
    world.run()?;
    set(&world, &["coverage = \"warn\""])?;
    let report = world.run_expecting(exit::WARNINGS)?;
    ensure!(report.outcome == Outcome::Warnings && report.snapshot.is_some());
    let text = &report.warnings.first().context("a warning")?.text;
    ensure!(
        text.contains("/var/lib/mysql (mysql) is in no path"),
        "{text}"
    );
    set(
        &world,
        &[
            "coverage = \"fail\"",
            "coverage_ignore = [\"/var/lib/mysql\"]",
        ],
    )?;
    world.run()?;
    let before = world.snapshots()?.len();
    set(&world, &["coverage = \"fail\""])?;
    let report = world.run_expecting(exit::ERROR)?;
    ensure!(report.outcome == Outcome::Failed);
    let error = report.error.context("a reason")?;
    ensure!(error.contains("/var/lib/mysql"), "{error}");
    ensure!(world.snapshots()?.len() == before);
    Ok(())
}

#[test]
fn what_cannot_be_read_any_more_is_told_apart_from_what_never_could() -> Result<()> {
    let world = World::with(WorldOptions {
        user: Some(UNPRIVILEGED_USER.to_owned()),
        host_lines: vec!["coverage = \"warn\"".to_owned()],
        ..WorldOptions::default()
    })?;
    let close = |name: &str| -> Result<()> {
        let path = world.source().join(name);
        Ok(fs::set_permissions(
            path,
            fs::Permissions::from_mode(0o600),
        )?)
    };
    for name in ["never", "open"] {
        fs::write(world.source().join(name), "content")?;
    }
    close("never")?;
    let unread = |report: &RunReport, name: &str| {
        report.warnings.iter().any(|warning| {
            warning.text.contains("cannot be read any more") && warning.text.contains(name)
        })
    };
    let first = world.run_expecting(exit::WARNINGS)?;
    ensure!(
        first.problem_count == 1 && !unread(&first, "never"),
        "{first:?}"
    );
    close("open")?;
    let second = world.run_expecting(exit::WARNINGS)?;
    ensure!(second.problem_count == 2, "{second:?}");
    ensure!(
        unread(&second, "open") && !unread(&second, "never"),
        "{second:?}"
    );
    let third = world.run_expecting(exit::WARNINGS)?;
    ensure!(!unread(&third, "open"), "{third:?}");
    Ok(())
}

#[test]
fn what_a_new_rule_excludes_is_told_once() -> Result<()> {
    let world = world_with(&["coverage = \"warn\"", "coverage_ignore = [\"/\"]"])?;
    fs::create_dir_all(world.source().join("logs/old"))?;
    for name in ["file", "gone.txt", "a.log", "logs/b.log", "logs/old/c"] {
        fs::write(world.source().join(name), name)?;
    }
    world.run()?;
    fs::remove_file(world.source().join("gone.txt"))?;
    let rules = |rules: &str| -> Result<()> { set(&world, &[&format!("exclude = [{rules}]")]) };
    rules("\"*.log\", \"old/\"")?;
    let report = world.run_expecting(exit::WARNINGS)?;
    let text = &report.warnings.first().context("a warning")?.text;
    ensure!(text.starts_with("excluded now"), "{text}");
    for name in ["a.log", "logs/b.log", "logs/old"] {
        ensure!(text.contains(name), "{text}");
    }
    ensure!(
        !text.contains("gone.txt") && !text.contains("old/c"),
        "{text}"
    );
    // The next one's parent has it no more; what is not there leaves nothing out.
    world.run()?;
    rules("\"*.log\", \"old/\", \"*.none\"")?;
    world.run()?;
    Ok(())
}

fn cut(world: &World, key: &str) -> Result<()> {
    let report = world.run_expecting(exit::QUOTA)?;
    ensure!(report.snapshot.is_none() && report.outcome == Outcome::Failed);
    let error = report.error.context("a reason")?;
    ensure!(error.contains(key), "{error}");
    Ok(())
}

fn expect_last(world: &World, was: &Path, name: &str) -> Result<()> {
    let out = world.restore("latest", name)?;
    expect_equal(was, &below(&out, &world.source()))?;
    world.verify().map(drop)
}

#[test]
fn m19_a_hard_limit_cuts_the_run_and_keeps_the_last_good_snapshot() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("file"), text(1, FILE_BYTES))?;
    world.run()?;
    let was = world.directory().join("was");
    copy_tree(&world.source(), &was)?;
    fs::write(world.source().join("large"), incompressible(2, 12 << 20))?;

    set(&world, &["max_new = \"2MiB\""])?;
    cut(&world, "max_new")?;
    set(&world, &["quota = { soft = \"1MiB\", hard = \"4MiB\" }"])?;
    cut(&world, "quota")?;
    // Ten tebibytes of holes cost nothing but their name.
    let endless = fs::File::create(world.source().join("endless"))?;
    endless.set_len(10 << 40)?;
    set(&world, &["max_snapshot = \"1TiB\""])?;
    cut(&world, "max_snapshot")?;
    ensure!(world.snapshots()?.len() == 1);
    expect_last(&world, &was, "last")?;

    fs::remove_file(world.source().join("endless"))?;
    set(
        &world,
        &[
            "quota = { soft = \"8MiB\" }",
            "max_snapshot = { soft = \"8MiB\" }",
        ],
    )?;
    let report = world.run_expecting(exit::WARNINGS)?;
    let soft: Vec<&str> = report
        .warnings
        .iter()
        .map(|warning| warning.kind.as_str())
        .collect();
    ensure!(soft == ["quota", "quota"], "{report:?}");
    world.expect_restores("latest", "soft").map(drop)
}

#[test]
fn a_quota_in_a_shared_repository_counts_what_the_host_itself_brought() -> Result<()> {
    let world = World::new()?;
    let address = world.sshd().address().to_string();
    let fingerprint = world.sshd().fingerprint()?;
    let table = |name: &str, more: &str| -> Result<String> {
        let own = world.directory().join(name);
        fs::create_dir_all(&own)?;
        let hosts = world.hosts_toml(&address, &fingerprint)?;
        let hosts = hosts.replace(&format!("[host.{HOST}]"), &format!("[host.{name}]"));
        let hosts = hosts.replace(
            &format!("{:?}", world.source().display().to_string()),
            &format!("{:?}", own.display().to_string()),
        );
        Ok(format!("{hosts}repository = \"both\"\n{more}"))
    };
    let quota = "quota = \"6MiB\"\n";
    world.write_hosts(&[table("big", "")?, table("small", quota)?].concat())?;
    let run = |name: &str, code: i32| -> Result<RunReport> {
        let run = world.coordinator(&["run", name, "--json"])?;
        run.expect_code(code)?.json()
    };
    let file = |name: &str, file: &str| world.directory().join(name).join(file);
    fs::write(file("big", "a"), incompressible(1, 12 << 20))?;
    run("big", exit::OK)?;
    // It has the whole of the other's file, too, which the other one brought.
    fs::copy(file("big", "a"), file("small", "a"))?;
    fs::write(file("small", "b"), incompressible(2, 3 << 20))?;
    run("small", exit::OK)?;
    fs::write(file("small", "c"), incompressible(3, 5 << 20))?;
    let error = run("small", exit::QUOTA)?.error.context("an error")?;
    ensure!(error.contains("quota"), "{error}");
    // What the one brought is no matter of the other.
    fs::write(file("big", "b"), incompressible(4, 2 << 20))?;
    run("big", exit::OK)?;
    Ok(())
}

#[test]
fn what_is_kept_stays_in_later_snapshots_after_it_is_gone() -> Result<()> {
    let world = World::new()?;
    let source = world.source();
    let rule = format!("{}/archive/**", source.display());
    set(
        &world,
        &[&format!("keep_deleted = [{rule:?}, \"!{rule}/*.tmp\"]")],
    )?;
    fs::create_dir_all(source.join("archive/old"))?;
    for name in [
        "archive/0001",
        "archive/0002",
        "archive/old/0000",
        "archive/x.tmp",
        "other",
    ] {
        fs::write(source.join(name), format!("content of {name}"))?;
    }
    world.run()?;
    let in_latest = |name: &str, restored: &str| -> Result<Option<String>> {
        let out = world.output(restored);
        if !out.exists() {
            world.restore("latest", restored)?;
        }
        Ok(fs::read_to_string(below(&out, &source).join(name)).ok())
    };
    let content = |name: &str| Some(format!("content of {name}"));

    for name in ["archive/0001", "archive/x.tmp", "other"] {
        fs::remove_file(source.join(name))?;
    }
    fs::remove_dir_all(source.join("archive/old"))?;
    // Again each time, also when everything is read anew.
    for (round, more) in [&[][..], &["--full-read"], &[]].into_iter().enumerate() {
        world.run_within(DEADLINE, exit::OK, more)?;
        let out = format!("gone-{round}");
        for name in ["archive/0001", "archive/0002", "archive/old/0000"] {
            ensure!(in_latest(name, &out)? == content(name), "{name} in {round}");
        }
        for name in ["archive/x.tmp", "other"] {
            ensure!(in_latest(name, &out)?.is_none(), "{name} in {round}");
        }
    }

    // What comes back is as it is now; all of it may go.
    fs::write(source.join("archive/0001"), "another")?;
    world.run()?;
    ensure!(in_latest("archive/0001", "back")?.as_deref() == Some("another"));
    fs::remove_dir_all(source.join("archive"))?;
    world.run()?;
    ensure!(in_latest("archive/0001", "all")?.as_deref() == Some("another"));
    ensure!(in_latest("archive/old/0000", "all")? == content("archive/old/0000"));
    world.verify()?;

    // Something else in the place of a directory leaves no room for what was in it.
    fs::write(source.join("archive"), "a file")?;
    world.run()?;
    ensure!(in_latest("archive", "replaced")?.as_deref() == Some("a file"));
    world.forget_caches()?;
    world.verify().map(drop)
}
