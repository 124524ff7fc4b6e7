//! A hostile target: what it says is refused or harmless, and it can neither reach anything else nor stop the
//! coordinator. Each test names the rows of the fault list it covers.

mod conversation;
mod ssh;
mod stored;
mod trees;
mod tunnel;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::coordinator_process::Finished;
use tests::hostile_agent::tree::{below, directory, file, symlink};
use tests::hostile_agent::{AgentScript, HostileAgent, script};
use tests::hostile_sshd::{HostileOptions, HostileSshd};
use tests::shapes::{Outcome, RunReport, exit};
use tests::world::{HOST, World, WorldOptions};

/// A run against a hostile target is over at the latest after this.
const RUN_DEADLINE: Duration = Duration::from_secs(90);
/// What a coordinator may take while it is lied to.
const RSS_BYTES_MAX: u64 = 400 << 20;

const LIE: &[i32] = &[exit::ERROR, exit::INTEGRITY];

/// A coordinator whose host is a hostile server, with short deadlines.
fn hostile_world(options: HostileOptions) -> Result<(World, HostileSshd)> {
    let limits = "limits = { connect = \"4s\", idle = \"6s\", run = \"60s\" }";
    let world = World::with(WorldOptions {
        host_lines: vec![limits.into()],
        ..WorldOptions::default()
    })?;
    let server = HostileSshd::start(&world.directory().join("hostile"), options)?;
    point_at(&world, &server)?;
    Ok((world, server))
}

fn point_at(world: &World, server: &HostileSshd) -> Result<()> {
    // The key that logs in is the world's own; the hostile server takes any.
    world.write_hosts(&world.hosts_toml(&server.address().to_string(), server.fingerprint())?)
}

fn played(agent: Arc<dyn AgentScript>) -> HostileOptions {
    HostileOptions {
        agent: Some(agent),
        ..HostileOptions::default()
    }
}

/// The source's path as listings have it; it differs from world to world, so a script asks its orders.
fn source_of(agent: &HostileAgent) -> Result<Vec<u8>> {
    agent
        .orders()?
        .rules
        .sources
        .first()
        .cloned()
        .context("orders without a source")
}

/// A run that must not end well: it fails in time, within memory, with clean output and no snapshot.
fn is_refused(world: &World, codes: &[i32]) -> Result<Finished> {
    let finished = world.coordinator_within(RUN_DEADLINE, &["run", HOST, "--json"])?;
    let code = finished.code.context("the coordinator died of a signal")?;
    ensure!(
        codes.contains(&code),
        "exit code {code} where one of {codes:?} was expected: {}{}",
        finished.stdout_text(),
        finished.stderr_text()
    );
    let finished = finished.expect_no_control_characters()?;
    ensure!(
        finished.stderr.len() < 1 << 20,
        "{} bytes on stderr",
        finished.stderr.len()
    );
    let report: RunReport = finished.json()?;
    ensure!(
        report.outcome == Outcome::Failed && report.snapshot.is_none(),
        "{report:?}"
    );
    ensure!(
        report.coordinator_rss_bytes < RSS_BYTES_MAX,
        "{} MiB resident",
        report.coordinator_rss_bytes >> 20
    );
    ensure!(world.snapshots()?.is_empty(), "a lie was committed");
    Ok(finished)
}

/// Runs one lie, which must be refused; the agent must have come as far as being started.
fn refuses(what: &str, agent: Arc<dyn AgentScript>) -> Result<Finished> {
    let (world, server) = hostile_world(played(agent))?;
    let finished = is_refused(&world, LIE).with_context(|| what.to_owned())?;
    ensure!(
        server.observed().agents_started.load(Ordering::Relaxed) == 1,
        "{what}: the agent was never started, so nothing was tested"
    );
    Ok(finished)
}

#[test]
fn an_honest_played_agent_is_believed_and_restores() -> Result<()> {
    // Without this one, every refusal below could be for the wrong reason.
    let agent = script(|agent| {
        Box::pin(async move {
            agent.greet().await?;
            agent.open_tunnel().await?;
            let entries = [
                file(b"a", 100, b"content of a"),
                directory(b"b", 101),
                symlink(b"c", 102, b"a"),
            ];
            let tree = below(
                &source_of(agent)?,
                &entries,
                &[(b"b", &[file(b"inside", 103, b"inside b")])],
            );
            agent.back_up(&tree).await.map(drop)
        })
    });
    let (world, server) = hostile_world(played(agent))?;
    let report = world.run();
    ensure!(
        report.is_ok(),
        "{:?}; the agent: {}",
        report.err(),
        server.observed().agent_error()
    );
    let copy = tests::world::below(&world.restore("latest", "out")?, &world.source());
    ensure!(
        fs::read(copy.join("a"))? == b"content of a"
            && fs::read(copy.join("b/inside"))? == b"inside b"
    );
    ensure!(fs::read_link(copy.join("c"))?.as_os_str() == "a");
    Ok(())
}
