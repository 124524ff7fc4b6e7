//! Destinations that keep different snapshots: what one drops goes there alone, everything that is kept at one restores from it
//! alone, and nothing that is not kept somewhere is called damage.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::coordinator_process::Finished;
use tests::history::{History, write};
use tests::places::{add_to_config, files_below, repository_in};
use tests::shapes::exit;
use tests::world::{HOST, World, WorldOptions};

/// Longer than the grace of these tests.
const PAST_GRACE: Duration = Duration::from_millis(2_200);
const MIB: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
struct Packs {
    packs: u64,
}

#[derive(Debug, Deserialize)]
struct KeptThere {
    destination: String,
    keep: Option<String>,
    snapshots: u64,
    dropped: u64,
    dead: Packs,
    ripe: Packs,
}

#[derive(Debug, Deserialize)]
struct StillThere {
    destination: String,
    packs: u64,
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PruneReport {
    executed: bool,
    forgotten: u64,
    removed: Packs,
    destinations: Vec<KeptThere>,
    still_there: Vec<StillThere>,
}

#[derive(Debug, Deserialize)]
struct Shown {
    dropped_at: Vec<String>,
}

/// `local` keeps the last snapshot, `far` what the host's rules say: the last four.
fn world(grace: &str) -> Result<(World, PathBuf)> {
    let world = World::with(WorldOptions {
        host_lines: vec!["keep = { last = 4 }".into(), "keep_floor = 1".into()],
        ..WorldOptions::default()
    })?;
    world.replace_config_line("#grace = ", &format!("grace = \"{grace}\""))?;
    world.replace_config_line("#keep = { daily", "keep = { last = 1 }")?;
    let far = world.directory().join("far-store");
    fs::create_dir(&far)?;
    let table = format!(
        "[[destination]]\nname = \"far\"\nurl = \"file://{}\"\nrequired = false\n",
        far.display()
    );
    add_to_config(&world, &table)?;
    world
        .coordinator(&["destination", "create", "far"])?
        .expect_code(exit::OK)?;
    Ok((world, far))
}

/// What is listed restores from each destination that keeps it, and alone; others say so. The newest are kept at `local`.
fn expect(history: &mut History, world: &World, listed: usize, at_local: usize) -> Result<()> {
    let snapshots = world.snapshots()?;
    ensure!(snapshots.len() == listed, "{snapshots:?}");
    for (number, snapshot) in snapshots.iter().enumerate() {
        let is_at_local = number + at_local >= listed;
        for from in [None, Some("far"), Some("local")] {
            let out = world.output(&history.fresh_output());
            let text = out.display().to_string();
            let mut arguments = vec!["restore", HOST, &snapshot.id, "--to", &text];
            arguments.extend(from.iter().flat_map(|name| ["--destination", name]));
            let finished = world.coordinator(&arguments)?;
            if from == Some("local") && !is_at_local {
                let told = finished.expect_code(exit::NOT_FOUND)?;
                told.expect_stderr(&["is not kept at local"])?;
                continue;
            }
            finished.expect_code(exit::OK)?;
            history.expect(world, &snapshot.id, &out)?;
        }
        let shown: Shown = world
            .coordinator(&["show", HOST, &snapshot.id, "--json"])?
            .expect_code(exit::OK)?
            .json()?;
        ensure!(shown.dropped_at.is_empty() == is_at_local, "{shown:?}");
    }
    world.verify()?;
    world
        .coordinator(&["scan", "--full", "--verify"])?
        .expect_code(exit::OK)?;
    Ok(())
}

fn pruned(world: &World) -> Result<PruneReport> {
    let reports: Vec<PruneReport> = world
        .coordinator(&["prune", HOST, "--yes", "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    let report = reports.into_iter().next().context("a report")?;
    ensure!(report.executed, "{report:?}");
    Ok(report)
}

/// The bytes of the data packs at a destination.
fn data_bytes(destination: &Path) -> Result<u64> {
    let mut bytes = 0;
    for pack in data_packs(destination)? {
        bytes += fs::metadata(pack)?.len();
    }
    Ok(bytes)
}

fn data_packs(destination: &Path) -> Result<BTreeSet<PathBuf>> {
    let packs = files_below(&repository_in(destination)?.join("packs"))?;
    Ok(packs.into_iter().collect())
}

#[test]
fn each_destination_keeps_what_its_rules_say_and_restores_it_alone() -> Result<()> {
    let (world, far) = world("1s")?;
    let near = world.repository();
    let mut history = History::five(&world)?;
    ensure!(data_bytes(&near)? == data_bytes(&far)?);

    let first = pruned(&world)?;
    let [at_local] = &first.destinations[..] else {
        anyhow::bail!("one destination keeps less: {first:?}");
    };
    ensure!(
        at_local.destination == "local" && at_local.keep.as_deref() == Some("{ last = 1 }"),
        "{first:?}"
    );
    ensure!(
        (first.forgotten, at_local.snapshots, at_local.dropped) == (1, 1, 3)
            && at_local.dead.packs > 0,
        "{first:?}"
    );
    ensure!(data_bytes(&near)? >= 18 * MIB, "nothing is removed yet");
    expect(&mut history, &world, 4, 1)?;

    std::thread::sleep(PAST_GRACE);
    let second = pruned(&world)?;
    ensure!(
        second.removed.packs > 0 && second.destinations[0].ripe.packs > 0,
        "{second:?}"
    );
    // What stays and the last `changes`; and at the other what four snapshots need.
    ensure!(data_bytes(&near)? < 6 * MIB, "{}", data_bytes(&near)?);
    ensure!((11 * MIB..13 * MIB).contains(&data_bytes(&far)?));
    expect(&mut history, &world, 4, 1)?;
    let packs = data_packs(&near)?;
    for command in [
        &["destination", "sync", "local"][..],
        &["scan", "--full", "--repair"],
    ] {
        world.coordinator(command)?.expect_code(exit::OK)?;
        ensure!(
            data_packs(&near)? == packs,
            "{command:?} brought packs back"
        );
    }

    // Content that only dropped snapshots have is stored anew, for every destination.
    write(&world, "again", 12, 2 << 20)?;
    ensure!(history.run(&world)?.new_bytes >= 2 * MIB);
    expect(&mut history, &world, 5, 2)?;
    world.forget_caches()?;
    expect(&mut history, &world, 5, 2)?;
    ensure!(history.run(&world)?.new_bytes == 0, "everything is known");

    // A coordinator that has one destination alone.
    recovered_from_local(&world, &history)
}

fn recovered_from_local(world: &World, history: &History) -> Result<()> {
    let listed = world.snapshots()?;
    let kit = world.directory().join("kit.txt");
    fs::copy(world.coordinator_dir().join("recovery-kit.txt"), &kit)?;
    fs::set_permissions(&kit, fs::Permissions::from_mode(0o600))?;
    let dir = world.directory().join("recovered");
    let url = format!("file://{}", world.repository().display());
    let arguments: Vec<OsString> = [
        "recover",
        "--dir",
        "DIR",
        "--kit",
        "KIT",
        "--destination",
        &url,
        "--set",
        "name=local",
    ]
    .iter()
    .map(|word| match *word {
        "DIR" => dir.clone().into(),
        "KIT" => kit.clone().into(),
        word => word.into(),
    })
    .collect();
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let recovered = world.coordinator_raw(&arguments)?;
    let told = recovered.expect_code(exit::OK)?.stdout_text().to_owned();
    ensure!(
        told.contains("3 of the snapshots are kept at other destinations only"),
        "{told}"
    );
    let config = dir.join("coordinator.toml");
    let with = |arguments: &[&str]| -> Result<Finished> {
        let mut all: Vec<&OsStr> = vec![OsStr::new("-c"), config.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        world.coordinator_raw(&all)
    };
    for (number, snapshot) in listed.iter().enumerate() {
        let out = world.output(&format!("recovered-{number}"));
        let text = out.display().to_string();
        let restored = with(&["restore", HOST, &snapshot.id, "--to", &text])?;
        if number < 3 {
            restored
                .expect_code(exit::NOT_FOUND)?
                .expect_stderr(&["is not kept at local"])?;
            continue;
        }
        restored.expect_code(exit::OK)?;
        history.expect(world, &snapshot.id, &out)?;
    }
    with(&["verify", HOST])?.expect_code(exit::OK)?;
    with(&["scan", "--full", "--verify"])?.expect_code(exit::OK)?;
    Ok(())
}

#[test]
fn nothing_goes_at_one_destination_that_another_is_to_keep_and_does_not_have() -> Result<()> {
    let (world, far) = world("1s")?;
    let near = world.repository();
    let mut history = History::five(&world)?;
    pruned(&world)?;
    // Everything that `far` has of what goes at `local`, but not where anybody has noticed it.
    let aside = world.directory().join("aside");
    fs::create_dir(&aside)?;
    for (number, pack) in data_packs(&far)?.iter().enumerate() {
        fs::rename(pack, aside.join(number.to_string()))?;
    }
    std::thread::sleep(PAST_GRACE);
    let report = pruned(&world)?;
    let still = report
        .still_there
        .iter()
        .find(|still| still.destination == "local")
        .context("packs that are still there")?;
    ensure!(
        still.packs > 0
            && still
                .problem
                .as_deref()
                .unwrap_or_default()
                .contains("far does not have it"),
        "{report:?}"
    );
    ensure!(data_bytes(&near)? >= 11 * MIB, "what four snapshots need");
    world
        .coordinator(&["scan", "--repair"])?
        .expect_code(exit::WARNINGS)?;
    expect(&mut history, &world, 4, 1)
}

#[test]
fn what_was_dropped_at_one_destination_comes_back_within_the_grace() -> Result<()> {
    let (world, _far) = world("7d")?;
    let mut history = History::five(&world)?;
    pruned(&world)?;
    expect(&mut history, &world, 4, 1)?;
    world
        .coordinator(&["undelete", HOST])?
        .expect_code(exit::OK)?;
    expect(&mut history, &world, 5, 5)?;
    world.forget_caches()?;
    expect(&mut history, &world, 5, 5)?;
    ensure!(
        history.run(&world)?.new_bytes == 0,
        "everything is built upon again"
    );
    Ok(())
}
