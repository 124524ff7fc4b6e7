//! A prune at every write of a run, a run at every write of a prune, and an end by SIGKILL at every write of either. The only
//! destination is an S3 server behind a proxy that holds one request after another, so every state that the destination can be
//! in between is met. After each, every snapshot restores to what it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::changing_host::ChangingHost;
use tests::coordinator_process::Running;
use tests::fault_proxy::{FaultProxy, Operation};
use tests::held_command::{Held, Side, hold, kill};
use tests::places::leave_only_behind_proxy;
use tests::s3_server::S3Server;
use tests::shapes::exit;
use tests::world::HOST;

/// Longer than the grace of these tests.
const PAST_GRACE: Duration = Duration::from_millis(1_100);
/// How long a command may take.
const LONG: Duration = Duration::from_secs(60);
/// How long the other command has beside one that is held, if it waits.
const BESIDE: Duration = Duration::from_millis(700);
/// More writes than any of these commands makes.
const WRITES_MAX: u64 = 60;

struct Race {
    host: ChangingHost,
    proxy: FaultProxy,
    _server: S3Server,
    restores: u64,
}

impl Race {
    /// Three snapshots were made.
    async fn start() -> Result<Self> {
        let host = ChangingHost::new("1s")?;
        let (server, proxy) = leave_only_behind_proxy(&host.world).await?;
        let mut race = Self {
            host,
            proxy,
            _server: server,
            restores: 0,
        };
        for _ in 0..3 {
            race.host.change()?;
            race.run()?;
        }
        Ok(race)
    }

    fn run(&mut self) -> Result<()> {
        let running = self.host.world.start(&["run", HOST, "--json"])?;
        self.host
            .committed(&running.finish(LONG)?.expect_code(exit::OK)?)
    }

    fn prune(&self) -> Result<Running> {
        self.host.world.start(&["prune", HOST, "--yes", "--json"])
    }

    /// Starts a command whose request of this number, of this kind, is held.
    fn hold(
        &self,
        arguments: &[&str],
        operation: Operation,
        number: u64,
        side: Side,
    ) -> Result<Held> {
        hold(
            &self.host.world,
            &self.proxy,
            arguments,
            (operation, number, side),
        )
    }

    /// Every snapshot restores to what it was, and nothing that is needed is missing.
    fn expect_all(&mut self) -> Result<()> {
        for snapshot in self.host.world.snapshots()? {
            self.restores += 1;
            let out = format!("check-{}", self.restores);
            let out = self.host.world.restore(&snapshot.id, &out)?;
            self.host.expect_was(&snapshot.id, &out)?;
        }
        Ok(())
    }
}

const KINDS: [Operation; 2] = [Operation::Put, Operation::Delete];
const RUN: [&str; 3] = ["run", HOST, "--json"];
const PRUNE: [&str; 4] = ["prune", HOST, "--yes", "--json"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_at_every_write_of_a_run_takes_nothing_from_it() -> Result<()> {
    let mut race = Race::start().await?;
    let mut held = 0;
    for side in Side::BOTH {
        for number in 0..WRITES_MAX {
            race.host.change()?;
            match race.hold(&RUN, Operation::Put, number, side)? {
                Held::Ended(run) => {
                    race.host.committed(&run.expect_code(exit::OK)?)?;
                    break;
                }
                Held::Waits { running, gate } => {
                    held += 1;
                    let beside = race.prune()?.finish(LONG)?;
                    ensure!(
                        [Some(exit::OK), Some(exit::LOCKED)].contains(&beside.code),
                        "{beside:?}"
                    );
                    gate.open();
                    race.host
                        .committed(&running.finish(LONG)?.expect_code(exit::OK)?)?;
                }
            }
            std::thread::sleep(PAST_GRACE);
            race.prune()?.finish(LONG)?.expect_code(exit::OK)?;
            race.expect_all()?;
        }
    }
    race.host.world.verify()?;
    eprintln!("a prune beside {held} held writes of a run");
    // Packs, a meta pack, a record of the log, each held before and after.
    ensure!(held >= 6, "only {held} writes of a run were met");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_at_every_write_of_a_prune_builds_upon_nothing_that_goes() -> Result<()> {
    let mut race = Race::start().await?;
    let mut held = BTreeMap::new();
    for (kind, side) in KINDS
        .iter()
        .flat_map(|kind| Side::BOTH.map(|side| (*kind, side)))
    {
        for number in 0..WRITES_MAX {
            race.host.change()?;
            race.run()?;
            std::thread::sleep(PAST_GRACE);
            // What the run beside finds is other than what the last one found.
            race.host.change()?;
            match race.hold(&PRUNE, kind, number, side)? {
                Held::Ended(prune) => {
                    prune.expect_code(exit::OK)?;
                    break;
                }
                Held::Waits { running, gate } => {
                    *held.entry(format!("{kind:?}")).or_insert(0) += 1;
                    let mut run = race.host.world.start(&RUN)?;
                    let start = Instant::now();
                    while start.elapsed() < BESIDE && !run.has_ended()? {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    gate.open();
                    running.finish(LONG)?.expect_code(exit::OK)?;
                    race.host
                        .committed(&run.finish(LONG)?.expect_code(exit::OK)?)?;
                }
            }
            race.expect_all()?;
        }
    }
    race.host.world.verify()?;
    eprintln!("a run beside held writes of a prune: {held:?}");
    ensure!(
        held.values().all(|count| *count >= 4) && held.len() == 2,
        "{held:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_killed_at_any_write_is_gone_on_with() -> Result<()> {
    let mut race = Race::start().await?;
    let mut killed = 0;
    let commands: [(&[&str], Operation); 3] = [
        (&PRUNE, Operation::Put),
        (&PRUNE, Operation::Delete),
        (&RUN, Operation::Put),
    ];
    for ((arguments, kind), side) in commands
        .iter()
        .flat_map(|command| Side::BOTH.map(|side| (*command, side)))
    {
        for number in 0..WRITES_MAX {
            race.host.change()?;
            race.run()?;
            std::thread::sleep(PAST_GRACE);
            race.host.change()?;
            match race.hold(arguments, kind, number, side)? {
                Held::Ended(ended) => {
                    let ended = ended.expect_code(exit::OK)?;
                    if *arguments == RUN {
                        race.host.committed(&ended)?;
                    }
                    break;
                }
                Held::Waits { running, gate } => {
                    killed += 1;
                    kill(running, &gate)?;
                    if *arguments == RUN {
                        race.host.may_have_committed()?;
                    }
                    race.prune()?.finish(LONG)?.expect_code(exit::OK)?;
                }
            }
            race.expect_all()?;
        }
    }
    race.host.change()?;
    race.run()?;
    std::thread::sleep(PAST_GRACE);
    race.prune()?.finish(LONG)?.expect_code(exit::OK)?;
    race.expect_all()?;
    race.host.world.verify()?;
    race.host
        .world
        .coordinator(&["scan", "--full", "--verify"])?
        .expect_code(exit::OK)?;
    eprintln!("killed at {killed} writes");
    ensure!(killed >= 12, "only {killed}");
    Ok(())
}

/// Whatever changes what is needed waits for a prune that looks at it, or is refused; what only reads goes on. None of the
/// requests of a prune is left out, reads of the log and of packs alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f64_nothing_changes_what_is_needed_while_a_prune_looks() -> Result<()> {
    let mut race = Race::start().await?;
    let mut held = 0;
    let mut acts = 0;
    for number in 0..WRITES_MAX {
        race.host.change()?;
        race.run()?;
        let oldest = race.host.world.snapshots()?;
        let oldest = oldest.first().context("a snapshot")?.id.clone();
        race.host.change()?;
        let (running, gate) = match race.hold(&PRUNE, Operation::Get, number, Side::Before)? {
            Held::Ended(prune) => {
                prune.expect_code(exit::OK)?;
                break;
            }
            Held::Waits { running, gate } => (running, gate),
        };
        held += 1;
        let refused: [&[&str]; 4] = [
            &PRUNE,
            &["forget", HOST, &oldest],
            &["undelete", HOST],
            &["pin", "add", HOST, &oldest, "--reason", "beside"],
        ];
        // Each at every other read, and a run at some.
        for arguments in refused.iter().skip(usize::from(number % 2 == 0)).step_by(2) {
            let beside = race.host.world.coordinator(arguments)?;
            beside.expect_code(exit::LOCKED)?;
            acts += 1;
        }
        if number % 3 > 0 {
            gate.open();
            running.finish(LONG)?.expect_code(exit::OK)?;
            continue;
        }
        let mut run = race.host.world.start(&RUN)?;
        std::thread::sleep(BESIDE / 2);
        ensure!(!run.has_ended()?, "a run passed a prune that looks");
        gate.open();
        running.finish(LONG)?.expect_code(exit::OK)?;
        race.host
            .committed(&run.finish(LONG)?.expect_code(exit::OK)?)?;
        race.expect_all()?;
    }
    race.expect_all()?;
    race.host.world.verify()?;
    eprintln!("{acts} acts were refused at {held} reads of a prune");
    ensure!(held >= 3, "only {held} reads of a prune were met");
    Ok(())
}
