//! Snapshots of logical volumes, in a kernel of the test's own: one boot, and one thing after the other.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::compare::expect_equal;
use tests::coordinator_process::{DEADLINE, Running};
use tests::corpus::bytes::incompressible;
use tests::processes::{self, wait_until};
use tests::shapes::{RunReport, exit};
use tests::user_mode_linux::{self, DISK, WRITABLE};
use tests::world::{HOST, World, WorldOptions, below, copy_tree};

use crate::{SOON, fill, settle};

/// This test's name, as the executable that runs in there knows it.
const NAME: &str = "lvm::volumes_are_read_from_snapshots_which_go_whatever_ends_the_run";
/// How the snapshots' names begin.
const PREFIX: &str = "capstan_";
/// A volume group's name, with a hyphen, which the kernel's names have twice.
const GROUP: &str = "test-vg";
/// Each volume's name and filesystem: two are classic, one is thin.
const VOLUMES: [(&str, &str); 3] = [("classic", "ext4"), ("classic-xfs", "xfs"), ("thin", "xfs")];
/// Lets `fill` be under way for seconds.
const SLOW: &str = "limits = { bandwidth = \"2MiB/s\" }";
/// Files of 1 MiB that each volume begins with.
const FILES: u64 = 2;

/// A target with a volume group.
struct Ground {
    world: World,
    data: Vec<PathBuf>,
}

#[test]
fn volumes_are_read_from_snapshots_which_go_whatever_ends_the_run() -> Result<()> {
    if !user_mode_linux::is_inside() {
        return user_mode_linux::run_inside(NAME);
    }
    let mut ground = Ground::new()?;
    for (name, step) in STEPS {
        eprintln!("inside: {name}");
        step(&mut ground).context(name)?;
    }
    Ok(())
}

type Step = fn(&mut Ground) -> Result<()>;

const STEPS: [(&str, Step); 5] = [
    (
        "what changes after the snapshots is stored as it was",
        what_changes_is_stored_as_it_was,
    ),
    (
        "a killed agent leaves no snapshot",
        a_killed_agent_leaves_no_snapshot,
    ),
    (
        "what a host that went down left goes with the next run, and nothing else does",
        leftovers_go_and_nothing_else_does,
    ),
    (
        "a snapshot that overflows fails the run",
        overflow_fails_the_run,
    ),
    (
        "without room in the group only thin volumes are read",
        no_room_is_told,
    ),
];

impl Ground {
    fn new() -> Result<Self> {
        run("pvcreate", &["-q", DISK])?;
        run("vgcreate", &["-q", GROUP, DISK])?;
        create(&["-L", "100M", "-n", "classic", GROUP])?;
        create(&["-L", "300M", "-n", "classic-xfs", GROUP])?;
        let pool = format!("{GROUP}/pool");
        create(&["-T", "-L", "300M", "-V", "300M", "-n", "thin", &pool])?;
        let mut data = Vec::new();
        for (name, kind) in VOLUMES {
            let device = format!("/dev/{GROUP}/{name}");
            run(&format!("mkfs.{kind}"), &["-q", &device])?;
            let place = Path::new(WRITABLE).join("data").join(name);
            fs::create_dir_all(&place)?;
            let shown = place.display().to_string();
            run("mount", &["-t", kind, &device, &shown])?;
            fill(&place, FILES)?;
            data.push(place);
        }
        let world = World::with(WorldOptions {
            paths: Some(data.clone()),
            host_lines: vec!["fs_snapshot = \"lvm\"".into(), SLOW.into()],
            ..WorldOptions::default()
        })?;
        Ok(Self { world, data })
    }

    /// Reads these from now on.
    fn read(&self, paths: &[PathBuf]) -> Result<()> {
        let sshd = self.world.sshd();
        let text = self
            .world
            .hosts_toml(&sshd.address().to_string(), &sshd.fingerprint()?)?;
        let line = text.lines().find(|line| line.starts_with("paths = "));
        let line = line.context("there is a line of paths")?;
        self.world
            .write_hosts(&text.replace(line, &format!("paths = {paths:?}")))
    }

    /// Starts a run and waits until its snapshots of all that it reads stand.
    fn start_and_wait(&self, snapshots: usize) -> Result<Running> {
        let run = self.world.start(&["run", HOST, "--json"])?;
        wait_until("the snapshots", SOON, || Ok(mapped()?.len() == snapshots))?;
        // LVM answers once what it is at is done.
        let taken = snapshot_names()?;
        ensure!(taken.len() == snapshots, "{taken:?}");
        Ok(run)
    }

    fn guard(&self) -> Result<u32> {
        let mut found = self.world.sshd().processes()?;
        found.retain(|process| process.command.contains("lvremove --force"));
        ensure!(found.len() == 1, "{found:?}");
        Ok(found[0].pid)
    }
}

fn what_changes_is_stored_as_it_was(ground: &mut Ground) -> Result<()> {
    let before = ground.world.directory().join("before");
    fs::create_dir(&before)?;
    for (number, data) in ground.data.iter().enumerate() {
        fs::create_dir(data.join("below"))?;
        fs::write(data.join("below/last"), "before")?;
        copy_tree(data, &before.join(number.to_string()))?;
    }
    settle()?;
    let clean = ground.world.target_state()?;
    let run = ground.start_and_wait(VOLUMES.len())?;
    for data in &ground.data {
        fs::write(data.join("below/last"), "after, and longer")?;
        fs::write(data.join("below/new"), "new")?;
        fs::remove_file(data.join("large-00"))?;
        fs::write(data.join("large-01"), incompressible(100, 1 << 20))?;
    }
    run.finish(DEADLINE)?.expect_code(exit::OK)?;
    ensure!(snapshot_names()?.is_empty(), "{:?}", snapshot_names()?);
    ground.world.expect_target_clean(&clean)?;
    let output = ground.world.restore("latest", "one")?;
    for (number, data) in ground.data.iter().enumerate() {
        expect_equal(&before.join(number.to_string()), &below(&output, data))?;
    }

    let second = ground.world.run()?;
    let changed = VOLUMES.len() as u64 * (1 << 20);
    ensure!(
        (changed..changed + 100).contains(&second.bytes_read),
        "{second:?}"
    );
    let output = ground.world.restore("latest", "two")?;
    for data in &ground.data {
        expect_equal(data, &below(&output, data))?;
    }
    Ok(())
}

fn a_killed_agent_leaves_no_snapshot(ground: &mut Ground) -> Result<()> {
    for data in &ground.data {
        for number in 10..12 {
            let path = data.join(format!("large-{number}"));
            fs::write(path, incompressible(number, 1 << 20))?;
        }
    }
    let clean = ground.world.target_state()?;
    let run = ground.start_and_wait(VOLUMES.len())?;
    for agent in ground.world.sshd().agents()? {
        processes::kill(agent.pid)?;
    }
    run.finish(DEADLINE)?.expect_code(exit::ERROR)?;
    wait_until_removed()?;
    ground.world.expect_target_clean(&clean)
}

fn leftovers_go_and_nothing_else_does(ground: &mut Ground) -> Result<()> {
    let run = ground.start_and_wait(VOLUMES.len())?;
    // All at once, as by a power cut: the guard has no time to remove anything.
    processes::kill(ground.guard()?)?;
    ground.world.sshd_mut().power_off()?;
    run.finish(DEADLINE)?.expect_code(exit::ERROR)?;
    ground.world.sshd_mut().power_on()?;
    let left = snapshot_names()?;
    ensure!(left.len() == VOLUMES.len(), "{left:?}");

    // Others' snapshots, under names that are close, and a volume that is none.
    let name = left.first().context("there is one")?;
    let repository = name.split('_').nth(1).context("its parts")?;
    let zeros = "0".repeat(repository.len());
    let others = [
        name.replace(repository, &zeros),
        format!("{name}x"),
        format!("{PREFIX}mine"),
    ];
    for other in &others {
        let of = format!("{GROUP}/thin");
        create(&["--snapshot", "-n", other, &of])?;
    }
    let (stem, _) = name.rsplit_once('_').context("its number")?;
    let strange = format!("{stem}_77");
    create(&["-L", "8M", "-n", &strange, GROUP])?;

    let report = ground.world.run_expecting(exit::WARNINGS)?;
    ensure!(report.problem_count == 1, "{report:?}");
    let told = &report.problems[0].text;
    ensure!(
        told.contains(&strange) && told.contains("is none"),
        "{told}"
    );
    let mut expected: Vec<_> = others.into_iter().chain([strange]).collect();
    expected.sort();
    let mut remaining = snapshot_names()?;
    remaining.sort();
    ensure!(remaining == expected, "{remaining:?}");
    for other in expected {
        run_lvremove(&other)?;
    }
    Ok(())
}

fn overflow_fails_the_run(ground: &mut Ground) -> Result<()> {
    let classic = &ground.data[..1];
    ground.read(classic)?;
    let before = ground.world.snapshots()?.len();
    // Of 8 extents of 4 MiB a snapshot has 4.
    leave_free(8)?;
    fs::write(classic[0].join("large-20"), incompressible(20, 4 << 20))?;
    let run = ground.start_and_wait(1)?;
    let mut much = fs::File::create(classic[0].join("much"))?;
    much.write_all(&incompressible(21, 40 << 20))?;
    much.sync_all()?;
    let report: RunReport = run.finish(DEADLINE)?.expect_code(exit::ERROR)?.json()?;
    let error = report.error.unwrap_or_default();
    let expected = "snapshot of test-vg/classic overflowed";
    ensure!(error.contains(expected), "{error}");
    wait_until_removed()?;
    ensure!(ground.world.snapshots()?.len() == before);
    run_lvremove("filler")
}

fn no_room_is_told(ground: &mut Ground) -> Result<()> {
    leave_free(2)?;
    ground
        .world
        .coordinator(&["run", HOST])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["has 8 MiB free", "test-vg/classic", "thin volumes"])?;
    ensure!(snapshot_names()?.is_empty());
    ground.read(&ground.data[2..])?;
    ground.world.run()?;
    run_lvremove("filler")
}

#[test]
fn a_source_that_is_on_no_volume_fails_the_run() -> Result<()> {
    // On every target a filesystem in memory, so that nothing of this machine could be taken a snapshot of.
    let source = PathBuf::from("/dev/shm");
    let world = World::with(WorldOptions {
        paths: Some(vec![source]),
        host_lines: vec!["fs_snapshot = \"lvm\"".into()],
        ..WorldOptions::default()
    })?;
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["/dev/shm", "which is tmpfs", "not a logical volume"])?;
    ensure!(world.snapshots()?.is_empty());
    Ok(())
}

/// Takes all extents of the group but so many.
fn leave_free(extents: u64) -> Result<()> {
    let free = run("vgs", &["--noheadings", "-o", "vg_free_count", GROUP])?;
    let rest = free.trim().parse::<u64>()? - extents;
    create(&["-l", &rest.to_string(), "-n", "filler", GROUP])
}

fn wait_until_removed() -> Result<()> {
    wait_until("the snapshots' removal", SOON, || Ok(mapped()?.is_empty()))?;
    let left = snapshot_names()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// The snapshots that the kernel has, or is about to have.
fn mapped() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/dev/mapper")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Parts of them have a further hyphen.
        let own = name.strip_prefix("test--vg-capstan_");
        if own.is_some_and(|rest| !rest.contains('-')) {
            found.push(name);
        }
    }
    Ok(found)
}

/// The snapshots that LVM knows.
fn snapshot_names() -> Result<Vec<String>> {
    let listed = run("lvs", &["--noheadings", "-o", "lv_name", GROUP])?;
    let names = listed.split_whitespace();
    Ok(names
        .filter(|name| name.starts_with(PREFIX))
        .map(str::to_owned)
        .collect())
}

fn create(words: &[&str]) -> Result<()> {
    let mut all = vec!["-q", "-y", "-Wn"];
    if words.contains(&"--snapshot") || words.contains(&"-T") {
        all.pop();
    }
    all.extend(words);
    run("lvcreate", &all).map(drop)
}

fn run_lvremove(name: &str) -> Result<()> {
    run("lvremove", &["-q", "-f", "-y", &format!("{GROUP}/{name}")]).map(drop)
}

fn run(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(words)
        .output()
        .with_context(|| program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
