//! Packs that no destination has any more: a scan that repairs takes them out of what backups build on, and the next run
//! reads again what the host still has. Snapshots from before are whole again with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::corpus::bytes::incompressible;
use tests::places::{files_below, repository_in};
use tests::shapes::{RunReport, exit};
use tests::world::{HOST, World};

/// One element of `scan --json`.
#[derive(Debug, Deserialize)]
struct ScanReport {
    lost: Vec<String>,
    found_again: Vec<String>,
    lost_files: Vec<String>,
}

fn scan(world: &World, arguments: &[&str], code: i32) -> Result<ScanReport> {
    let arguments = [&["scan", "--json"], arguments].concat();
    let finished = world.coordinator(&arguments)?;
    let scans: Vec<ScanReport> = finished.expect_code(code)?.json()?;
    scans.into_iter().next().context("a repository")
}

/// Two snapshots: the first with a file of a long content list, the second with one more file. Gives the objects of a
/// folder of the repository that each of them added.
fn two_snapshots(world: &World, folder: &str) -> Result<[Vec<PathBuf>; 2]> {
    let folder = |world: &World| -> Result<Vec<PathBuf>> {
        files_below(&repository_in(&world.repository())?.join(folder))
    };
    fs::write(world.source().join("long"), incompressible(1, 48 << 20))?;
    fs::write(world.source().join("old"), incompressible(2, 1 << 20))?;
    world.run()?;
    let first = folder(world)?;
    fs::write(world.source().join("new"), incompressible(3, 1 << 20))?;
    world.run()?;
    let both = folder(world)?;
    let second = both.into_iter().filter(|file| !first.contains(file));
    let second = second.collect();
    Ok([first, second])
}

fn take_away(world: &World, objects: &[PathBuf]) -> Result<PathBuf> {
    let aside = world.directory().join("aside");
    fs::create_dir(&aside)?;
    for (number, object) in objects.iter().enumerate() {
        fs::rename(object, aside.join(number.to_string()))?;
    }
    Ok(aside)
}

fn put_back(aside: &Path, objects: &[PathBuf]) -> Result<()> {
    for (number, object) in objects.iter().enumerate() {
        fs::rename(aside.join(number.to_string()), object)?;
    }
    Ok(())
}

fn oldest(world: &World) -> Result<String> {
    let snapshots = world.snapshots()?;
    Ok(snapshots.first().context("a snapshot")?.id.clone())
}

#[test]
fn what_no_destination_has_is_read_again_and_heals_older_snapshots() -> Result<()> {
    let world = World::new()?;
    let [first, _] = two_snapshots(&world, "packs")?;
    let oldest = oldest(&world)?;
    let aside = take_away(&world, &first)?;

    // Told by a scan that only looks, which changes nothing.
    for _ in 0..2 {
        let told = scan(&world, &[], exit::INTEGRITY)?;
        ensure!(told.lost.len() == first.len(), "{told:?}");
    }
    let told = scan(&world, &["--repair"], exit::INTEGRITY)?;
    ensure!(told.lost.len() == first.len(), "{told:?}");
    let names = |file: &str| told.lost_files.iter().any(|line| line.ends_with(file));
    ensure!(
        names("/long") && names("/old") && !names("/new"),
        "{told:?}"
    );

    // Neither file changed, and both are read again: the long one, whose content list is not in the listing, too.
    world.run()?;
    world.expect_restores("latest", "after")?;
    let out = world.restore(&oldest, "oldest")?;
    for file in ["long", "old"] {
        let original = world.source().join(file);
        let restored = tests::world::below(&out, &original);
        ensure!(fs::read(restored)? == fs::read(original)?, "{file}");
    }
    let healed = scan(&world, &["--full", "--verify"], exit::OK)?;
    ensure!(healed.lost.is_empty() && healed.lost_files.is_empty());

    // A coordinator that knows nothing but the log uses the place that is there.
    let caches = world.coordinator_dir().join("state/repositories");
    let kept = world.directory().join("kept");
    fs::rename(&caches, &kept)?;
    world.expect_restores("latest", "after-from-the-log")?;
    world.forget_caches()?;
    fs::rename(&kept, &caches)?;

    // What comes back is taken in again, once it was found whole.
    put_back(&aside, &first)?;
    let found = scan(&world, &["--repair"], exit::OK)?;
    ensure!(found.found_again.len() == first.len(), "{found:?}");
    let found = scan(&world, &["--full", "--verify"], exit::OK)?;
    ensure!(found.found_again.is_empty(), "{found:?}");
    world.run()?;
    world.expect_restores("latest", "in-the-end")?;
    Ok(())
}

#[test]
fn what_comes_back_damaged_is_not_taken_in_again() -> Result<()> {
    let world = World::new()?;
    let [_, second] = two_snapshots(&world, "packs")?;
    let aside = take_away(&world, &second)?;
    scan(&world, &["--repair"], exit::INTEGRITY)?;
    put_back(&aside, &second)?;
    let pack = second.first().context("a pack")?;
    let mut bytes = fs::read(pack)?;
    *bytes.first_mut().context("it is not empty")? ^= 1;
    fs::remove_file(pack)?;
    fs::write(pack, bytes)?;

    let told = scan(&world, &["--repair"], exit::INTEGRITY)?;
    ensure!(told.found_again.is_empty(), "{told:?}");
    ensure!(!told.lost_files.is_empty(), "{told:?}");
    world.run()?;
    world.expect_restores("latest", "after")?;
    Ok(())
}

#[test]
fn lost_meta_packs_are_written_again_by_the_next_run() -> Result<()> {
    let world = World::new()?;
    let [first, second] = two_snapshots(&world, "meta")?;
    take_away(&world, &[first, second].concat())?;
    let told = scan(&world, &["--repair"], exit::INTEGRITY)?;
    ensure!(!told.lost.is_empty(), "{told:?}");
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::OK)?
        .expect_stderr(&["the last snapshot's listing is damaged"])?;
    world.expect_restores("latest", "after")?;

    // The data packs' tables, which the lost packs had, are in the new ones: nothing is stored twice for it.
    world.forget_caches()?;
    world.expect_restores("latest", "from-the-log")?;
    let report = world.run()?;
    ensure!(report.new_bytes == 0, "{report:?}");
    Ok(())
}

/// What only storage has of a deleted file is lost with its pack: the run says which file, and goes on with the rest.
#[test]
fn a_kept_file_whose_packs_are_lost_is_told_by_its_path() -> Result<()> {
    let world = World::new()?;
    let address = world.sshd().address().to_string();
    let hosts = world.hosts_toml(&address, &world.sshd().fingerprint()?)?;
    let rule = format!("{}/kept-*", world.source().display());
    world.write_hosts(&format!("{hosts}keep_deleted = [{rule:?}]\n"))?;
    fs::write(world.source().join("kept-lost"), incompressible(4, 1 << 20))?;
    world.run()?;
    let folder = repository_in(&world.repository())?.join("packs");
    let first = files_below(&folder)?;
    fs::write(world.source().join("kept-safe"), incompressible(5, 1 << 20))?;
    world.run()?;
    for name in ["kept-lost", "kept-safe"] {
        fs::remove_file(world.source().join(name))?;
    }
    fs::write(world.source().join("other"), "content")?;
    take_away(&world, &first)?;
    scan(&world, &["--repair"], exit::INTEGRITY)?;

    let run = world.coordinator(&["run", HOST, "--json"])?;
    let report: RunReport = run.expect_code(exit::WARNINGS)?.json()?;
    ensure!(report.problem_count == 1, "{report:?}");
    let problem = report.problems.first().context("a problem")?;
    ensure!(problem.path.ends_with("/kept-lost"), "{report:?}");
    ensure!(problem.text.contains("scan --repair"), "{report:?}");
    let out = world.restore("latest", "after")?;
    let there = |name: &str| tests::world::below(&out, &world.source().join(name)).exists();
    ensure!(there("kept-safe") && there("other") && !there("kept-lost"));
    // It was told; what is not in the last snapshot is not kept from it.
    world.run()?;
    Ok(())
}

/// A pack that is damaged everywhere is not given up: most of it can still be read.
#[test]
fn what_is_left_of_a_damaged_pack_is_restored() -> Result<()> {
    let world = World::new()?;
    let [first, _] = two_snapshots(&world, "packs")?;
    let pack = first.first().context("a pack")?;
    let mut bytes = fs::read(pack)?;
    *bytes.first_mut().context("it is not empty")? ^= 1;
    fs::remove_file(pack)?;
    fs::write(pack, bytes)?;
    let told = scan(&world, &["--full", "--repair"], exit::INTEGRITY)?;
    ensure!(told.lost.len() == 1, "{told:?}");
    for file in ["long", "old"] {
        fs::remove_file(world.source().join(file))?;
    }
    world.run()?;
    let out = world.output("oldest").display().to_string();
    world
        .coordinator(&["restore", HOST, &oldest(&world)?, "--to", &out])?
        .expect_code(exit::INTEGRITY)?;
    let old = tests::world::below(Path::new(&out), &world.source().join("old"));
    ensure!(fs::read(old)? == incompressible(2, 1 << 20));
    Ok(())
}
