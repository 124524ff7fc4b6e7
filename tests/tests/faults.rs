//! Faults of the target, the network and the disks: the run says what failed and how to mend it, commits nothing that
//! does not restore, leaves the target clean, and the next run succeeds.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tests::coordinator_process::{DEADLINE, Finished};
use tests::corpus::bytes::incompressible;
use tests::places::{files_below, repository_in};
use tests::processes;
use tests::shapes::{Outcome, RunReport, exit};
use tests::small_disk::SmallDisk;
use tests::sshd::{SshdOptions, UNPRIVILEGED_USER, free_port, namespaces_work};
use tests::tcp_proxy::TcpProxy;
use tests::world::{HOST, World, WorldOptions, below};

/// Directories of the target in which an agent could be put.
const EVERYWHERE: &str = "/dev/shm /tmp /var/tmp /root";

/// A world whose source holds this many mebibytes that neither compress nor repeat.
fn world_with_data(options: WorldOptions, mebibytes: usize) -> Result<World> {
    let world = World::with(options)?;
    for index in 0..mebibytes {
        fs::write(
            world.source().join(format!("f{index:03}")),
            incompressible(index as u64, 1 << 20),
        )?;
    }
    Ok(world)
}

fn sshd(config: &[&str], setup: &[&str]) -> WorldOptions {
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    WorldOptions {
        sshd: SshdOptions {
            config: owned(config),
            setup: owned(setup),
            ..SshdOptions::default()
        },
        ..WorldOptions::default()
    }
}

/// A run that must fail so, print an honest report, commit nothing and leave the target clean.
fn fails(world: &World, code: i32, words: &[&str]) -> Result<Finished> {
    let before = world.target_state()?;
    let snapshots = world.snapshots()?.len();
    let finished = world
        .coordinator(&["run", HOST, "--json"])?
        .expect_code(code)?
        .expect_stderr(words)?
        .expect_no_control_characters()?;
    let report: RunReport = finished.json()?;
    ensure!(
        report.outcome == Outcome::Failed && report.snapshot.is_none() && report.error.is_some(),
        "{report:?}"
    );
    ensure!(
        world.snapshots()?.len() == snapshots,
        "a failed run committed a snapshot"
    );
    world.expect_target_clean(&before)?;
    Ok(finished)
}

/// The next run is good, and what it made restores.
fn recovers(world: &World) -> Result<RunReport> {
    let before = world.target_state()?;
    let report = world.run()?;
    world.expect_target_clean(&before)?;
    world.expect_restores("latest", "recovered")?;
    Ok(report)
}

#[test]
fn a_host_that_is_down_is_named() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 1)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    world.set_address(&address)?;
    fails(&world, exit::ERROR, &[HOST, &address])?;
    world.set_address(&world.sshd().address().to_string())?;
    recovers(&world).map(drop)
}

#[test]
fn refused_authentication_is_named() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 1)?;
    let keys = world.directory().join("sshd/authorized_keys");
    let authorized = fs::read(&keys)?;
    fs::write(&keys, "")?;
    fails(&world, exit::ERROR, &["authenticat", "authentication"])?;
    fs::write(&keys, authorized)?;
    recovers(&world).map(drop)
}

#[test]
fn a_host_key_that_is_not_the_pinned_one_is_refused() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 1)?;
    let other = world.directory().join("other_key");
    tests::sshd::generate_key(&other)?;
    let pinned = tests::sshd::fingerprint(&world.directory().join("other_key.pub"))?;
    world.write_hosts(&world.hosts_toml(&world.sshd().address().to_string(), &pinned)?)?;
    let shown = world.sshd().fingerprint()?;
    fails(&world, exit::HOST_KEY, &[&shown, &pinned])?;
    ensure!(
        !world.sshd().log().contains("Accepted"),
        "the coordinator logged in all the same"
    );
    Ok(())
}

#[test]
fn no_sudo_is_named() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let options = || WorldOptions {
        user: Some(UNPRIVILEGED_USER.into()),
        host_lines: vec!["become = \"sudo -n\"".into()],
        ..WorldOptions::default()
    };
    fails(&world_with_data(options(), 1)?, exit::ERROR, &["sudo"])?;
    let mut without = options();
    without.sshd.setup = vec!["mount --bind /dev/null \"$(command -v sudo)\"".into()];
    fails(&world_with_data(without, 1)?, exit::ERROR, &["sudo"]).map(drop)
}

#[test]
fn noexec_everywhere_is_named() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let remount =
        format!("for d in {EVERYWHERE}; do mount -t tmpfs -o mode=1777,noexec tmpfs $d; done");
    fails(
        &world_with_data(sshd(&[], &[&remount]), 1)?,
        exit::ERROR,
        &["noexec", "/dev/shm", "/var/tmp"],
    )
    .map(drop)
}

#[test]
fn noexec_in_some_places_is_worked_around() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let remount =
        "for d in /dev/shm /tmp /root; do mount -t tmpfs -o mode=1777,noexec tmpfs $d; done";
    recovers(&world_with_data(sshd(&[], &[remount]), 1)?).map(drop)
}

#[test]
fn each_transport_is_used_when_the_better_ones_are_refused() -> Result<()> {
    for (config, expected) in [
        (&[][..], "unix"),
        (&["AllowStreamLocalForwarding no"][..], "tcp"),
        (
            &["AllowStreamLocalForwarding no", "AllowTcpForwarding no"][..],
            "stdio",
        ),
        (&["DisableForwarding yes"][..], "stdio"),
    ] {
        let world = world_with_data(sshd(config, &[]), 8)?;
        let report = recovers(&world).with_context(|| format!("sshd with {config:?}"))?;
        ensure!(
            report.transport.as_deref() == Some(expected),
            "sshd with {config:?} gave {:?}",
            report.transport
        );
    }
    Ok(())
}

#[test]
fn a_transport_that_is_asked_for_and_refused_is_named() -> Result<()> {
    let options = WorldOptions {
        host_lines: vec!["transport = \"unix\"".into()],
        ..sshd(&["AllowStreamLocalForwarding no"], &[])
    };
    fails(
        &world_with_data(options, 1)?,
        exit::ERROR,
        &["AllowStreamLocalForwarding"],
    )
    .map(drop)
}

#[test]
fn a_full_disk_on_the_host_is_named() -> Result<()> {
    if !namespaces_work() {
        return Ok(());
    }
    let remount =
        format!("for d in {EVERYWHERE}; do mount -t tmpfs -o mode=1777,size=64k tmpfs $d; done");
    fails(
        &world_with_data(sshd(&[], &[&remount]), 1)?,
        exit::ERROR,
        &["space"],
    )
    .map(drop)
}

#[test]
fn a_full_destination_fails_the_run_and_the_next_one_succeeds() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 60)?;
    fs::create_dir_all(world.repository())?;
    let disk = SmallDisk::mount(&world.repository(), 20 << 10)?;
    fails(&world, exit::ERROR, &["space"])?;
    disk.resize(400 << 10)?;
    recovers(&world).map(drop)
}

fn free_kibibytes(path: &Path) -> Result<u64> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(facts.f_bavail * facts.f_frsize / 1_024)
}

/// Of every pack a little is still needed, so that room for what is written anew would be wanted before any is made. A prune does
/// without: what nothing needs at all goes first.
#[test]
fn f15_a_full_disk_is_pruned_and_has_room_again() -> Result<()> {
    let world = world_with_data(
        WorldOptions {
            host_lines: vec!["keep = { last = 1 }".into(), "keep_floor = 1".into()],
            ..WorldOptions::default()
        },
        1,
    )?;
    world.replace_config_line("#grace = ", "grace = \"1s\"")?;
    world.replace_config_line("reserve = ", "reserve = \"8MiB\"")?;
    fs::create_dir_all(world.repository())?;
    let disk = SmallDisk::mount(&world.repository(), 64 << 10)?;
    for round in 0u64.. {
        // What only this run needs, in every other one with something that stays, and something that changes in each.
        let changes = incompressible(1_000 + round, 6 << 20);
        fs::write(world.source().join("changes"), changes)?;
        if round % 2 == 0 {
            let stays = incompressible(2_000 + round, 1 << 20);
            fs::write(world.source().join(format!("stays-{round}")), stays)?;
        }
        let run = world.coordinator(&["run", HOST, "--json"])?;
        if run.code != Some(exit::OK) {
            run.expect_code(exit::ERROR)?.expect_stderr(&["space"])?;
            ensure!(round > 4, "the disk is full after {round} runs");
            break;
        }
    }
    // Beside the reserve there is room for some of what is to be written anew, and not for all of it.
    let used = 64 * 1_024 - free_kibibytes(&world.repository())?;
    disk.resize(used + (8 << 10) + 1_024)?;
    let folder = repository_in(&world.repository())?.join("packs");
    let before = files_below(&folder)?;
    let prune = ["prune", HOST, "--yes"];
    let told = world.coordinator(&prune)?.expect_code(exit::OK)?;
    let told = told.stdout_text();
    ensure!(told.contains("nothing is written anew"), "{told}");
    ensure!(files_below(&folder)? == before, "copies were made");
    disk.resize(64 << 10)?;
    std::thread::sleep(Duration::from_millis(2_200));
    world.coordinator(&prune)?.expect_code(exit::OK)?;
    // The packs that were to be written anew, and stay, are known from the log alone.
    world.forget_caches()?;
    world.verify()?;
    world.restore("latest", "full")?;
    recovers(&world)?;
    world.coordinator(&prune)?.expect_code(exit::OK)?;
    world
        .coordinator(&["scan", "--full", "--verify"])?
        .expect_code(exit::OK)
        .map(drop)
}

#[test]
fn a_full_spool_or_state_directory_loses_nothing() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 60)?;
    let disk = SmallDisk::mount(&world.coordinator_dir().join("state"), 2 << 10)?;
    // Where the spool lies is the coordinator's business: the run may do without the room, or say what it lacks.
    let finished = world.coordinator(&["run", HOST, "--json"])?;
    if finished.code != Some(exit::OK) {
        finished
            .expect_code(exit::ERROR)?
            .expect_stderr(&["space"])?;
    }
    disk.resize(400 << 10)?;
    recovers(&world).map(drop)
}

#[test]
fn a_restore_into_a_full_disk_leaves_whole_files_or_none() -> Result<()> {
    let world = World::new()?;
    for index in 0..40 {
        // Several chunks each, and too small to have their room kept from the start.
        let content = incompressible(index, 1_000_000);
        fs::write(world.source().join(format!("f{index:03}")), content)?;
    }
    world.run()?;
    let to = world.output("small");
    fs::create_dir_all(&to)?;
    let disk = SmallDisk::mount(&to, 15 << 10)?;
    let restore = |more: &[&str]| {
        let mut arguments = vec!["restore", HOST, "latest", "--to"];
        arguments.extend(to.to_str());
        arguments.extend(more);
        world.coordinator(&arguments)
    };
    restore(&[])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["nothing more can be written"])?;
    let restored = below(&to, &world.source());
    let mut whole = 0;
    for entry in fs::read_dir(&restored)? {
        let entry = entry?;
        let found = fs::read(entry.path())?;
        let expected = fs::read(world.source().join(entry.file_name()))?;
        ensure!(found == expected, "{:?} is not whole", entry.file_name());
        whole += 1;
    }
    ensure!(
        (1..40).contains(&whole),
        "{whole} files on a disk for some 14"
    );
    disk.resize(400 << 10)?;
    restore(&["--overwrite", "if-changed"])?.expect_code(exit::OK)?;
    for index in 0..40 {
        let name = format!("f{index:03}");
        ensure!(fs::read(restored.join(&name))? == fs::read(world.source().join(&name))?);
    }
    Ok(())
}

#[test]
fn a_cut_connection_fails_the_run_and_the_next_one_uploads_only_what_was_missing() -> Result<()> {
    // Two connections, so that of 200 MiB some packs are whole before the last cut.
    let options = WorldOptions {
        host_lines: vec!["limits = { tunnel_connections = 2 }".into()],
        ..WorldOptions::default()
    };
    let world = world_with_data(options, 200)?;
    let proxy = TcpProxy::start(world.sshd().address())?;
    world.set_address(&proxy.address().to_string())?;
    let before = world.target_state()?;
    for bytes in [3_000, 200_000, 5 << 20, 150 << 20] {
        proxy.cut_after(bytes);
        let finished = world.coordinator(&["run", HOST, "--json"])?;
        ensure!(
            !proxy.cut_is_pending(),
            "the run was over before {bytes} bytes had crossed"
        );
        finished
            .expect_code(exit::ERROR)?
            .expect_stderr(&["connection"])?;
        world
            .expect_target_clean(&before)
            .with_context(|| format!("cut after {bytes} bytes"))?;
    }
    ensure!(world.snapshots()?.is_empty(), "a cut run committed");
    let report = recovers(&world)?;
    // 50 MiB were never sent, and up to one unfinished pack of each connection was lost with it.
    ensure!(
        report.new_bytes < 120 << 20,
        "{} bytes were uploaded again",
        report.new_bytes
    );
    Ok(())
}

#[test]
fn a_target_that_reboots_fails_the_run_and_the_next_one_succeeds() -> Result<()> {
    let mut world = world_with_data(WorldOptions::default(), 60)?;
    let mut run = world.start(&["run", HOST, "--json"])?;
    processes::wait_until("the agent", DEADLINE, || {
        Ok(run.has_ended()? || !world.sshd().agents()?.is_empty())
    })?;
    world.sshd_mut().power_off()?;
    run.finish(DEADLINE)?.expect_code(exit::ERROR)?;
    world.sshd_mut().power_on()?;
    ensure!(world.snapshots()?.is_empty());
    recovers(&world).map(drop)
}

#[test]
fn two_runs_of_one_host_at_once_are_refused() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 30)?;
    let mut first = world.start(&["run", HOST, "--json"])?;
    let mut agents = Vec::new();
    processes::wait_until("the agent", DEADLINE, || {
        agents = world.sshd().agents()?;
        Ok(!agents.is_empty() || first.has_ended()?)
    })?;
    // The first run stands still while the second is tried.
    for agent in &agents {
        processes::signal(agent.pid, Signal::STOP)?;
    }
    let second = world.coordinator(&["run", HOST, "--json"])?;
    for agent in &agents {
        processes::signal(agent.pid, Signal::CONT)?;
    }
    second.expect_code(exit::LOCKED)?.expect_stderr(&[HOST])?;
    first.finish(DEADLINE)?.expect_code(exit::OK)?;
    ensure!(world.snapshots()?.len() == 1);
    recovers(&world).map(drop)
}

#[test]
fn a_run_that_is_interrupted_cleans_up() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 60)?;
    let before = world.target_state()?;
    let mut run = world.start(&["run", HOST, "--json"])?;
    processes::wait_until("the agent", DEADLINE, || {
        Ok(run.has_ended()? || !world.sshd().agents()?.is_empty())
    })?;
    processes::signal(run.pid(), Signal::INT)?;
    run.finish(DEADLINE)?.expect_code(exit::CANCELLED)?;
    world.expect_target_clean(&before)?;
    recovers(&world).map(drop)
}

#[test]
fn a_file_that_changes_while_it_is_read_is_kept_with_a_problem() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 4)?;
    let path = world.source().join("changing");
    fs::write(&path, vec![0; 150 << 20])?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&stop);
    let file = fs::OpenOptions::new().write(true).open(&path)?;
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let mut round = 0_u64;
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            round += 1;
            file.write_all_at(&round.to_le_bytes(), (round * 4096) % (150 << 20))?;
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    });
    let report = world.run_expecting(exit::WARNINGS);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    let report = report?;
    ensure!(
        report.outcome == Outcome::Warnings && report.problem_count == 1,
        "{report:?}"
    );
    ensure!(
        report.problems[0].kind == "changed" && report.problems[0].path == path.to_string_lossy(),
        "{report:?}"
    );
    // Quiet again, it is read again: what was kept unsettled is not trusted.
    recovers(&world).map(drop)
}

#[test]
fn damage_in_the_destination_is_found_and_never_restored_as_if_it_were_good() -> Result<()> {
    let world = world_with_data(WorldOptions::default(), 3)?;
    world.run()?;
    for (index, object) in objects(&world.repository())?.into_iter().enumerate() {
        let bytes = fs::read(&object)?;
        let mut damaged = bytes.clone();
        let place = damaged.len() / 2;
        damaged[place] ^= 0x10;
        let mode = fs::metadata(&object)?.permissions();
        fs::set_permissions(&object, fs::Permissions::from_mode(0o600))?;
        fs::write(&object, &damaged)?;
        let shown = object
            .strip_prefix(world.repository())?
            .display()
            .to_string();
        // Of the log `verify` reads the end, the snapshot's record after the lease and the settings, and a scan the rest.
        let is_earlier_record = shown.contains("/log/") && !shown.ends_with('3');
        let finished = match is_earlier_record {
            true => world.coordinator(&["scan", "--full", "--json"])?,
            false => world.coordinator(&["verify", HOST, "--json"])?,
        };
        // A key bundle that nobody unlocks from is not read by verify, and the destination's marker is no object.
        if !shown.contains("/keys/") && shown != "capstan-destination" {
            finished
                .expect_code(exit::INTEGRITY)
                .with_context(|| format!("one bit flipped in {shown}"))?;
            let output = world.output(&format!("damaged-{index}"));
            fs::create_dir_all(&output)?;
            let text = output.to_string_lossy().into_owned();
            let restored = world.coordinator(&["restore", HOST, "latest", "--to", &text])?;
            if restored.code == Some(exit::OK) {
                let copy = tests::world::below(&output, &world.source());
                tests::compare::expect_equal(&world.source(), &copy)
                    .with_context(|| format!("wrong data restored as good, {shown} damaged"))?;
            }
            fs::remove_dir_all(&output)?;
        }
        fs::write(&object, &bytes)?;
        fs::set_permissions(&object, mode)?;
    }
    world.verify()?;
    world.expect_restores("latest", "mended").map(drop)
}

/// Every object of the destination.
fn objects(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(objects(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
