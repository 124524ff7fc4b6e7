//! Snapshots of Btrfs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use tests::btrfs_disk::BtrfsDisk;
use tests::compare::expect_equal;
use tests::coordinator_process::{DEADLINE, Running};
use tests::corpus::bytes::incompressible;
use tests::processes::{self, Process, wait_until};
use tests::shapes::exit;
use tests::sshd::UNPRIVILEGED_USER;
use tests::world::{HOST, World, WorldOptions, below, copy_tree};

use crate::{SOON, fill, settle};

/// A target with a Btrfs disk.
struct Ground {
    // Order matters: the target, which has the disk mounted too, ends before the disk goes.
    world: World,
    disk: BtrfsDisk,
}

impl Ground {
    /// What is read is a subvolume that is mounted by itself.
    fn new(further: &str) -> Result<(Self, PathBuf)> {
        let mut disk = BtrfsDisk::new()?;
        disk.create("@data")?;
        let data = disk.mount("@data", "data")?;
        let world = world_of(&data, further)?;
        Ok((Self { world, disk }, data))
    }

    /// Starts a run and waits until its snapshot stands; gives the run and the snapshot's directory.
    fn start_and_wait(&self) -> Result<(Running, PathBuf)> {
        let earlier = self.disk.containers()?;
        let run = self.world.start(&["run", HOST, "--json"])?;
        let mut found = PathBuf::new();
        wait_until("the snapshot", SOON, || {
            for container in self.disk.containers()? {
                if !earlier.contains(&container) && container.join("0").exists() {
                    found = container;
                }
            }
            Ok(found != PathBuf::new())
        })?;
        Ok((run, found))
    }

    /// The shells that remove snapshots when an agent has ended.
    fn guards(&self) -> Result<Vec<Process>> {
        let mut found = self.world.sshd().processes()?;
        found.retain(|process| process.command.contains(".capstan-snapshot-"));
        Ok(found)
    }

    fn wait_until_removed(&self) -> Result<()> {
        wait_until("the snapshots' removal", SOON, || {
            Ok(self.disk.containers()?.is_empty())
        })
    }

    /// What the target has mounted, as its first process sees it.
    fn mounts(&self) -> Result<BTreeSet<String>> {
        let root = self.world.sshd().root_pid().context("the target is up")?;
        let table = fs::read_to_string(format!("/proc/{root}/mountinfo"))?;
        Ok(table.lines().map(str::to_owned).collect())
    }
}

fn world_of(source: &Path, further: &str) -> Result<World> {
    World::with(WorldOptions {
        paths: Some(vec![source.to_owned()]),
        host_lines: vec!["fs_snapshot = \"btrfs\"".into(), further.into()],
        ..WorldOptions::default()
    })
}

const SLOW: &str = "limits = { bandwidth = \"4MiB/s\" }";

#[test]
fn what_changes_after_the_snapshot_is_stored_as_it_was() -> Result<()> {
    let (ground, data) = Ground::new(SLOW)?;
    fs::create_dir(data.join("below"))?;
    fs::write(data.join("below/last"), "before")?;
    fill(&data, 24)?;
    settle()?;
    let before = ground.world.directory().join("before");
    copy_tree(&data, &before)?;
    let (clean, mounts) = (ground.world.target_state()?, ground.mounts()?);

    let (run, _) = ground.start_and_wait()?;
    fs::write(data.join("below/last"), "after, and longer")?;
    fs::write(data.join("below/new"), "new")?;
    for number in 0..24 {
        fs::remove_file(data.join(format!("large-{number:02}")))?;
    }
    run.finish(DEADLINE)?.expect_code(exit::OK)?;
    ground.wait_until_removed()?;
    ground.world.expect_target_clean(&clean)?;
    // What others on this machine unmount meanwhile is gone here, too.
    let now = ground.mounts()?;
    ensure!(now.is_subset(&mounts), "{:?}", now.difference(&mounts));
    let output = ground.world.restore("latest", "one")?;
    expect_equal(&before, &below(&output, &data))?;

    ground.world.run()?;
    let output = ground.world.restore("latest", "two")?;
    expect_equal(&data, &below(&output, &data))
}

#[test]
fn counters_in_two_files_are_never_further_apart_than_one_write() -> Result<()> {
    let (ground, data) = Ground::new("")?;
    let (first, last) = (data.join("a-counter"), data.join("z/counter"));
    for directory in 0..40 {
        let directory = data.join(format!("m{directory}"));
        fs::create_dir(&directory)?;
        for file in 0..50 {
            fs::write(
                directory.join(file.to_string()),
                incompressible(file, 4 << 10),
            )?;
        }
    }
    fs::create_dir(data.join("z"))?;
    let ended = Arc::new(AtomicBool::new(false));
    let writer = {
        let ended = ended.clone();
        let mut files = [fs::File::create(&first)?, fs::File::create(&last)?];
        thread::spawn(move || -> std::io::Result<u64> {
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                count += 1;
                for file in &mut files {
                    file.rewind()?;
                    write!(file, "{count:020}")?;
                    file.sync_all()?;
                }
            }
            Ok(count)
        })
    };
    let runs = || -> Result<()> {
        for round in 0..3 {
            ground.world.run()?;
            let output = ground.world.restore("latest", &format!("round-{round}"))?;
            let count = |path: &Path| -> Result<u64> {
                let text = fs::read_to_string(below(&output, path))?;
                // Before the first write there is nothing in it.
                Ok(text.parse().unwrap_or(0))
            };
            let (ahead, behind) = (count(&first)?, count(&last)?);
            eprintln!("round {round}: {ahead} and {behind}");
            ensure!(ahead == behind || ahead == behind + 1, "{ahead}, {behind}");
        }
        Ok(())
    };
    let done = runs();
    ended.store(true, Ordering::Relaxed);
    let count = writer.join().map_err(|_| anyhow::anyhow!("the writer"))??;
    done?;
    ensure!(
        count > 20,
        "the writer was too slow to show anything: {count}"
    );
    Ok(())
}

#[test]
fn a_second_run_reads_only_what_changed() -> Result<()> {
    let (ground, data) = Ground::new("")?;
    fill(&data, 24)?;
    std::os::unix::fs::symlink("large-00", data.join("link"))?;
    fs::hard_link(data.join("large-01"), data.join("hard"))?;
    settle()?;
    let first = ground.world.run()?;
    ensure!(first.bytes_read == 24 << 20, "{first:?}");
    let idle = ground.world.run()?;
    ensure!(idle.bytes_read == 0 && idle.new_bytes == 0, "{idle:?}");
    fs::write(data.join("large-07"), incompressible(100, 1 << 20))?;
    fs::remove_file(data.join("large-08"))?;
    let changed = ground.world.run()?;
    ensure!(changed.bytes_read == 1 << 20, "{changed:?}");
    let output = ground.world.restore("latest", "out")?;
    expect_equal(&data, &below(&output, &data))?;
    ensure!(ground.disk.containers()?.is_empty());
    Ok(())
}

#[test]
fn a_killed_agent_or_coordinator_leaves_no_snapshot() -> Result<()> {
    let (ground, data) = Ground::new(SLOW)?;
    fill(&data, 24)?;
    let clean = ground.world.target_state()?;
    let (run, _) = ground.start_and_wait()?;
    for agent in ground.world.sshd().agents()? {
        processes::kill(agent.pid)?;
    }
    run.finish(DEADLINE)?.expect_code(exit::ERROR)?;
    ground.wait_until_removed()?;

    let (mut run, _) = ground.start_and_wait()?;
    run.kill()?;
    run.finish(DEADLINE)?;
    ground.wait_until_removed()?;
    ground.world.expect_target_clean(&clean)?;
    ground.world.run()?;
    ensure!(ground.disk.containers()?.is_empty());
    Ok(())
}

#[test]
fn what_a_host_that_went_down_left_goes_with_the_next_run_and_nothing_else_does() -> Result<()> {
    let (mut ground, data) = Ground::new(SLOW)?;
    fill(&data, 24)?;
    let (run, left) = ground.start_and_wait()?;
    // All at once, as by a power cut: the guard has no time to remove anything.
    let guards = ground.guards()?;
    ensure!(guards.len() == 1, "{guards:?}");
    processes::kill(guards[0].pid)?;
    ground.world.sshd_mut().power_off()?;
    run.finish(DEADLINE)?.expect_code(exit::ERROR)?;
    ground.world.sshd_mut().power_on()?;
    ensure!(left.join("0/large-00").exists(), "there is a leftover");

    // Others' snapshots, under names that are close.
    let name = left
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();
    let digits = name
        .strip_prefix(".capstan-snapshot-")
        .context("its beginning")?;
    let (repository, run_id) = digits.split_once('-').context("its parts")?;
    let zeros = "0".repeat(repository.len());
    let of_other = format!(".capstan-snapshot-{zeros}-{run_id}");
    let others = [
        ground.disk.snapshot(&data, ".capstan-snapshot-mine")?,
        ground.disk.snapshot(&data, &format!("{name}x"))?,
        ground
            .disk
            .snapshot(&data, &name.replace(".capstan", "capstan"))?,
    ];
    let container = ground.disk.top().join(&of_other);
    fs::create_dir(&container)?;
    ground.disk.snapshot(&data, &format!("{of_other}/0"))?;

    ground.world.run()?;
    ensure!(!left.exists(), "the leftover is still there");
    for other in others.iter().chain([&container.join("0")]) {
        ensure!(other.join("large-00").exists(), "{}", other.display());
    }
    Ok(())
}

#[test]
fn nested_subvolumes_are_read_from_snapshots_of_their_own_and_mounts_as_they_are() -> Result<()> {
    let mut disk = BtrfsDisk::new()?;
    for path in ["@data", "@data/nested", "@data/nested/deeper", "@left out"] {
        let subvolume = disk.create(path)?;
        fs::write(subvolume.join("file"), path)?;
    }
    let memory = disk.top().join("@data/memory");
    fs::create_dir(&memory)?;
    disk.mount_memory(&memory)?;
    fs::write(memory.join("file"), "in memory")?;
    let top = disk.top();
    let world = world_of(&top, "exclude = [\"@left out/\"]")?;
    let ground = Ground { world, disk };
    let report = ground.world.run_expecting(exit::WARNINGS)?;
    ensure!(report.problem_count == 1, "{report:?}");
    let problem = &report.problems[0];
    ensure!(
        problem.path.ends_with("@data/memory") && problem.text.contains("tmpfs has none"),
        "{problem:?}"
    );
    let output = ground.world.restore("latest", "out")?;
    let restored = below(&output, &top);
    for path in ["@data", "@data/nested", "@data/nested/deeper"] {
        ensure!(fs::read_to_string(restored.join(path).join("file"))? == path);
    }
    ensure!(fs::read_to_string(restored.join("@data/memory/file"))? == "in memory");
    // Nothing of the run itself, and nothing that was left out.
    let mut names: Vec<_> = fs::read_dir(&restored)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    ensure!(names == ["@data"], "{names:?}");
    Ok(())
}

#[test]
fn a_subvolume_that_cannot_be_found_is_reported() -> Result<()> {
    let (ground, data) = Ground::new("")?;
    fs::write(data.join("file"), "content")?;
    // The list of subvolumes has one on each line.
    let odd = ground.disk.create("@data/odd\nname")?;
    fs::write(odd.join("file"), "content")?;
    let report = ground.world.run_expecting(exit::WARNINGS)?;
    ensure!(report.problem_count == 1, "{report:?}");
    ensure!(report.problems[0].text.contains("left out"), "{report:?}");
    Ok(())
}

#[test]
fn a_source_without_a_snapshot_fails_the_run() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec!["fs_snapshot = \"btrfs\"".into()],
        ..WorldOptions::default()
    })?;
    fs::write(world.source().join("file"), "content")?;
    let source = world.source().display().to_string();
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["not Btrfs", &source, "`fs_snapshot` to none"])?;
    ensure!(world.snapshots()?.is_empty());
    Ok(())
}

#[test]
fn without_root_the_run_fails() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec!["fs_snapshot = \"btrfs\"".into()],
        user: Some(UNPRIVILEGED_USER.into()),
        ..WorldOptions::default()
    })?;
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["needs root", "become"])?;
    ensure!(world.snapshots()?.is_empty());
    Ok(())
}
