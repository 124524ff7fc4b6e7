//! A fleet of seven hosts, each with its own sshd in a network of its own, backed up by one daemon every few seconds while
//! everything that can happen to them does: cables are pulled, power fails, a line gets slow, a host dies, one is full, one is
//! cloned, one is encrypted, one's dump fails, and the daemon is killed ten times. Afterwards every status is right, everything
//! that was committed restores, nothing ran twice, limits were kept, and alerts came once.
//!
//! It takes two minutes; `CAPSTAN_FLEET_SECS=900` makes it the quarter of an hour that it is meant to be run for before a
//! release.

mod alerts;
mod files;
mod machine;
mod record;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tests::coordinator_process::Running;
use tests::places::add_to_config;
use tests::processes;
use tests::shapes::exit;
use tests::world::{World, below};

use crate::files::expect_whole;
use crate::machine::Machine;
use crate::record::{Status, expect_limits, expect_once, history, holds, status};

/// Seconds between two occasions of each host.
const EVERY: u64 = 5;
/// How many hosts may be backed up at once.
pub const PARALLEL: usize = 3;
/// The hosts of which one at a time may be.
pub const SHARED_KEY: [&str; 2] = ["full", "dump"];
const KILLS: u32 = 10;
const NAMES: [&str; 7] = ["cut", "reboot", "dead", "full", "clone", "ransom", "dump"];
const DEADLINE: Duration = Duration::from_secs(120);
/// Longer than any daemon of this test lives.
const LIFETIME: Duration = Duration::from_secs(7_200);

/// When each thing happens, in hundredths of the whole time.
const STORY: [(u64, &str); 16] = [
    (20, "the line of `reboot` gets slow"),
    (24, "`cut` loses its cable"),
    (27, "`cut` has its cable again"),
    (28, "the power of `reboot` fails"),
    (32, "`dead` dies"),
    (36, "`full` fills up"),
    (40, "`cut` loses its cable"),
    (42, "`clone` is cloned"),
    (44, "`cut` has its cable again"),
    (46, "`ransom` is encrypted"),
    (48, "the dump of `dump` fails"),
    (52, "the power of `reboot` fails"),
    (60, "the line of `reboot` gets fast"),
    (64, "`full` has room again"),
    (68, "the power of `reboot` fails"),
    (70, "the power of `cut` fails"),
];

struct Fleet {
    machines: BTreeMap<&'static str, Machine>,
    daemon: Option<Running>,
    daemon_peak: u64,
    // Last: the machines and the daemon live in its directory.
    world: World,
}

impl Fleet {
    fn start() -> Result<Self> {
        let world = World::new()?;
        world.replace_config_line("#max_parallel", &format!("max_parallel = {PARALLEL}"))?;
        add_to_config(&world, &alerts::table(&world.directory().join("alerts")))?;
        let mut machines = BTreeMap::new();
        let mut hosts = format!(
            "[defaults]\nschedule = \"*:*:0/{EVERY}\"\nsla = \"{}s\"\nretries = 1\nretry_delay = \"1s\"\n\
             limits = {{ connect = \"3s\", idle = \"6s\" }}\nanomaly = {{ files = 20, bytes = \"256KiB\" }}\n\
             [group.store]\nconcurrency_key = \"store\"\n\n",
            EVERY * 5
        );
        for name in NAMES {
            let machine = Machine::new(world.directory(), name)?;
            machine.dump_works(true)?;
            let mut lines = String::new();
            if SHARED_KEY.contains(&name) {
                lines += "groups = [\"store\"]\n";
            }
            if name == "dump" {
                lines += &format!(
                    "\n[[host.dump.stream]]\nname = \"all.dump\"\nrun = [{:?}]\n",
                    machine.dump()
                );
            }
            hosts += &machine.table(&lines)?;
            machines.insert(name, machine);
        }
        world.write_hosts(&hosts)?;
        world
            .coordinator(&["config", "check"])?
            .expect_code(exit::OK)?;
        let mut fleet = Self {
            machines,
            daemon: None,
            daemon_peak: 0,
            world,
        };
        fleet.start_daemon()?;
        Ok(fleet)
    }

    fn start_daemon(&mut self) -> Result<()> {
        let mut daemon = self.world.start(&["daemon"])?;
        processes::wait_until("the daemon", DEADLINE, || {
            ensure!(
                !daemon.has_ended()?,
                "the daemon ended: {}",
                daemon.stderr_so_far()
            );
            Ok(status(&self.world)?.daemon_pid() == Some(daemon.pid()))
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn kill_daemon(&mut self) -> Result<()> {
        self.note_memory();
        let mut daemon = self.daemon.take().context("a daemon")?;
        ensure!(
            !daemon.has_ended()?,
            "the daemon ended by itself: {}",
            daemon.stderr_so_far()
        );
        daemon.kill()?;
        daemon.finish(LIFETIME)?;
        self.start_daemon()
    }

    fn note_memory(&mut self) {
        let pid = self.daemon.as_ref().map(Running::pid);
        let peak = pid.and_then(processes::peak_rss_bytes).unwrap_or_default();
        self.daemon_peak = self.daemon_peak.max(peak);
    }

    fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        self.machines.get_mut(name).context("a machine")
    }

    fn happens(&mut self, what: &str) -> Result<()> {
        eprintln!("{what}");
        match what {
            "the line of `reboot` gets slow" => {
                self.machine("reboot")?.network.slow_down(8_000_000)
            }
            "the line of `reboot` gets fast" => self.machine("reboot")?.network.speed_up(),
            "`cut` loses its cable" => self.machine("cut")?.network.unplug(),
            "`cut` has its cable again" => self.machine("cut")?.network.plug_in(),
            "the power of `reboot` fails" => self.machine("reboot")?.reboot(),
            "the power of `cut` fails" => self.machine("cut")?.reboot(),
            "`dead` dies" => self.machine("dead")?.power_off(),
            "`full` fills up" => self.machine("full")?.fill(true),
            "`full` has room again" => self.machine("full")?.fill(false),
            "`clone` is cloned" => self.machine("clone")?.become_a_clone(),
            "`ransom` is encrypted" => self.machine("ransom")?.encrypt(),
            "the dump of `dump` fails" => self.machine("dump")?.dump_works(false),
            other => anyhow::bail!("nobody knows how {other} happens"),
        }
    }

    /// Lets the story happen, with a daemon that is killed again and again.
    fn live(&mut self, whole: Duration) -> Result<()> {
        let start = Instant::now();
        let at = |hundredths: u64| whole.mul_f64(hundredths as f64 / 100.0);
        let mut story = STORY.into_iter().peekable();
        let mut kills = 0;
        let (mut is_encrypted, mut is_cut) = (false, false);
        while start.elapsed() < whole {
            while let Some((_, what)) = story.next_if(|(when, _)| start.elapsed() >= at(*when)) {
                self.happens(what)?;
                is_encrypted |= what.contains("encrypted");
                is_cut = match what {
                    "`cut` loses its cable" => true,
                    "`cut` has its cable again" => false,
                    _ => is_cut,
                };
            }
            // Between a tenth and seven tenths of the time.
            let next = at(10 + 60 * u64::from(kills) / u64::from(KILLS));
            if kills < KILLS && start.elapsed() >= next {
                kills += 1;
                self.kill_daemon()?;
            }
            for (name, machine) in &mut self.machines {
                // What is encrypted does not change by itself any more; and a host that was written anew as a whole while
                // nobody could reach it would look like one that is.
                let rests = match *name {
                    "ransom" => is_encrypted,
                    "cut" => is_cut,
                    _ => false,
                };
                if !rests {
                    machine.live()?;
                }
            }
            std::thread::sleep(Duration::from_millis(400));
        }
        ensure!(
            kills == KILLS && story.next().is_none(),
            "the time was too short"
        );
        self.note_memory();
        Ok(())
    }

    fn end_daemon(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("a daemon")?;
        processes::signal(daemon.pid(), Signal::TERM)?;
        // The deadline counts from its start, which may be long ago.
        daemon.finish(LIFETIME)?.expect_code(exit::OK)?;
        Ok(())
    }

    /// Every snapshot of every host restores, and each file of it is one that was there.
    fn expect_restores(&self) -> Result<u64> {
        let mut restored = 0;
        for (name, machine) in &self.machines {
            for (index, snapshot) in record::snapshots(&self.world, name)?.iter().enumerate() {
                let out = self.world.output(&format!("{name}-{index}"));
                self.world
                    .coordinator(&[
                        "restore",
                        name,
                        &snapshot.id,
                        "--to",
                        out.to_str().context("a path")?,
                    ])?
                    .expect_code(exit::OK)?;
                let tree = below(&out, &machine.source());
                // What was taken after the encryption is there too, and is on hold; its files are no files of ours.
                let is_encrypted = std::fs::read_dir(&tree)?
                    .filter_map(Result::ok)
                    .any(|entry| entry.file_name().to_string_lossy().ends_with(".locked"));
                ensure!(!is_encrypted || *name == "ransom");
                if !is_encrypted {
                    expect_whole(&tree, name)
                        .with_context(|| format!("{name}, snapshot {}", snapshot.id))?;
                    restored += 1;
                }
                std::fs::remove_dir_all(out)?;
            }
            self.world
                .coordinator(&["verify", name])?
                .expect_code(exit::OK)?;
        }
        Ok(restored)
    }
}

fn seconds() -> Result<u64> {
    match std::env::var("CAPSTAN_FLEET_SECS") {
        Ok(text) => text.parse().context("CAPSTAN_FLEET_SECS is a number"),
        Err(_) => Ok(120),
    }
}

fn expect_statuses(now: &Status) -> Result<()> {
    let expected = [
        ("cut", "ok", &["ok"][..]),
        ("reboot", "ok", &["ok"]),
        ("dead", "late", &["failed"]),
        ("full", "ok", &["ok"]),
        ("clone", "late", &["failed"]),
        // Its first encrypted snapshot was held, and the ones after are like it.
        ("ransom", "late", &["held"]),
        ("dump", "late", &["failed"]),
    ];
    for (name, freshness, outcomes) in expected {
        let host = now.host(name)?;
        ensure!(
            host.freshness == freshness,
            "{name} is {}, and not {freshness}: {host:?}",
            host.freshness
        );
        let outcome = host.last_outcome().unwrap_or_default();
        ensure!(
            outcomes.contains(&outcome),
            "{name} ended {outcome}: {host:?}"
        );
    }
    Ok(())
}

#[test]
fn a_fleet_in_trouble_is_backed_up_and_says_how_it_is() -> Result<()> {
    let whole = Duration::from_secs(seconds()?);
    let mut fleet = Fleet::start()?;
    fleet.live(whole)?;

    // Those that are well have an hour's peace, as it were: two more occasions.
    std::thread::sleep(Duration::from_secs(2 * EVERY));
    expect_statuses(&status(&fleet.world)?)?;
    fleet.end_daemon()?;

    let held: Vec<_> = holds(&fleet.world)?;
    let mut on_hold: Vec<_> = held
        .iter()
        .map(|hold| (hold.host.as_str(), hold.kind.as_str()))
        .collect();
    on_hold.sort_unstable();
    ensure!(
        on_hold == [("clone", "identity"), ("ransom", "anomaly")],
        "{on_hold:?}, because of {:?}",
        held.iter().map(|hold| &hold.reason).collect::<Vec<_>>()
    );

    let told = alerts::read(&fleet.world.directory().join("alerts"))?;
    alerts::expect_changes_alone(&told)?;
    for (host, what) in [
        ("dead", "late"),
        ("clone", "identity"),
        ("ransom", "hold:anomaly"),
        ("ransom", "late"),
        ("dump", "late"),
    ] {
        alerts::expect_told_once(&told, host, what)?;
    }

    let runs = history(&fleet.world)?;
    expect_limits(&runs)?;
    for name in NAMES {
        expect_once(&fleet.world, name)?;
    }
    let restored = fleet.expect_restores()?;
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for run in &runs {
        *outcomes
            .entry(run.outcome.clone().unwrap_or_default())
            .or_default() += 1;
    }
    eprintln!(
        "{} runs in {whole:?}: {outcomes:?}; {restored} snapshots restored whole; {} alerts; the daemon's peak was {} MiB",
        runs.len(),
        told.len(),
        fleet.daemon_peak >> 20
    );
    ensure!(restored > 3 * NAMES.len() as u64);
    Ok(())
}
