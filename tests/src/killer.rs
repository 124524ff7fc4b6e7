//! Seeded kill points: who is killed, and when in a run. The same seed gives the same points; what they hit still varies
//! with the machine, which is what the many points are for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::coordinator_process::Running;
use crate::corpus::bytes::Numbers;
use crate::processes;
use crate::world::World;

/// Taken unless `CAPSTAN_TESTS_SEED` says otherwise.
const SEED_DEFAULT: u64 = 0x00ca_b57a_2026;
/// A run that is to be killed is over at the latest after this.
const RUN_DEADLINE: Duration = Duration::from_secs(120);

/// Which process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The agent on the target.
    Agent,
    /// The coordinator, with the append-server inside it.
    Coordinator,
    /// The append-server's own program.
    AppendServer,
    /// The whole target, as by a power cut.
    Target,
}

/// One kill.
#[derive(Debug, Clone, Copy)]
pub struct KillPoint {
    /// Its number, from 0.
    pub index: u32,
    /// Who.
    pub victim: Victim,
    /// How long after the run began.
    pub after: Duration,
}

/// How the killed run went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// The victim died while the run was under way.
    Killed,
    /// The run was over, or the victim not there yet.
    Missed,
}

/// The seed of this test run, printed so that a failure can be repeated.
pub fn seed() -> Result<u64> {
    let seed = match std::env::var("CAPSTAN_TESTS_SEED") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("CAPSTAN_TESTS_SEED={text} is no number"))?,
        Err(_) => SEED_DEFAULT,
    };
    eprintln!("seed: repeat with CAPSTAN_TESTS_SEED={seed}");
    Ok(seed)
}

/// Kill points spread over a run that takes `typical` when nobody dies: one in each equal part of it, in a random order.
pub fn points(seed: u64, victims: &[Victim], count: u32, typical: Duration) -> Vec<KillPoint> {
    let mut numbers = Numbers::new(seed);
    let mut points: Vec<KillPoint> = (0..count)
        .map(|index| {
            let within = numbers.below(1_000_000) as f64 / 1e6;
            let victim = victims[usize::try_from(numbers.below(victims.len() as u64)).unwrap_or(0)];
            KillPoint {
                index,
                victim,
                after: typical.mul_f64((f64::from(index) + within) / f64::from(count)),
            }
        })
        .collect();
    for index in (1..points.len()).rev() {
        let other = usize::try_from(numbers.below(index as u64 + 1)).unwrap_or(0);
        points.swap(index, other);
    }
    points
}

/// Starts a run, kills the victim at its time, and waits until the run is over.
pub fn run_and_kill(world: &mut World, point: KillPoint) -> Result<Hit> {
    let mut run = world.start(&["run", crate::world::HOST, "--json"])?;
    let start = Instant::now();
    while start.elapsed() < point.after && !run.has_ended()? {
        std::thread::sleep(Duration::from_millis(1));
    }
    let hit = strike(world, point.victim, &mut run)?;
    run.finish(RUN_DEADLINE)?;
    match point.victim {
        Victim::AppendServer if hit == Hit::Killed => world.start_append_server()?,
        Victim::Target if hit == Hit::Killed => world.sshd_mut().power_on()?,
        _ => {}
    }
    Ok(hit)
}

fn strike(world: &mut World, victim: Victim, run: &mut Running) -> Result<Hit> {
    if run.has_ended()? {
        return Ok(Hit::Missed);
    }
    match victim {
        Victim::Coordinator => run.kill()?,
        Victim::AppendServer => {
            let pid = world
                .append_server()
                .context("this world has no append-server of its own")?
                .pid();
            processes::kill(pid)?;
        }
        Victim::Agent => {
            let agents = world.sshd().agents()?;
            for agent in &agents {
                processes::kill(agent.pid)?;
            }
            if agents.is_empty() {
                return Ok(Hit::Missed);
            }
        }
        Victim::Target => world.sshd_mut().power_off()?,
    }
    Ok(Hit::Killed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Victim, points};

    #[test]
    fn the_same_seed_gives_the_same_points_spread_over_the_whole_run() {
        let typical = Duration::from_secs(10);
        let one = points(7, &[Victim::Agent, Victim::Coordinator], 20, typical);
        let two = points(7, &[Victim::Agent, Victim::Coordinator], 20, typical);
        assert_eq!(format!("{one:?}"), format!("{two:?}"));
        let mut parts: Vec<u64> = one
            .iter()
            .map(|point| point.after.as_millis() as u64 / 500)
            .collect();
        parts.sort_unstable();
        assert_eq!(parts, (0..20).collect::<Vec<_>>());
        assert!(
            one.iter().any(|point| point.victim == Victim::Agent)
                && one.iter().any(|point| point.victim == Victim::Coordinator)
        );
    }
}
