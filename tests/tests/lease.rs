//! The lease: one coordinator at a time writes to a repository. A copy of the coordinator on another machine reads and
//! restores, is kept from writing until it takes over, and then keeps the first one out, in the middle of a run too.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::coordinator_process::{Finished, Running, binary};
use tests::shapes::{RunReport, exit};
use tests::world::{HOST, World, WorldOptions, copy_tree};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a program with another machine's id: an overlay over /etc that only it sees.
const ON_ANOTHER_MACHINE: &str = "\
set -e
mount -t overlay overlay -o lowerdir=/etc,upperdir=\"$1\",workdir=\"$2\" /etc
echo 00112233445566778899aabbccddeeff > /etc/machine-id
shift 2
exec \"$@\"";

/// A copy of the world's coordinator, on a machine of its own.
struct OtherMachine {
    directory: PathBuf,
}

impl OtherMachine {
    fn of(world: &World) -> Result<Self> {
        let directory = world.directory().join("other-machine");
        copy_tree(&world.coordinator_dir(), &directory)?;
        for of_etc in ["etc", "etc-work"] {
            fs::create_dir(directory.join(of_etc))?;
        }
        // Every path in it is one of the copy, but for the destination.
        fs::remove_dir_all(directory.join("repository"))?;
        for file in ["coordinator.toml", "hosts.toml"] {
            let path = directory.join(file);
            let (from, to) = (world.coordinator_dir(), directory.display().to_string());
            let text = fs::read_to_string(&path)?.replace(&from.display().to_string(), &to);
            let destination = world.repository().display().to_string();
            fs::write(
                &path,
                text.replace(&format!("{to}/repository"), &destination),
            )?;
        }
        Ok(Self { directory })
    }

    fn coordinator(&self, arguments: &[&str]) -> Result<Finished> {
        let mut all: Vec<OsString> = ["-m", "sh", "-c", ON_ANOTHER_MACHINE, "sh"]
            .map(OsString::from)
            .to_vec();
        for of_etc in ["etc", "etc-work"] {
            all.push(self.directory.join(of_etc).into());
        }
        all.push(binary("coordinator")?.into());
        all.extend(["-c".into(), self.directory.join("coordinator.toml").into()]);
        all.extend(arguments.iter().map(OsString::from));
        Running::spawn(&PathBuf::from("unshare"), &all, &[])?.finish(DEADLINE)
    }
}

/// A `become` program that holds the agent back until it is let go.
struct Gate {
    reached: PathBuf,
    open: PathBuf,
}

impl Gate {
    fn at(directory: &Path) -> Result<(Self, PathBuf)> {
        let gate = Self {
            reached: directory.join("reached"),
            open: directory.join("open"),
        };
        let program = directory.join("gate");
        let script = format!(
            "#!/bin/sh\n: > {}\nn=0\nwhile [ ! -e {} ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n+1)); done\nexec \"$@\"\n",
            gate.reached.display(),
            gate.open.display()
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok((gate, program))
    }

    fn wait_until_reached(&self) -> Result<()> {
        let started = Instant::now();
        while !self.reached.exists() {
            ensure!(started.elapsed() < DEADLINE, "no agent was started");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

#[test]
fn a_second_coordinator_reads_and_does_not_write_until_it_takes_over() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), "one")?;
    world.run()?;
    let other = OtherMachine::of(&world)?;

    // It reads and restores, and tells who writes.
    let listed = other.coordinator(&["lease", "ls"])?.expect_code(exit::OK)?;
    ensure!(
        listed.stdout_text().contains("another coordinator"),
        "{}",
        listed.stdout_text()
    );
    let out = world.output("read-by-the-other");
    let to = out.display().to_string();
    other
        .coordinator(&["restore", HOST, "latest", "--to", &to])?
        .expect_code(exit::OK)?;
    for _ in 0..2 {
        other
            .coordinator(&["run", HOST])?
            .expect_code(exit::LOCKED)?
            .expect_stderr(&["leased to another coordinator", "lease take web1"])?;
    }
    ensure!(world.snapshots()?.len() == 1);
    fs::write(world.source().join("two"), "two")?;
    world.run()?;

    // It takes over, and the first one is the one that is kept out.
    other
        .coordinator(&["lease", "take", HOST])?
        .expect_code(exit::OK)?;
    let again = other.coordinator(&["lease", "take", "--all"])?;
    let again = again.expect_code(exit::OK)?.stdout_text();
    ensure!(again.contains("has it already"), "{again}");
    let report: RunReport = other
        .coordinator(&["run", HOST, "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    // Lease, settings, two snapshots, the lease taken over, this snapshot.
    ensure!(report.snapshot.map(|snapshot| snapshot.seq) == Some(6));
    for _ in 0..2 {
        world
            .coordinator(&["run", HOST])?
            .expect_code(exit::LOCKED)?
            .expect_stderr(&["leased to another coordinator"])?;
    }
    ensure!(world.snapshots()?.len() == 3);

    // And back: what the other one wrote was its right to write.
    world
        .coordinator(&["lease", "take", HOST])?
        .expect_code(exit::OK)?;
    world.run()?;
    other
        .coordinator(&["run", HOST])?
        .expect_code(exit::LOCKED)?;
    ensure!(world.snapshots()?.len() == 4);
    Ok(())
}

#[test]
fn a_run_that_loses_its_lease_on_the_way_does_not_commit() -> Result<()> {
    let directory = tests::world::temporary_directory()?;
    let (gate, program) = Gate::at(directory.path())?;
    let world = World::with(WorldOptions {
        host_lines: vec![format!("become = \"{}\"", program.display())],
        ..WorldOptions::default()
    })?;
    fs::write(world.source().join("one"), "one")?;
    fs::write(&gate.open, "")?;
    world.run()?;
    let other = OtherMachine::of(&world)?;

    fs::remove_file(&gate.open)?;
    fs::remove_file(&gate.reached)?;
    fs::write(world.source().join("two"), "two")?;
    let running = world.start(&["run", HOST])?;
    gate.wait_until_reached()?;
    other
        .coordinator(&["lease", "take", HOST])?
        .expect_code(exit::OK)
        .context("taken over in the middle of the run")?;
    fs::write(&gate.open, "")?;
    running
        .finish(DEADLINE)?
        .expect_code(exit::LOCKED)?
        .expect_stderr(&["leased to another coordinator"])?;
    ensure!(world.snapshots()?.len() == 1);
    // What the run had stored is found again by the one that may write.
    other.coordinator(&["run", HOST])?.expect_code(exit::OK)?;
    ensure!(world.snapshots()?.len() == 2);
    world.expect_restores("latest", "latest")?;
    Ok(())
}
