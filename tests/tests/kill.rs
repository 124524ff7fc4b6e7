//! `kill -9` of agent, coordinator, append-server and target at many points of a run. Afterwards every snapshot that is
//! listed restores, nothing acknowledged is lost, the next run succeeds and uploads only what was missing, and nothing is
//! left on the target.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::compare::expect_equal;
use tests::corpus::bytes::{incompressible, text};
use tests::killer::{Hit, Victim, points, run_and_kill, seed};
use tests::world::{World, WorldOptions, below};

/// Bytes of the part that every round adds.
const ROUND_BYTES: usize = 12 << 20;
/// Rounds that stay in the source.
const ROUNDS_KEPT: usize = 3;

#[test]
fn agent_and_coordinator_killed_thirty_times() -> Result<()> {
    campaign(
        WorldOptions::default(),
        &[Victim::Agent, Victim::Coordinator],
        30,
        1,
    )
}

#[test]
fn append_server_and_coordinator_killed_twenty_times() -> Result<()> {
    let options = WorldOptions {
        separate_append_server: true,
        ..WorldOptions::default()
    };
    campaign(
        options,
        &[
            Victim::AppendServer,
            Victim::AppendServer,
            Victim::Coordinator,
        ],
        20,
        2,
    )
}

#[test]
fn target_switched_off_ten_times() -> Result<()> {
    campaign(WorldOptions::default(), &[Victim::Target], 10, 3)
}

fn campaign(options: WorldOptions, victims: &[Victim], count: u32, salt: u64) -> Result<()> {
    let mut world = World::with(options)?;
    let seed = seed()? ^ salt;
    add_round(&world, seed, 1_000_000)?;
    let start = Instant::now();
    world.run()?;
    // The first run creates the repository; a second with as much to do gives the typical time.
    let mut typical = start.elapsed();
    add_round(&world, seed, 1_000_001)?;
    let start = Instant::now();
    world.run()?;
    typical = typical.min(start.elapsed());
    let clean = world.target_state()?;
    let mut committed = world.snapshots()?.len();
    let mut hits = 0;
    let mut rounds = VecDeque::new();
    for point in points(seed, victims, count, typical) {
        rounds.push_back(add_round(&world, seed, point.index)?);
        // Old rounds go from the source, so that the last kill costs no more time than the first.
        if rounds.len() > ROUNDS_KEPT
            && let Some(old) = rounds.pop_front()
        {
            fs::remove_dir_all(old)?;
        }
        let hit = run_and_kill(&mut world, point).with_context(|| format!("{point:?}"))?;
        hits += u32::from(hit == Hit::Killed);
        committed = after_the_kill(&world, committed, &clean)
            .with_context(|| format!("after {point:?}, {hit:?}"))?;
    }
    world.verify()?;
    eprintln!("{count} kill points of {victims:?} over {typical:?}, {hits} hit a run under way");
    // A point early in a run may come before an agent is there, and one late after the end; at least half must hit.
    ensure!(
        hits * 2 >= count,
        "only {hits} of {count} kills hit a run: the test looks at too little"
    );
    Ok(())
}

/// Checks everything that must hold, and gives the number of snapshots there are now.
fn after_the_kill(
    world: &World,
    committed: usize,
    clean: &tests::target_state::TargetState,
) -> Result<usize> {
    world.expect_target_clean(clean)?;
    let listed = world.snapshots()?;
    ensure!(
        listed.len() >= committed,
        "a snapshot is gone: {committed} were committed, {} are listed",
        listed.len()
    );
    ensure!(
        listed.len() <= committed + 1,
        "one run committed {} snapshots",
        listed.len() - committed
    );
    let newest = world.restore("latest", "after-kill")?;
    if listed.len() > committed {
        // The killed run had committed: then it must be whole.
        expect_equal(&world.source(), &below(&newest, &world.source()))
            .context("the snapshot of the killed run")?;
    }
    fs::remove_dir_all(&newest)?;
    let stored = repository_bytes(world)?;
    let next = world.run().context("the run after the kill")?;
    world.expect_target_clean(clean)?;
    ensure!(
        next.new_bytes <= ROUND_BYTES as u64 + (1 << 20),
        "{} bytes were uploaded again",
        next.new_bytes
    );
    ensure!(
        repository_bytes(world)? >= stored,
        "something acknowledged is gone from the destination"
    );
    let output = world.expect_restores("latest", "next")?;
    fs::remove_dir_all(&output)?;
    // The same once more has nothing to upload: everything the next run used is known and stored.
    let idle = world.run()?;
    ensure!(
        idle.new_bytes == 0,
        "an idle run uploaded {} bytes",
        idle.new_bytes
    );
    Ok(world.snapshots()?.len())
}

/// New data for one round: a large file, small ones, and a change of an old one.
fn add_round(world: &World, seed: u64, index: u32) -> Result<PathBuf> {
    let directory = world.source().join(format!("round-{index}"));
    fs::create_dir(&directory)?;
    let salt = seed ^ u64::from(index) << 20;
    fs::write(
        directory.join("large"),
        incompressible(salt, ROUND_BYTES - (600 << 10)),
    )?;
    for small in 0..50_u64 {
        fs::write(
            directory.join(format!("small-{small}")),
            text(salt ^ small, 8 << 10),
        )?;
    }
    fs::write(
        world.source().join("changes-every-time"),
        incompressible(!salt, 100 << 10),
    )?;
    // Old enough not to be in the second of the run: unchanged files are then not read again.
    let old =
        std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + u64::from(index));
    fs::File::open(directory.join("large"))?.set_modified(old)?;
    Ok(directory)
}

fn repository_bytes(world: &World) -> Result<u64> {
    fn add_up(directory: &Path) -> std::io::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = entry.file_name();
            if metadata.is_dir() {
                sum += add_up(&entry.path())?;
            } else if !name.to_string_lossy().starts_with('.') {
                sum += metadata.len();
            }
        }
        Ok(sum)
    }
    add_up(&world.repository()).context("adding up the destination")
}
