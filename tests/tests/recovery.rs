//! The recovery drill: everything of the coordinator is gone but the recovery kit, and one destination is enough to restore
//! every snapshot and to go on. From an S3 server alone, from an SFTP server alone, and from a directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::compare::expect_equal;
use tests::coordinator_process::Finished;
use tests::corpus::bytes::incompressible;
use tests::places::{
    Stored, add_to_config, files_below, make_bucket, repository_in, s3_table, sftp_server,
    sftp_table, write_secret,
};
use tests::s3_server::{ACCESS_KEY_ID, S3Kind, S3Server};
use tests::shapes::{RunReport, SnapshotLine, exit};
use tests::world::{HOST, World, WorldOptions, below, copy_tree};

/// What `recover --json` prints.
#[derive(Debug, Deserialize)]
struct RecoverReport {
    repositories: Vec<Recovered>,
}

#[derive(Debug, Deserialize)]
struct Recovered {
    repository: String,
    name: Option<String>,
    hosts: Vec<String>,
    snapshots: u64,
    packs: u64,
    problems: Vec<String>,
}

/// A world after its coordinator's machine has burnt down: the kit is what is left of it.
struct Ruin {
    world: World,
    kit: PathBuf,
    hosts_toml: String,
    snapshots: Vec<SnapshotLine>,
    /// The source as it was at each snapshot.
    trees: Vec<PathBuf>,
}

/// Two snapshots, and the tree of each kept beside.
fn back_up_twice(world: &World) -> Result<Vec<PathBuf>> {
    let mut trees = Vec::new();
    for run in 0..2u8 {
        let directory = world.source().join(format!("dir-{run}"));
        fs::create_dir(&directory)?;
        fs::write(
            directory.join("big"),
            incompressible(u64::from(run), 3 << 20),
        )?;
        fs::write(directory.join("small"), format!("run {run}"))?;
        world.run()?;
        let kept = world.directory().join(format!("tree-{run}"));
        copy_tree(&world.source(), &kept)?;
        trees.push(kept);
    }
    Ok(trees)
}

impl Ruin {
    fn of(world: World, trees: Vec<PathBuf>) -> Result<Self> {
        let snapshots = world.snapshots()?;
        let hosts_toml = fs::read_to_string(world.coordinator_dir().join("hosts.toml"))?;
        let kit = world.directory().join("kit.txt");
        fs::copy(world.coordinator_dir().join("recovery-kit.txt"), &kit)?;
        fs::set_permissions(&kit, fs::Permissions::from_mode(0o600))?;
        fs::remove_dir_all(world.coordinator_dir().join("state"))?;
        fs::remove_dir_all(world.coordinator_dir().join("keys"))?;
        fs::remove_file(world.config())?;
        Ok(Self {
            world,
            kit,
            hosts_toml,
            snapshots,
            trees,
        })
    }

    fn call(&self, arguments: &[&OsStr]) -> Result<Finished> {
        self.world.coordinator_raw(arguments)
    }

    fn recover(&self, dir: &Path, url: &str, settings: &[String]) -> Result<Finished> {
        let mut arguments: Vec<OsString> = vec![
            "recover".into(),
            "--json".into(),
            "--dir".into(),
            dir.into(),
            "--kit".into(),
            (&self.kit).into(),
            "--destination".into(),
            url.into(),
        ];
        for setting in settings {
            arguments.extend(["--set".into(), setting.into()]);
        }
        let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        self.call(&arguments)
    }

    /// Recovers, and restores and verifies everything from the one destination.
    fn drill(&self, name: &str, url: &str, settings: &[String]) -> Result<PathBuf> {
        let dir = self.world.directory().join(name);
        let report: RecoverReport = self
            .recover(&dir, url, settings)?
            .expect_code(exit::OK)?
            .json()?;
        println!("{name}: {report:?}");
        let [found] = &report.repositories[..] else {
            anyhow::bail!("one repository: {report:?}");
        };
        ensure!(
            found.hosts == [HOST] && found.name.as_deref() == Some(HOST) && found.snapshots == 2,
            "{found:?}"
        );
        ensure!(
            found.packs >= 4 && found.problems.is_empty() && found.repository.len() == 32,
            "{found:?}"
        );
        let config = dir.join("coordinator.toml");
        let with = |arguments: &[&str]| -> Result<Finished> {
            let mut all: Vec<&OsStr> = vec![OsStr::new("-c"), config.as_os_str()];
            all.extend(arguments.iter().map(OsStr::new));
            self.call(&all)
        };
        let listed: Vec<SnapshotLine> = with(&["snapshots", HOST, "--json"])?
            .expect_code(exit::OK)?
            .json()?;
        let ids = |lines: &[SnapshotLine]| -> Vec<String> {
            lines.iter().map(|line| line.id.clone()).collect()
        };
        ensure!(ids(&listed) == ids(&self.snapshots), "{listed:?}");
        for (number, (line, tree)) in listed.iter().zip(&self.trees).enumerate() {
            let out = self.world.output(&format!("{name}-{number}"));
            let to = out.display().to_string();
            with(&["restore", HOST, &line.id, "--to", &to])?.expect_code(exit::OK)?;
            expect_equal(tree, &below(&out, &self.world.source()))
                .with_context(|| format!("{name}, snapshot {number}"))?;
        }
        with(&["verify", HOST])?.expect_code(exit::OK)?;
        with(&["scan", "--full", "--verify"])?.expect_code(exit::OK)?;
        Ok(dir)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kit_and_s3_alone_or_sftp_alone_bring_everything_back_and_the_log_goes_on() -> Result<()>
{
    let world = World::new()?;
    let s3_dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, s3_dir.path())?;
    make_bucket(&s3).await?;
    let nas = tests::world::temporary_directory()?;
    let sshd = sftp_server(&nas.path().join("sshd"))?;
    let root = nas.path().join("root").display().to_string();
    add_to_config(&world, &s3_table(&s3.endpoint(), true))?;
    add_to_config(&world, &sftp_table(&sshd, &root)?)?;
    world
        .coordinator(&["destination", "create", "nas"])?
        .expect_code(exit::OK)?;
    let trees = back_up_twice(&world)?;
    let local = world.repository();
    let ruin = Ruin::of(world, trees)?;
    fs::remove_dir_all(&local)?;

    let secret = ruin.world.directory().join("s3.secret");
    write_secret(&secret)?;
    let s3_settings = [
        format!("endpoint={}", s3.endpoint()),
        format!("access_key_id={ACCESS_KEY_ID}"),
        format!("secret_key_file={}", secret.display()),
    ];
    let before = Stored::bucket(&s3).objects().await?;
    let dir = ruin.drill("from-s3", "s3://backups/capstan", &s3_settings)?;
    ensure!(
        Stored::bucket(&s3).objects().await? == before,
        "recovering and restoring wrote to the destination"
    );
    let sftp_settings = [
        format!("host_key={}", sshd.fingerprint()?),
        format!("identity_file={}", sshd.identity_file().display()),
    ];
    let url = format!("sftp://root@{}{root}", sshd.address());
    ruin.drill("from-sftp", &url, &sftp_settings)?;

    // With the lease of the one that burnt down, the log goes on where it ended; the host is known as it was.
    fs::write(ruin.world.source().join("after"), "the fire")?;
    let config = dir.join("coordinator.toml");
    let with = |arguments: &[&str]| -> Result<Finished> {
        let mut all: Vec<&OsStr> = vec![OsStr::new("-c"), config.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        ruin.call(&all)
    };
    with(&["run", HOST])?
        .expect_code(exit::LOCKED)?
        .expect_stderr(&["lease take"])?;
    with(&["lease", "take", "--all"])?.expect_code(exit::OK)?;
    let report: RunReport = with(&["run", HOST, "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    // Two snapshots after a lease and the settings, the lease taken over, this snapshot.
    ensure!(
        report.snapshot.as_ref().map(|snapshot| snapshot.seq) == Some(6) && report.new_bytes < 64,
        "{report:?}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_recovered_is_refused_with_its_reason_and_leaves_nothing() -> Result<()> {
    let world = World::new()?;
    let trees = back_up_twice(&world)?;
    let store = world.repository();
    let ruin = Ruin::of(world, trees)?;
    let dir = ruin.world.directory().join("recovered");
    let url = format!("file://{}", store.display());
    let nothing_is_left = |about: &str| -> Result<()> {
        let left = fs::read_dir(&dir).map(Iterator::count).unwrap_or_default();
        ensure!(!dir.join("coordinator.toml").exists(), "{about}: {left}");
        Ok(())
    };

    // A place without a destination, a destination without a repository, and another one's kit.
    let empty = ruin.world.directory().join("empty");
    fs::create_dir(&empty)?;
    ruin.recover(&dir, &format!("file://{}", empty.display()), &[])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["capstan-destination"])?;
    nothing_is_left("no destination")?;
    fs::copy(
        store.join("capstan-destination"),
        empty.join("capstan-destination"),
    )?;
    ruin.recover(&dir, &format!("file://{}", empty.display()), &[])?
        .expect_code(exit::NOT_FOUND)?
        .expect_stderr(&["no repository"])?;
    nothing_is_left("no repository")?;
    let other = World::new()?;
    let strange = Ruin {
        kit: other.coordinator_dir().join("recovery-kit.txt"),
        ..Ruin::of(other, Vec::new())?
    };
    strange
        .recover(&dir, &url, &[])?
        .expect_code(exit::WRONG_KEY)?
        .expect_stderr(&["none is of this kit"])?;
    nothing_is_left("another kit")?;
    ruin.recover(&dir, &url, &["name".to_owned()])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["KEY=VALUE"])?;
    ruin.recover(&dir, &url, &["endpoint=x".to_owned()])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["endpoint"])?;
    nothing_is_left("a foreign key")?;

    // A hosts.toml that is there is kept; a second time is refused.
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    fs::write(dir.join("hosts.toml"), &ruin.hosts_toml)?;
    ruin.recover(&dir, &url, &[])?.expect_code(exit::OK)?;
    ensure!(fs::read_to_string(dir.join("hosts.toml"))? == ruin.hosts_toml);
    ruin.recover(&dir, &url, &[])?
        .expect_code(exit::ERROR)?
        .expect_stderr(&["set up already"])?;
    Ok(())
}

/// A kept hosts.toml names destinations as they were called once.
#[test]
fn hosts_that_are_kept_at_destinations_of_before_are_recovered_from_one_of_them() -> Result<()> {
    let world = World::new()?;
    let nas = world.directory().join("nas");
    let table = format!(
        "[[destination]]\nname = \"nas\"\nurl = \"file://{}\"\nrequired = false\n",
        nas.display()
    );
    add_to_config(&world, &table)?;
    world
        .coordinator(&["destination", "create", "nas"])?
        .expect_code(exit::OK)?;
    let sshd = world.sshd();
    let hosts = world.hosts_toml(&sshd.address().to_string(), &sshd.fingerprint()?)?;
    world.write_hosts(&format!("{hosts}\ndestinations = [\"nas\"]\n"))?;
    let trees = back_up_twice(&world)?;
    let ruin = Ruin::of(world, trees)?;
    let url = format!("file://{}", nas.display());
    for (name, settings, is_known) in [
        ("without-a-name", &[][..], false),
        ("with-its-name", &["name=nas".to_owned()][..], true),
    ] {
        let dir = ruin.world.directory().join(name);
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let file = dir.join("hosts.toml");
        fs::write(&file, &ruin.hosts_toml)?;
        ruin.drill(name, &url, settings)?;
        let expected = match is_known {
            true => ruin.hosts_toml.clone(),
            false => ruin.hosts_toml.replace("\ndestinations", "\n#destinations"),
        };
        ensure!(fs::read_to_string(&file)? == expected, "{name}");
        let before = fs::read_to_string(dir.join("hosts.toml.before"));
        ensure!(
            before.ok() == (!is_known).then(|| ruin.hosts_toml.clone()),
            "{name}"
        );
    }
    Ok(())
}

/// The coordinator's state as it was a while ago, as from an old image of its disk.
#[test]
fn a_coordinator_that_was_rolled_back_refuses_to_write_until_reconciled() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), "one")?;
    world.run()?;
    let state = world.coordinator_dir().join("state");
    let image = world.directory().join("image");
    copy_tree(&state, &image)?;
    for run in 2..4 {
        fs::write(world.source().join("one"), format!("run {run}"))?;
        world.run()?;
    }
    let heads = world
        .coordinator(&["audit", "head"])?
        .expect_code(exit::OK)?
        .stdout_text();
    let witness = world.directory().join("heads");
    fs::write(&witness, &heads)?;
    let checked = |code: i32| -> Result<String> {
        let file = witness.display().to_string();
        let finished = world.coordinator(&["audit", "check", &file])?;
        Ok(finished.expect_code(code)?.stdout_text())
    };
    ensure!(checked(exit::OK)?.contains(" 5 holds"), "{heads}");

    fs::remove_dir_all(&state)?;
    fs::rename(&image, &state)?;
    for _ in 0..2 {
        world
            .coordinator(&["run", HOST])?
            .expect_code(exit::INTEGRITY)?
            .expect_stderr(&["records 4 to 5", "did not write", "audit reconcile web1"])?;
    }
    // What is there can be read all the same, and nothing was written.
    ensure!(world.snapshots()?.len() == 3);
    world.expect_restores("latest", "latest")?;
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::INTEGRITY)?;
    ensure!(world.snapshots()?.len() == 3);

    let accepted = world.coordinator(&["audit", "reconcile", HOST])?;
    let accepted = accepted.expect_code(exit::OK)?.stdout_text();
    ensure!(accepted.contains("accepted records 4 to 5"), "{accepted}");
    let report = world.run()?;
    ensure!(report.snapshot.map(|snapshot| snapshot.seq) == Some(6));

    // History is what the witness kept, and another one would be told.
    ensure!(checked(exit::OK)?.contains(" 5 holds"));
    fs::write(&witness, heads.replace(" 5 ", " 4 "))?;
    ensure!(checked(exit::INTEGRITY)?.contains("CHANGED"));
    fs::write(&witness, heads.replace(" 5 ", " 50 "))?;
    ensure!(checked(exit::INTEGRITY)?.contains("ROLLED BACK"));
    Ok(())
}

/// A destination that was pruned brings back what was kept, misses nothing, and is pruned on.
#[test]
fn a_pruned_repository_is_recovered_and_misses_nothing() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec!["keep = { last = 2 }".into(), "keep_floor = 1".into()],
        ..WorldOptions::default()
    })?;
    world.replace_config_line("#grace = ", "grace = \"1s\"")?;
    let gone = world.source().join("gone");
    fs::write(&gone, incompressible(9, 5 << 20))?;
    world.run()?;
    fs::remove_file(&gone)?;
    let trees = back_up_twice(&world)?;
    let packs = || -> Result<usize> {
        let repository = repository_in(&world.repository())?;
        Ok(files_below(&repository.join("packs"))?.len())
    };
    let before = packs()?;
    let prune = ["prune", HOST, "--yes"];
    world.coordinator(&prune)?.expect_code(exit::OK)?;
    std::thread::sleep(Duration::from_millis(2_200));
    world.coordinator(&prune)?.expect_code(exit::OK)?;
    ensure!(packs()? < before, "{before} packs, and none was removed");
    let url = format!("file://{}", world.repository().display());
    let ruin = Ruin::of(world, trees)?;
    ensure!(ruin.snapshots.len() == 2, "{:?}", ruin.snapshots);
    let dir = ruin.drill("pruned", &url, &[])?;
    let config = dir.join("coordinator.toml");
    let with = |arguments: &[&str]| -> Result<Finished> {
        let mut all: Vec<&OsStr> = vec![OsStr::new("-c"), config.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        ruin.call(&all)
    };
    with(&["lease", "take", "--all"])?.expect_code(exit::OK)?;
    with(&["run", HOST])?.expect_code(exit::OK)?;
    // Whether the host was on hold, nobody knows any more: until a person has looked nothing is dropped.
    let kept = || -> Result<usize> {
        let listed = with(&["snapshots", "--json"])?.expect_code(exit::OK)?;
        Ok(listed.json::<Vec<SnapshotLine>>()?.len())
    };
    let held = with(&prune)?.expect_code(exit::OK)?;
    ensure!(
        held.stdout_text().contains("hold"),
        "{}",
        held.stdout_text()
    );
    assert_eq!(kept()?, 3);
    with(&["hold", "release", "w*"])?.expect_code(exit::OK)?;
    with(&["hold", "release", "*"])?.expect_code(exit::NOT_FOUND)?;
    with(&prune)?.expect_code(exit::OK)?;
    assert_eq!(kept()?, 2);
    with(&["scan", "--full", "--verify"])?.expect_code(exit::OK)?;
    Ok(())
}
