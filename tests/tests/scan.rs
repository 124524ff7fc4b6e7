//! Damage at each destination: found, told by name, healed from another while one good copy is left, and never restored as
//! if it were good. Over a directory, OpenSSH's sftp and an S3 server at once.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use serde::Deserialize;
use tempfile::TempDir;
use tests::compare::expect_equal;
use tests::coordinator_process::{DEADLINE, Finished};
use tests::corpus::bytes::incompressible;
use tests::fault_proxy::{Fault, FaultProxy, Operation, Which};
use tests::faulty_machine::{FaultyMachine, Step, points};
use tests::held_command::{Held, Side, hold, kill};
use tests::killer::seed;
use tests::places::{
    BUCKET, Stored, add_to_config, leave_only, make_bucket, s3_table, sftp_server, sftp_table,
};
use tests::s3_server::{S3Kind, S3Server, admin};
use tests::shapes::exit;
use tests::sshd::Sshd;
use tests::world::{HOST, World, below, copy_tree};

/// One element of `scan --json`.
#[derive(Debug, Deserialize)]
struct ScanReport {
    outcome: String,
    problems: Vec<String>,
    destinations: Vec<DestinationReport>,
    lost: Vec<String>,
    lost_files: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct DestinationReport {
    name: String,
    objects: u64,
    read: u64,
    bytes_read: u64,
    missing: u64,
    damaged: u64,
    unknown: u64,
    healed: u64,
    locks_renewed: u64,
    problems: Vec<String>,
    error: Option<String>,
}

/// A world that stores to three places, each of which holds everything.
struct Places {
    world: World,
    s3: S3Server,
    _sshd: Sshd,
    _directories: Vec<TempDir>,
    stored: Vec<(&'static str, Stored)>,
}

impl Places {
    async fn start() -> Result<Self> {
        let world = World::new()?;
        let s3_dir = tests::world::temporary_directory()?;
        let s3 = S3Server::start(S3Kind::Moto, s3_dir.path())?;
        make_bucket(&s3).await?;
        let nas = tests::world::temporary_directory()?;
        let sshd = sftp_server(&nas.path().join("sshd"))?;
        let nas_root = nas.path().join("root");
        add_to_config(&world, &s3_table(&s3.endpoint(), true))?;
        add_to_config(&world, &sftp_table(&sshd, &nas_root.display().to_string())?)?;
        world
            .coordinator(&["destination", "create", "nas"])?
            .expect_code(exit::OK)?;
        // Three snapshots, the last of which needs packs of all three runs.
        for run in 0..3u8 {
            let name = format!("file-{run}");
            let bytes = incompressible(u64::from(run) + 1, 1 << 20);
            fs::write(world.source().join(name), bytes)?;
            world.run()?;
        }
        let stored = vec![
            ("local", Stored::Directory(world.repository())),
            ("s3", Stored::bucket(&s3)),
            ("nas", Stored::Directory(nas_root)),
        ];
        Ok(Self {
            world,
            s3,
            _sshd: sshd,
            _directories: vec![s3_dir, nas],
            stored,
        })
    }

    fn scan(&self, arguments: &[&str], code: i32) -> Result<ScanReport> {
        let arguments: Vec<&str> = ["scan", "--json"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let scans: Vec<ScanReport> = self
            .world
            .coordinator(&arguments)?
            .expect_code(code)?
            .json()?;
        let scan = scans.into_iter().next().context("a repository")?;
        for here in &scan.destinations {
            ensure!(here.error.is_none(), "{scan:?}");
        }
        Ok(scan)
    }

    fn at<'a>(scan: &'a ScanReport, name: &str) -> Result<&'a DestinationReport> {
        let found = scan.destinations.iter().find(|here| here.name == name);
        found.context("a destination that was scanned")
    }
}

/// The kinds of object, by how their names go on after the repository's.
const KINDS: [&str; 5] = ["config", "keys/", "packs/", "meta/", "log/"];

/// What can become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flip,
    /// So many of its bytes are left, in eighths.
    Truncate(usize),
    Extend,
    Delete,
    /// Another object of its kind, or of any when it is the only one.
    Swap,
}

const DAMAGES: [Damage; 8] = [
    Damage::Flip,
    Damage::Truncate(0),
    Damage::Truncate(1),
    Damage::Truncate(4),
    Damage::Truncate(7),
    Damage::Extend,
    Damage::Delete,
    Damage::Swap,
];

/// One object of each kind; of the log the last record but one.
fn victims(objects: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
    let mut victims = Vec::new();
    for kind in KINDS {
        let of_kind = |name: &&String| {
            let rest = name.split_once('/').map_or("", |(_, rest)| rest);
            rest.starts_with(kind)
        };
        let mut names: Vec<_> = objects.keys().filter(of_kind).collect();
        if kind == "log/" {
            names.pop();
        }
        victims.push((*names.last().with_context(|| format!("no {kind}"))?).clone());
    }
    Ok(victims)
}

async fn inflict(
    damage: Damage,
    stored: &Stored,
    objects: &BTreeMap<String, Vec<u8>>,
    name: &str,
) -> Result<()> {
    let good = objects.get(name).context("it is there")?;
    let mut bytes = good.clone();
    match damage {
        Damage::Flip => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Damage::Truncate(eighths) => bytes.truncate(bytes.len() * eighths / 8),
        Damage::Extend => bytes.push(0),
        Damage::Delete => return stored.remove(name).await,
        Damage::Swap => {
            let folder = name.rsplit('/').nth(1).unwrap_or_default();
            let others = || objects.iter().filter(|(_, bytes)| *bytes != good);
            let same_kind = others().find(|(other, _)| {
                let same = other.rsplit('/').nth(1).unwrap_or_default();
                same == folder
            });
            let other = same_kind.or_else(|| others().next());
            bytes.clone_from(other.context("another object")?.1);
        }
    }
    stored.overwrite(name, bytes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_to_every_kind_of_object_anywhere_is_found_and_healed() -> Result<()> {
    let places = Places::start().await?;
    places.scan(&["--full", "--verify"], exit::OK)?;
    let (mut inflicted, mut found, mut healed) = (0, 0, 0);
    for (place, stored) in &places.stored {
        let objects = stored.objects().await?;
        let victims = victims(&objects)?;
        for damage in DAMAGES {
            let about = || format!("{damage:?} at {place}");
            for name in &victims {
                inflict(damage, stored, &objects, name).await?;
            }
            inflicted += victims.len();

            // What comes back is right whatever is damaged, for two copies are good.
            places
                .world
                .expect_restores("latest", &format!("{place}-{damage:?}"))
                .with_context(about)?;

            let scan = places
                .scan(&["--full"], exit::INTEGRITY)
                .with_context(about)?;
            let here = Places::at(&scan, place)?;
            for name in &victims {
                let (_, object) = name.split_once('/').context("a repository")?;
                let named = here.problems.iter().any(|line| line.starts_with(object));
                ensure!(named, "{}: {object} is not named: {scan:?}", about());
                found += 1;
            }
            ensure!(here.missing + here.damaged == 5, "{}: {scan:?}", about());
            ensure!(scan.lost.is_empty(), "{}: {scan:?}", about());
            for other in scan
                .destinations
                .iter()
                .filter(|other| other.name != *place)
            {
                ensure!(other.missing + other.damaged == 0, "{}: {scan:?}", about());
            }

            let scan = places
                .scan(&["--full", "--repair"], exit::WARNINGS)
                .with_context(about)?;
            healed += Places::at(&scan, place)?.healed;
            places.scan(&["--full"], exit::OK).with_context(about)?;
            for name in &victims {
                let good = objects.get(name).context("it was there")?;
                ensure!(stored.read(name).await? == *good, "{}: {name}", about());
            }
            expect_evidence(damage, stored, &victims)
                .await
                .with_context(about)?;
            fs::remove_dir_all(places.world.output(&format!("{place}-{damage:?}")))?;
        }
    }
    println!(
        "{inflicted} objects damaged, {found} found and named, {healed} healed, 0 wrong bytes restored"
    );
    ensure!(inflicted == 3 * 8 * 5 && found == inflicted && healed == inflicted as u64);
    Ok(())
}

/// What was damaged is still there, beside what took its place.
async fn expect_evidence(damage: Damage, stored: &Stored, victims: &[String]) -> Result<()> {
    let all = stored.objects().await?;
    for name in victims {
        let (repository, object) = name.split_once('/').context("a repository")?;
        let kept = format!("{repository}/damaged/{}.", object.replace('/', "-"));
        let count = all.keys().filter(|name| name.starts_with(&kept)).count();
        ensure!(
            count > 0 || damage == Damage::Delete,
            "the damaged {object} was not kept"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_everywhere_is_lost_and_told_by_the_files_that_need_it() -> Result<()> {
    let places = Places::start().await?;
    let mut packs = Vec::new();
    for (_, stored) in &places.stored {
        let objects = stored.objects().await?;
        let name = objects.keys().find(|name| name.contains("/packs/"));
        let name = name.context("a pack")?.clone();
        inflict(Damage::Flip, stored, &objects, &name).await?;
        packs.push(name);
    }
    packs.dedup();
    ensure!(packs.len() == 1, "the same pack everywhere: {packs:?}");
    let (_, pack) = packs[0].split_once('/').context("a repository")?;
    let scan = places.scan(&["--full", "--repair"], exit::INTEGRITY)?;
    ensure!(scan.outcome == "damaged" && scan.lost == [pack], "{scan:?}");
    let named = |file: &str| {
        let at_end = format!("/{file}");
        scan.lost_files
            .iter()
            .filter(|line| line.ends_with(&at_end))
            .count()
    };
    // One run's pack: its file is in that snapshot and in every later one, and no other file is.
    let counts: Vec<_> = ["file-0", "file-1", "file-2"]
        .into_iter()
        .map(named)
        .collect();
    ensure!(
        counts.iter().filter(|count| **count > 0).count() == 1,
        "{counts:?} {scan:?}"
    );
    // The other files come back, and the lost one does not come back as something else.
    let out = places.world.output("out");
    places
        .world
        .coordinator(&[
            "restore",
            HOST,
            "latest",
            "--to",
            &out.display().to_string(),
        ])?
        .expect_code(exit::INTEGRITY)?;
    let mut restored = 0;
    for name in ["file-0", "file-1", "file-2"] {
        let original = places.world.source().join(name);
        let copy = tests::world::below(&out, &original);
        if copy.exists() {
            ensure!(fs::read(copy)? == fs::read(original)?, "{name}");
            restored += 1;
        }
    }
    ensure!(restored == 2, "{restored} files came back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_cut_short_or_goes_on_elsewhere_is_told_by_destination() -> Result<()> {
    let places = Places::start().await?;
    for (place, stored) in &places.stored {
        let objects = stored.objects().await?;
        let last = objects.keys().rfind(|name| name.contains("/log/"));
        let last = last.context("a record")?.clone();
        let bytes = objects.get(&last).context("its bytes")?.clone();
        stored.remove(&last).await?;
        let scan = places.scan(&[], exit::INTEGRITY)?;
        let here = Places::at(&scan, place)?;
        ensure!(here.missing == 1, "{place}: {scan:?}");
        if *place == "local" {
            // The first required destination is what runs and lists go by.
            ensure!(
                scan.problems
                    .iter()
                    .any(|line| line.contains("rolled back")),
                "{scan:?}"
            );
            places
                .world
                .coordinator(&["run", HOST])?
                .expect_code(exit::INTEGRITY)?
                .expect_stderr(&["rolled back", "scan --repair"])?;
            places
                .world
                .coordinator(&["snapshots", "--destination", "s3"])?
                .expect_code(exit::OK)?;
        }
        places.scan(&["--repair"], exit::WARNINGS)?;
        ensure!(stored.read(&last).await? == bytes, "{place}");

        // A record from nowhere.
        let next = last.replace("00005", "00006");
        ensure!(next != last, "{last}");
        if let Stored::Directory(root) = stored {
            fs::write(root.join(&next), &bytes)?;
            let scan = places.scan(&[], exit::INTEGRITY)?;
            ensure!(Places::at(&scan, place)?.unknown == 1, "{scan:?}");
            let named = format!("at {place} goes on");
            ensure!(
                *place == "local" || scan.problems.iter().any(|line| line.contains(&named)),
                "{scan:?}"
            );
            stored.remove(&next).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_where_the_budget_or_the_part_ended() -> Result<()> {
    let places = Places::start().await?;
    let whole = places.scan(&["--full"], exit::OK)?;
    let total = Places::at(&whole, "nas")?.objects;
    // The config and the end of the log are read each time besides.
    let always = 2;
    let mut read = 0;
    for _ in 0..4 {
        let scan = places.scan(&["--percent", "25", "--destination", "nas"], exit::OK)?;
        read += Places::at(&scan, "nas")?.read - always;
        ensure!(scan.destinations.len() == 1, "{scan:?}");
    }
    ensure!(
        read == total,
        "{read} of {total} were read by four quarters"
    );

    let first = places.scan(
        &[
            "--percent",
            "100",
            "--budget",
            "1200KiB",
            "--destination",
            "nas",
        ],
        exit::OK,
    )?;
    let first = Places::at(&first, "nas")?;
    ensure!(
        first.bytes_read <= 1200 << 10 && first.read < total,
        "{first:?}"
    );
    let rest = places.scan(&["--percent", "100", "--destination", "nas"], exit::OK)?;
    let rest = Places::at(&rest, "nas")?;
    ensure!(
        first.read + rest.read - 2 * always == total,
        "{first:?} {rest:?}"
    );

    // Everything is everything, wherever the last scan stopped.
    places.scan(&["--percent", "50", "--destination", "nas"], exit::OK)?;
    let all = places.scan(&["--full", "--destination", "nas"], exit::OK)?;
    let all = Places::at(&all, "nas")?;
    ensure!(all.read == total + always, "{all:?}");

    // What is new is read once.
    let new = places.scan(&["--new"], exit::OK)?;
    fs::write(
        places.world.source().join("new"),
        incompressible(9, 1 << 20),
    )?;
    places.world.run()?;
    let newer = places.scan(&["--new"], exit::OK)?;
    let again = places.scan(&["--new"], exit::OK)?;
    for name in ["local", "s3", "nas"] {
        let counts =
            [&new, &newer, &again].map(|scan| Places::at(scan, name).map(|here| here.read));
        let [new, newer, again] = counts;
        let (new, newer, again) = (new?, newer?, again?);
        ensure!(new == always && again == always, "{name}: {new} {again}");
        ensure!(newer >= always + 2, "{name}: {newer}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_does_not_answer_stops_no_scan_of_the_others() -> Result<()> {
    let places = Places::start().await?;
    let (_, stored) = &places.stored[2];
    let Stored::Directory(root) = stored else {
        anyhow::bail!("a directory");
    };
    let away = root.with_extension("away");
    fs::rename(root, &away)?;
    let scans: Vec<ScanReport> = places
        .world
        .coordinator(&["scan", "--full", "--repair", "--json"])?
        .expect_code(exit::ERROR)?
        .json()?;
    let scan = &scans[0];
    ensure!(scan.outcome == "incomplete", "{scan:?}");
    let nas = Places::at(scan, "nas")?;
    ensure!(nas.missing == 0 && nas.error.is_some(), "{scan:?}");
    ensure!(Places::at(scan, "s3")?.read > 0, "{scan:?}");
    fs::rename(&away, root)?;
    places.scan(&["--full"], exit::OK)?;
    Ok(())
}

/// Parts that follow one another leave nothing out: a damaged object is found by one of them, whichever it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_found_by_parts_that_make_up_the_whole() -> Result<()> {
    let places = Places::start().await?;
    let (_, nas) = places
        .stored
        .iter()
        .find(|(name, _)| *name == "nas")
        .context("nas")?;
    let objects = nas.objects().await?;
    let pack = objects
        .keys()
        .find(|name| name.contains("/packs/"))
        .context("a pack")?;
    inflict(Damage::Flip, nas, &objects, pack).await?;
    let mut found = 0;
    for _ in 0..4 {
        let arguments = ["scan", "--json", "--percent", "25", "--destination", "nas"];
        let finished = places.world.coordinator(&arguments)?;
        let scans: Vec<ScanReport> = finished.json()?;
        found += Places::at(scans.first().context("a repository")?, "nas")?.damaged;
    }
    ensure!(found == 1, "the damaged pack was found {found} times");
    Ok(())
}

/// Scans that repair look on while runs add to what they look at, and while a destination heals.
#[tokio::test(flavor = "multi_thread")]
async fn scans_and_runs_go_on_beside_each_other() -> Result<()> {
    let places = Places::start().await?;
    for round in 0..3u8 {
        let bytes = incompressible(u64::from(round) + 100, 48 << 20);
        fs::write(places.world.source().join("beside"), bytes)?;
        let (name, stored) = &places.stored[usize::from(round)];
        let objects = stored.objects().await?;
        let pack = objects
            .keys()
            .find(|name| name.contains("/packs/"))
            .context("a pack")?;
        inflict(Damage::Flip, stored, &objects, pack).await?;
        let run = places.world.start(&["run", HOST])?;
        let scan = places.scan(&["--full", "--repair"], exit::WARNINGS)?;
        ensure!(Places::at(&scan, name)?.healed == 1, "{scan:?}");
        ensure!(scan.problems.is_empty() && scan.lost.is_empty(), "{scan:?}");
        run.finish(DEADLINE)?.expect_code(exit::OK)?;
    }
    places
        .world
        .coordinator(&["destination", "sync", "s3"])?
        .expect_code(exit::OK)?;
    let scan = places.scan(&["--full", "--verify"], exit::OK)?;
    ensure!(scan.outcome == "ok", "{scan:?}");
    places.world.expect_restores("latest", "after")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_is_named_and_stops_no_scan_of_the_others() -> Result<()> {
    let places = Places::start().await?;
    let stored = places.stored[0].1.objects().await?;
    let key = stored.keys().find(|key| key.contains("/packs/"));
    let key = key.context("a pack")?.clone();
    let (_, object) = key.split_once('/').context("its repository")?;
    let proxy = FaultProxy::start(places.s3.address())?;
    let line = format!("endpoint = {:?}", proxy.endpoint());
    places.world.replace_config_line("endpoint", &line)?;
    let sound = places.scan(&["--full"], exit::OK)?;
    let all = Places::at(&sound, "s3")?.read;
    proxy.plan(
        Which::all(Operation::Get).with(&key),
        Fault::refuse(403, "AccessDenied"),
    );
    for _ in 0..2 {
        let scan = places.scan(&["--full"], exit::INTEGRITY)?;
        let s3 = Places::at(&scan, "s3")?;
        ensure!(s3.read == all - 1 && s3.damaged == 1, "{scan:?}");
        let told = s3.problems.join("\n");
        ensure!(
            told.contains(object) && told.contains("cannot be read"),
            "{told}"
        );
        // Two others have it, and nobody knows this one to be bad.
        ensure!(
            scan.lost.is_empty() && Places::at(&scan, "nas")?.read == all,
            "{scan:?}"
        );
    }
    proxy.forget_plan();
    places.scan(&["--full"], exit::OK)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_run_out_are_prolonged_and_refuse_a_removal() -> Result<()> {
    let world = World::new()?;
    fs::write(world.source().join("one"), incompressible(1, 1 << 20))?;
    let dir = tests::world::temporary_directory()?;
    let s3 = S3Server::start(S3Kind::Moto, dir.path())?;
    let client = admin(&s3);
    client
        .create_bucket()
        .bucket(BUCKET)
        .object_lock_enabled_for_bucket(true)
        .send()
        .await?;
    let table = s3_table(&s3.endpoint(), true);
    add_to_config(
        &world,
        &format!("{table}retain = \"30d\"\nretain_mode = \"governance\"\n"),
    )?;
    world.run()?;
    let names: Vec<String> = Stored::bucket(&s3).objects().await?.into_keys().collect();
    let is_locked = |name: &&String| !name.contains("/keys/");
    let locked: Vec<_> = names.iter().filter(is_locked).collect();
    ensure!(locked.len() >= 4, "{names:?}");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    for name in &locked {
        let soon = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(DateTime::from_secs(i64::try_from(now + 86_400)?))
            .build();
        client
            .put_object_retention()
            .bucket(BUCKET)
            .key(format!("capstan/{name}"))
            .bypass_governance_retention(true)
            .retention(soon)
            .send()
            .await?;
    }
    let renewed = |arguments: &[&str]| -> Result<u64> {
        let scans: Vec<ScanReport> = world
            .coordinator(arguments)?
            .expect_code(exit::OK)?
            .json()?;
        Ok(Places::at(&scans[0], "s3")?.locks_renewed)
    };
    ensure!(renewed(&["scan", "--json"])? == 0);
    ensure!(renewed(&["scan", "--json", "--extend-locks"])? == locked.len() as u64);
    ensure!(
        renewed(&["scan", "--json", "--extend-locks"])? == 0,
        "once is enough"
    );
    for name in &locked {
        let key = format!("capstan/{name}");
        let head = client.head_object().bucket(BUCKET).key(&key).send().await?;
        let until = head.object_lock_retain_until_date().context("a lock")?;
        ensure!(until.secs().unsigned_abs() > now + 29 * 86_400, "{until:?}");
        let version = head.version_id().context("a version")?;
        let removed = client.delete_object().bucket(BUCKET).key(&key);
        ensure!(
            removed.version_id(version).send().await.is_err(),
            "{key} was removed"
        );
    }
    Ok(())
}

/// Two coordinators from one image, each with its own destination for a while: both histories are signed and whole.
#[test]
fn a_fork_is_told_and_never_healed_over() -> Result<()> {
    let world = World::new()?;
    let disk = world.directory().join("disk");
    let table = format!(
        "\n[[destination]]\nname = \"disk\"\nurl = \"file://{}\"\n",
        disk.display()
    );
    let only_local = fs::read_to_string(world.config())?;
    let both = format!("{only_local}{table}");
    world.write_config(&both)?;
    world
        .coordinator(&["destination", "create", "disk"])?
        .expect_code(exit::OK)?;
    fs::write(world.source().join("one"), "one")?;
    world.run()?;
    let state = world.coordinator_dir().join("state");
    let image = world.directory().join("image");
    copy_tree(&state, &image)?;

    world.write_config(&only_local)?;
    fs::write(world.source().join("one"), "here")?;
    world.run()?;
    fs::remove_dir_all(&state)?;
    fs::rename(&image, &state)?;
    leave_only(&world, &table)?;
    fs::write(world.source().join("one"), "there")?;
    world.run()?;

    world.write_config(&both)?;
    let record = |root: &std::path::Path| -> Result<Vec<u8>> {
        let mut repositories = fs::read_dir(root)?.filter_map(Result::ok);
        let repository = repositories.find(|entry| entry.file_name().len() == 32);
        let repository = repository.context("a repository")?.path();
        Ok(fs::read(repository.join("log/00000000000000000004"))?)
    };
    let (here, there) = (record(&world.repository())?, record(&disk)?);
    ensure!(here != there);
    let scanned = world
        .coordinator(&["scan", "--full", "--repair"])?
        .expect_code(exit::INTEGRITY)?
        .stdout_text();
    ensure!(
        scanned.contains("the log at local was forked") && scanned.contains("two histories"),
        "{scanned}"
    );
    ensure!(record(&world.repository())? == here && record(&disk)? == there);
    Ok(())
}

/// Where the log is read first, a fork is refused; another destination, named, has what was committed.
fn expect_restores_beside(world: &World, forked: &str) -> Result<()> {
    let out = world.output(&format!("beside-{forked}"));
    let to = out.to_str().context("a path")?;
    let latest = ["restore", HOST, "latest", "--to", to];
    if forked == "local" {
        world
            .coordinator(&latest)?
            .expect_code(exit::INTEGRITY)?
            .expect_stderr(&["forked"])?;
    }
    let other = if forked == "s3" { "local" } else { "s3" };
    let named = [&latest[..], &["--destination", other]].concat();
    world.coordinator(&named)?.expect_code(exit::OK)?;
    expect_equal(&world.source(), &below(&out, &world.source()))
}

/// Of all objects a record alone can have an older version that was valid under its name: one of a history that was given up.
/// Put back at one destination it is told, nothing takes its place, and what is restored is right.
#[tokio::test]
async fn an_older_valid_record_that_is_put_back_anywhere_is_told_and_stays() -> Result<()> {
    let places = Places::start().await?;
    let world = &places.world;
    let state = world.coordinator_dir().join("state");
    let image = world.directory().join("image");
    copy_tree(&state, &image)?;
    fs::write(world.source().join("file-0"), "given up")?;
    world.run()?;
    let newest = |objects: &BTreeMap<String, Vec<u8>>| {
        let found = objects.iter().rfind(|(name, _)| name.contains("/log/"));
        found.map(|(name, bytes)| (name.clone(), bytes.clone()))
    };
    let mut older = Vec::new();
    for (_, stored) in &places.stored {
        let (name, bytes) = newest(&stored.objects().await?).context("a record")?;
        stored.remove(&name).await?;
        older.push((name, bytes));
    }
    fs::remove_dir_all(&state)?;
    fs::rename(&image, &state)?;
    fs::write(world.source().join("file-0"), "as it is")?;
    world.run()?;
    places.scan(&["--full"], exit::OK)?;
    for ((place, stored), (name, bytes)) in places.stored.iter().zip(older) {
        let (now, good) = newest(&stored.objects().await?).context("a record")?;
        ensure!(now == name && good != bytes, "{place}: {now} for {name}");
        stored.overwrite(&name, bytes.clone()).await?;
        for arguments in [&["--full"][..], &["--full", "--repair"]] {
            let scan = places.scan(arguments, exit::INTEGRITY)?;
            let forked = format!("the log at {place} was forked");
            let told = scan.problems.iter().any(|line| line.starts_with(&forked));
            ensure!(told == arguments.contains(&"--repair"), "{place}: {scan:?}");
            let here = Places::at(&scan, place)?;
            let (_, object) = name.split_once('/').context("a repository")?;
            let named = here.problems.iter().any(|line| line.starts_with(object));
            ensure!(named && here.damaged == 1 && here.healed == 0, "{scan:?}");
            for other in scan
                .destinations
                .iter()
                .filter(|other| other.name != *place)
            {
                ensure!(other.damaged + other.missing == 0, "{place}: {scan:?}");
            }
        }
        ensure!(
            stored.read(&name).await? == bytes,
            "{place}: it was replaced"
        );
        expect_restores_beside(world, place)?;
        stored.overwrite(&name, good).await?;
        places.scan(&["--full"], exit::OK)?;
    }
    Ok(())
}

/// A world of two places, one of which is an S3 server behind a proxy, and what it holds when all is well.
struct Watched {
    world: World,
    proxy: FaultProxy,
    s3: S3Server,
    _directory: TempDir,
}

impl Watched {
    async fn start(keys: &str, locks: bool) -> Result<Self> {
        let world = World::new()?;
        let directory = tests::world::temporary_directory()?;
        let s3 = S3Server::start(S3Kind::Moto, directory.path())?;
        let create = admin(&s3).create_bucket().bucket(BUCKET);
        let create = create.object_lock_enabled_for_bucket(locks);
        create.send().await?;
        let proxy = FaultProxy::start(s3.address())?;
        let table = s3_table(&proxy.endpoint(), true);
        add_to_config(&world, &format!("{table}{keys}"))?;
        for run in 0..2u8 {
            let bytes = incompressible(u64::from(run) + 1, 1 << 20);
            fs::write(world.source().join(format!("file-{run}")), bytes)?;
            world.run()?;
        }
        Ok(Self {
            world,
            proxy,
            s3,
            _directory: directory,
        })
    }

    fn scan(&self, arguments: &[&str], code: i32) -> Result<Finished> {
        let arguments = [&["scan", "--json"], arguments].concat();
        self.world.coordinator(&arguments)?.expect_code(code)
    }

    /// Everything is where it should be, as it was.
    async fn expect(&self, place: &Stored, was: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        self.scan(&["--full"], exit::OK)?;
        let now = place.objects().await?;
        for (name, bytes) in was {
            ensure!(now.get(name) == Some(bytes), "{name} is not what it was");
        }
        Ok(())
    }
}

const HEAL: [&str; 4] = ["scan", "--json", "--full", "--repair"];

/// Damages one object and takes another away.
async fn hurt(place: &Stored, objects: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let mut packs = objects.keys().filter(|name| name.contains("/packs/"));
    let [one, other] = [packs.next(), packs.next()];
    inflict(Damage::Flip, place, objects, one.context("a pack")?).await?;
    inflict(Damage::Delete, place, objects, other.context("another")?).await
}

/// A heal that is ended at any request that changes something at the bucket is gone on with by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn f10_a_heal_that_is_killed_at_any_write_is_gone_on_with() -> Result<()> {
    let watched = Watched::start("", false).await?;
    let bucket = Stored::bucket(&watched.s3);
    let was = bucket.objects().await?;
    let mut killed = 0;
    for (kind, side) in [Operation::Put, Operation::Delete]
        .iter()
        .flat_map(|kind| Side::BOTH.map(|side| (*kind, side)))
    {
        for number in 0.. {
            hurt(&bucket, &was).await?;
            match hold(&watched.world, &watched.proxy, &HEAL, (kind, number, side))? {
                Held::Ended(scan) => {
                    scan.expect_code(exit::WARNINGS)?;
                    watched.expect(&bucket, &was).await?;
                    break;
                }
                Held::Waits { running, gate } => {
                    killed += 1;
                    kill(running, &gate)?;
                }
            }
            let scan = watched.world.coordinator(&HEAL)?;
            let healed = [Some(exit::OK), Some(exit::WARNINGS)];
            ensure!(healed.contains(&scan.code), "{scan:?}");
            watched.expect(&bucket, &was).await?;
        }
    }
    eprintln!("killed at {killed} writes of a heal");
    ensure!(killed >= 6, "only {killed}");
    watched.world.expect_restores("latest", "after").map(drop)
}

/// The same for a directory: in any write of the machine itself.
#[tokio::test(flavor = "multi_thread")]
async fn f10_a_heal_that_dies_in_any_write_is_gone_on_with() -> Result<()> {
    let watched = Watched::start("", false).await?;
    let machine = FaultyMachine::new(watched.world.directory())?;
    let local = Stored::Directory(watched.world.repository());
    let was = local.objects().await?;
    hurt(&local, &was).await?;
    machine.be_well()?;
    machine
        .coordinator(&watched.world, &HEAL)?
        .expect_code(exit::WARNINGS)?;
    let steps = machine.steps()?;
    let mut died = 0;
    for point in points(steps, 8, seed()?) {
        hurt(&local, &was).await?;
        machine.fail(Step::DiesIn(point))?;
        let scan = machine.coordinator(&watched.world, &HEAL)?;
        machine.be_well()?;
        died += u32::from(scan.signal.is_some());
        let scan = watched.world.coordinator(&HEAL)?;
        let healed = [Some(exit::OK), Some(exit::WARNINGS)];
        ensure!(healed.contains(&scan.code), "{scan:?}");
        let about = || format!("step {point} of {steps}");
        watched.expect(&local, &was).await.with_context(about)?;
    }
    eprintln!("{died} heals died in one of {steps} steps");
    ensure!(died >= 4, "only {died}");
    watched.world.expect_restores("latest", "after").map(drop)
}

/// A scan that prolongs locks is ended at any request about one: the next one prolongs the rest, and none is ever shorter.
#[tokio::test(flavor = "multi_thread")]
async fn f10_locks_are_prolonged_by_the_scan_after_one_that_was_killed() -> Result<()> {
    const EXTEND: [&str; 3] = ["scan", "--json", "--extend-locks"];
    let keys = "retain = \"30d\"\nretain_mode = \"governance\"\n";
    let watched = Watched::start(keys, true).await?;
    let client = admin(&watched.s3);
    let names = Stored::bucket(&watched.s3).objects().await?.into_keys();
    let names: Vec<String> = names.filter(|name| !name.contains("/keys/")).collect();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let mut killed = 0;
    for side in Side::BOTH {
        for number in 0.. {
            for name in &names {
                let soon = ObjectLockRetention::builder()
                    .mode(ObjectLockRetentionMode::Governance)
                    .retain_until_date(DateTime::from_secs(i64::try_from(now + 86_400)?))
                    .build();
                let put = client.put_object_retention().bucket(BUCKET);
                let put = put.key(format!("capstan/{name}"));
                let put = put.bypass_governance_retention(true).retention(soon);
                put.send().await?;
            }
            let request = (Operation::Other, number, side);
            let ended = match hold(&watched.world, &watched.proxy, &EXTEND, request)? {
                Held::Ended(scan) => {
                    scan.expect_code(exit::OK)?;
                    true
                }
                Held::Waits { running, gate } => {
                    killed += 1;
                    kill(running, &gate)?;
                    watched.scan(&["--extend-locks"], exit::OK)?;
                    false
                }
            };
            for name in &names {
                let key = format!("capstan/{name}");
                let head = client.head_object().bucket(BUCKET).key(&key).send().await?;
                let until = head.object_lock_retain_until_date().context("a lock")?;
                ensure!(
                    until.secs().unsigned_abs() > now + 29 * 86_400,
                    "{name} is locked until {until:?} after request {number}"
                );
            }
            if ended {
                break;
            }
        }
    }
    eprintln!("killed at {killed} requests about {} locks", names.len());
    ensure!(killed >= 2 * names.len(), "only {killed}");
    watched.scan(&["--full"], exit::OK)?;
    Ok(())
}
