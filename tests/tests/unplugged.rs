//! A target whose cable is pulled out: nothing arrives and nobody says so. The run ends in time, says what failed, commits
//! nothing that does not restore, and the next one succeeds.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::coordinator_process::{DEADLINE, Running};
use tests::corpus::bytes::incompressible;
use tests::host_network::HostNetwork;
use tests::processes;
use tests::shapes::{Outcome, RunReport, exit};
use tests::sshd::SshdOptions;
use tests::world::{HOST, World, WorldOptions};

/// How long a run may take to see that nobody answers: four keepalives of 15 seconds, and what ends after them.
const IN_TIME: Duration = Duration::from_secs(110);

/// A world whose target has a network of its own, and this many mebibytes to back up.
fn world(network: &Arc<HostNetwork>, mebibytes: u64) -> Result<World> {
    let world = World::with(WorldOptions {
        sshd: SshdOptions {
            network: Some(Arc::clone(network)),
            ..SshdOptions::default()
        },
        host_lines: vec!["limits = { tunnel_connections = 1 }".into()],
        ..WorldOptions::default()
    })?;
    for index in 0..mebibytes {
        let content = incompressible(index, 1 << 20);
        fs::write(world.source().join(format!("f{index:03}")), content)?;
    }
    Ok(world)
}

/// Waits until a run has stored two packs: the first one is verified by then, or nearly.
fn two_packs(world: &World, run: &mut Running) -> Result<()> {
    processes::wait_until("two packs", DEADLINE, || {
        ensure!(!run.has_ended()?, "it ended: {}", run.stderr_so_far());
        let mut packs = 0;
        for repository in fs::read_dir(world.repository())? {
            let folders = repository?.path().join("packs");
            for folder in folders.read_dir().into_iter().flatten() {
                packs += folder?.path().read_dir()?.count();
            }
        }
        Ok(packs >= 2)
    })
}

#[test]
fn a_cable_that_is_pulled_out_ends_the_run_in_time_and_the_next_one_succeeds() -> Result<()> {
    let network = Arc::new(HostNetwork::new()?);
    let world = world(&network, 200)?;
    let before = world.target_state()?;
    // Slow enough that most of it is still to come when two packs are there.
    network.slow_down(100_000_000)?;
    let mut run = world.start(&["run", HOST, "--json"])?;
    two_packs(&world, &mut run)?;
    network.unplug()?;
    let pulled = std::time::Instant::now();
    let finished = run.finish(DEADLINE + IN_TIME)?.expect_code(exit::ERROR)?;
    ensure!(pulled.elapsed() < IN_TIME, "{:?}", pulled.elapsed());
    let report: RunReport = finished.json()?;
    ensure!(report.outcome == Outcome::Failed && report.snapshot.is_none());
    finished.expect_stderr(&[HOST, "connection"])?;
    ensure!(world.snapshots()?.is_empty(), "a cut run committed");

    // As long as the cable is out, the next one says that the host is not there.
    world
        .coordinator(&["run", HOST, "--json"])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&[HOST, &network.address().to_string()])?;
    network.plug_in()?;
    network.speed_up()?;
    let report = world.run()?;
    ensure!(
        report.new_bytes < 190 << 20,
        "{} bytes were uploaded again",
        report.new_bytes
    );
    world.expect_restores("latest", "recovered")?;
    // What the first run left hanging on the target ends when the target hears that nobody listens.
    world.expect_target_clean(&before)
}
