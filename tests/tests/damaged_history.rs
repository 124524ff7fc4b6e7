//! Damage to the history itself, a log record or a listing, with no other copy left: what is sound is still listed, read
//! and recovered, what is not is named, and backups go on where that is safe. And a destination that is not what it was is
//! noticed by the next run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tests::corpus::bytes::incompressible;
use tests::places::{add_to_config, files_below, repository_in};
use tests::shapes::{Outcome, SnapshotLine, exit};
use tests::world::{HOST, World, below, copy_tree};

fn flip(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("it is not empty")? ^= 1;
    fs::remove_file(file)?;
    Ok(fs::write(file, bytes)?)
}

/// Three snapshots; gives the meta packs that the last one added.
fn three_snapshots(world: &World) -> Result<Vec<PathBuf>> {
    let mut meta = Vec::new();
    for run in 0..3u8 {
        let bytes = incompressible(u64::from(run), 1 << 20);
        fs::write(world.source().join(format!("file-{run}")), bytes)?;
        world.run()?;
        let now = files_below(&repository_in(&world.repository())?.join("meta"))?;
        if run == 2 {
            return Ok(now
                .into_iter()
                .filter(|file| !meta.contains(file))
                .collect());
        }
        meta = now;
    }
    Ok(Vec::new())
}

fn listed(world: &World, code: i32) -> Result<Vec<SnapshotLine>> {
    world
        .coordinator(&["snapshots", HOST, "--json"])?
        .expect_code(code)?
        .json()
}

fn restore(world: &World, snapshot: &str, name: &str, code: i32) -> Result<PathBuf> {
    let out = world.output(name);
    let to = out.display().to_string();
    world
        .coordinator(&["restore", HOST, snapshot, "--to", &to])?
        .expect_code(code)?;
    Ok(out)
}

#[test]
fn a_damaged_log_record_hides_what_comes_after_it_and_nothing_before() -> Result<()> {
    let world = World::new()?;
    three_snapshots(&world)?;
    let all = listed(&world, exit::OK)?;
    let log = repository_in(&world.repository())?.join("log");
    // The last: a lease and settings are the first two.
    flip(&log.join(format!("{:020}", 5)))?;

    // What is known here already stays known, and nothing is written after a record that is not what it was.
    ensure!(listed(&world, exit::INTEGRITY)?.len() == 3);
    let run = world.coordinator(&["run", HOST])?;
    run.expect_code(exit::INTEGRITY)?;

    world.forget_caches()?;
    let left = listed(&world, exit::INTEGRITY)?;
    ensure!(left.len() == 2, "{left:?}");
    restore(&world, &all[1].id, "by-id", exit::OK)?;
    let latest = world.output("latest").display().to_string();
    world
        .coordinator(&["restore", HOST, "latest", "--to", &latest])?
        .expect_code(exit::INTEGRITY)?
        .expect_stderr(&["newer snapshot may be there", "by its id"])?;
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::INTEGRITY)?;

    // A hole is told as one, and the records before it are there.
    world.forget_caches()?;
    fs::remove_file(log.join(format!("{:020}", 4)))?;
    ensure!(listed(&world, exit::INTEGRITY)?.len() == 1);
    restore(&world, &all[0].id, "before-the-hole", exit::OK)?;
    Ok(())
}

#[test]
fn a_lost_listing_costs_its_snapshot_and_no_other() -> Result<()> {
    let world = World::new()?;
    let added = three_snapshots(&world)?;
    let all = listed(&world, exit::OK)?;
    let aside = world.directory().join("aside");
    fs::create_dir(&aside)?;
    for (number, file) in added.iter().enumerate() {
        fs::rename(file, aside.join(number.to_string()))?;
    }
    world.forget_caches()?;

    ensure!(listed(&world, exit::OK)?.len() == 3);
    for (number, line) in all.iter().take(2).enumerate() {
        restore(&world, &line.id, &format!("sound-{number}"), exit::OK)?;
    }
    restore(&world, &all[2].id, "lost", exit::INTEGRITY)?;
    // Without the last listing every file is read again, and that is a snapshot like any other.
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::OK)?
        .expect_stderr(&["the last snapshot's listing is damaged"])?;
    world.expect_restores("latest", "after")?;

    // Put back, it is known again.
    for (number, file) in added.iter().enumerate() {
        fs::rename(aside.join(number.to_string()), file)?;
    }
    restore(&world, &all[2].id, "back", exit::OK)?;
    Ok(())
}

#[test]
fn files_that_are_kept_and_whose_listing_is_lost_put_the_host_on_hold() -> Result<()> {
    let world = World::new()?;
    let address = world.sshd().address().to_string();
    let hosts = world.hosts_toml(&address, &world.sshd().fingerprint()?)?;
    let rule = format!("{}/*.kept", world.source().display());
    world.write_hosts(&format!("{hosts}keep_deleted = [{rule:?}]\n"))?;
    let kept = world.source().join("gone.kept");
    fs::write(&kept, "to be kept")?;
    let added = three_snapshots(&world)?;
    fs::remove_file(&kept)?;
    for file in &added {
        fs::remove_file(file)?;
    }
    world.forget_caches()?;

    // The new data is taken in, and what the new snapshot lacks stays in the older ones.
    let report = world.run_expecting(exit::WARNINGS)?;
    ensure!(report.outcome == Outcome::Held, "{report:?}");
    let why = report.held.context("a reason")?;
    ensure!(why.contains("keep_deleted"), "{why}");
    world.expect_restores("latest", "after")?;
    let all = listed(&world, exit::OK)?;
    ensure!(all.len() == 4 && all.iter().all(|line| line.on_hold));
    let out = restore(&world, &all[1].id, "before", exit::OK)?;
    ensure!(fs::read(below(&out, &kept))? == b"to be kept");
    Ok(())
}

#[test]
fn a_destination_that_is_not_what_it_was_is_noticed_by_the_next_run() -> Result<()> {
    let world = World::new()?;
    let (second, third) = (
        world.directory().join("second"),
        world.directory().join("third"),
    );
    for (name, path, required) in [("second", &second, true), ("third", &third, false)] {
        let table = format!(
            "\n[[destination]]\nname = \"{name}\"\nurl = \"file://{}\"\nrequired = {required}\n",
            path.display()
        );
        add_to_config(&world, &table)?;
        world
            .coordinator(&["destination", "create", name])?
            .expect_code(exit::OK)?;
    }
    for run in 0..2 {
        fs::write(world.source().join("file"), format!("run {run}"))?;
        world.run()?;
    }
    world
        .coordinator(&["destination", "sync", "third"])?
        .expect_code(exit::OK)?;

    // One that follows was set back to the day before: told, and the run is good.
    let newest = format!("log/{:020}", 4);
    fs::remove_file(repository_in(&third)?.join(&newest))?;
    fs::write(world.source().join("file"), "run 2")?;
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::OK)?
        .expect_stderr(&["third", "rolled back, forked, emptied"])?;

    // One that is required was: nothing is committed before it is looked at.
    let newest = repository_in(&second)?.join(format!("log/{:020}", 5));
    let record = fs::read(&newest)?;
    flip(&newest)?;
    for _ in 0..2 {
        world
            .coordinator(&["run", HOST])?
            .expect_code(exit::INTEGRITY)?
            .expect_stderr(&["destination second", "scan --destination second"])?;
    }
    fs::remove_file(&newest)?;
    for _ in 0..2 {
        world
            .coordinator(&["run", HOST])?
            .expect_code(exit::ERROR)?
            .expect_stderr(&["second", "lacks", "destination sync second"])?;
    }
    ensure!(world.snapshots()?.len() == 3);
    // Healed by a scan, it goes on.
    world.coordinator(&["scan", "--repair"])?;
    ensure!(fs::read(&newest)? == record, "the scan puts it back");
    world.run()?;
    Ok(())
}

/// The index or the catalog of yesterday, put back from a backup of the coordinator's disk.
#[test]
fn yesterdays_caches_catch_up_with_the_log() -> Result<()> {
    let world = World::new()?;
    let caches = world.coordinator_dir().join("state/repositories");
    fs::write(world.source().join("first"), incompressible(20, 1 << 20))?;
    world.run()?;
    let yesterday = world.directory().join("yesterday");
    copy_tree(&caches, &yesterday)?;
    for run in 0..2u8 {
        let bytes = incompressible(u64::from(run) + 21, 1 << 20);
        fs::write(world.source().join(format!("later-{run}")), bytes)?;
        world.run()?;
    }
    let old = files_below(&yesterday)?;
    let is = |file: &Path, name: &str| file.file_name().is_some_and(|found| found == name);
    for name in ["index.db", "catalog.db"] {
        let old = old
            .iter()
            .find(|file| is(file, name))
            .context("it was there")?;
        for file in files_below(&caches)? {
            let rest = file
                .file_name()
                .and_then(|found| found.to_str())
                .unwrap_or_default();
            if rest.starts_with(name) {
                fs::remove_file(&file)?;
            }
        }
        let at = caches.join(old.strip_prefix(&yesterday)?);
        fs::copy(old, at)?;
        // Nothing is stored twice, nothing is missing.
        let report = world.run()?;
        ensure!(report.new_bytes == 0, "{name}: {report:?}");
        world.expect_restores("latest", name)?;
        ensure!(world.verify()?.outcome == Outcome::Ok, "{name}");
    }
    ensure!(listed(&world, exit::OK)?.len() == 5);
    Ok(())
}
