//! What a bucket can do beyond storing, in whole runs against real servers: whether its service enforces conditional writes is
//! kept and shown, locks are prolonged up to a limit and page by page, legal holds are respected, and each kind of object has its
//! storage class.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode,
};
use serde::Deserialize;
use tests::corpus::bytes::incompressible;
use tests::places::{BUCKET, Stored, add_to_config, make_bucket, s3_table};
use tests::s3_server::{S3Kind, S3Server, admin};
use tests::shapes::exit;
use tests::world::{HOST, World, WorldOptions};

const DAY: u64 = 86_400;

#[derive(Debug, Deserialize)]
struct DestinationLine {
    name: String,
    conditional_writes: Option<String>,
    conditional_writes_found: Option<String>,
}

fn listed(world: &World) -> Result<BTreeMap<String, (Option<String>, bool)>> {
    let lines: Vec<DestinationLine> = world
        .coordinator(&["destination", "ls", "--json"])?
        .expect_code(exit::OK)?
        .json()?;
    let lines = lines.into_iter().map(|line| {
        let found = line.conditional_writes_found.is_some();
        (line.name, (line.conditional_writes, found))
    });
    Ok(lines.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_real_puts_showed_of_conditional_writes_is_kept_and_shown() -> Result<()> {
    let world = World::new()?;
    let dirs = [
        tests::world::temporary_directory()?,
        tests::world::temporary_directory()?,
    ];
    let enforcing = S3Server::start(S3Kind::Moto, dirs[0].path())?;
    let ignoring = S3Server::start(S3Kind::Rclone, dirs[1].path())?;
    make_bucket(&enforcing).await?;
    make_bucket(&ignoring).await?;
    let liar = s3_table(&ignoring.endpoint(), false).replace("\"s3\"", "\"liar\"");
    let off = s3_table(&enforcing.endpoint(), false)
        .replace("\"s3\"", "\"off\"")
        .replace("/capstan", "/off");
    add_to_config(&world, &s3_table(&enforcing.endpoint(), true))?;
    add_to_config(&world, &liar)?;
    add_to_config(&world, &format!("{off}conditional_writes = \"off\"\n"))?;
    let expect = |expected: [(Option<&str>, bool); 4]| -> Result<()> {
        let found = listed(&world)?;
        for (name, (word, dated)) in ["local", "s3", "liar", "off"].into_iter().zip(expected) {
            let expected = (word.map(str::to_owned), dated);
            ensure!(found.get(name) == Some(&expected), "{name}: {found:?}");
        }
        Ok(())
    };
    expect([
        (None, false),
        (Some("not tried"), false),
        (Some("not tried"), false),
        (Some("off"), false),
    ])?;
    world.run()?;
    // Other processes found it out than those that tell.
    expect([
        (None, false),
        (Some("enforced"), true),
        (Some("ignored"), true),
        (Some("off"), false),
    ])?;
    let table = world
        .coordinator(&["destination", "ls"])?
        .expect_code(exit::OK)?
        .stdout_text();
    ensure!(
        table.contains("conditional writes") && table.contains("ignored"),
        "{table}"
    );
    Ok(())
}

#[derive(Debug, Deserialize)]
struct ScanReport {
    destinations: Vec<ScannedLocks>,
}

#[derive(Debug, Deserialize)]
struct ScannedLocks {
    name: String,
    locks_seen: u64,
    locks_renewed: u64,
    locks_at_limit: u64,
    locks_longer: u64,
    locks_held: u64,
    locks_left: bool,
}

/// A world with a bucket that locks, one run, and the names of what is locked there.
struct Locked {
    world: World,
    client: Client,
    names: Vec<String>,
    _server: S3Server,
    _directory: tempfile::TempDir,
}

impl Locked {
    async fn start(keys: &str) -> Result<Self> {
        let world = World::new()?;
        fs::write(world.source().join("one"), incompressible(1, 1 << 20))?;
        let directory = tests::world::temporary_directory()?;
        let server = S3Server::start(S3Kind::Moto, directory.path())?;
        let client = admin(&server);
        make_locking_bucket(&client).await?;
        let table = s3_table(&server.endpoint(), true);
        add_to_config(&world, &format!("{table}{keys}"))?;
        world.run()?;
        let names = Stored::bucket(&server).objects().await?.into_keys();
        let names: Vec<String> = names.filter(|name| !name.contains("/keys/")).collect();
        ensure!(names.len() >= 5, "{names:?}");
        Ok(Self {
            world,
            client,
            names,
            _server: server,
            _directory: directory,
        })
    }

    fn scan(&self, more: &[&str]) -> Result<ScannedLocks> {
        let arguments = [&["scan", "--json", "--extend-locks"], more].concat();
        let scans: Vec<ScanReport> = self
            .world
            .coordinator(&arguments)?
            .expect_code(exit::OK)?
            .json()?;
        let scan = scans.into_iter().next().context("a repository")?;
        let mut here = scan.destinations.into_iter();
        here.find(|here| here.name == "s3").context("the bucket")
    }

    async fn lock(&self, name: &str, days_from_now: u64) -> Result<()> {
        let until = now()? + days_from_now * DAY;
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(DateTime::from_secs(i64::try_from(until)?))
            .build();
        let put = self.client.put_object_retention().bucket(BUCKET);
        let put = put.key(format!("capstan/{name}"));
        put.bypass_governance_retention(true)
            .retention(retention)
            .send()
            .await?;
        Ok(())
    }

    /// Until when an object is locked, and when it was stored.
    async fn locked_until(&self, name: &str) -> Result<(u64, u64)> {
        let head = self.client.head_object().bucket(BUCKET);
        let head = head.key(format!("capstan/{name}")).send().await?;
        let until = head.object_lock_retain_until_date().context("a lock")?;
        let stored = head.last_modified().context("a time")?;
        Ok((until.secs().unsigned_abs(), stored.secs().unsigned_abs()))
    }
}

async fn make_locking_bucket(client: &Client) -> Result<()> {
    let create = client.create_bucket().bucket(BUCKET);
    create.object_lock_enabled_for_bucket(true).send().await?;
    Ok(())
}

fn now() -> Result<u64> {
    Ok(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs())
}

async fn hold(client: &Client, name: &str) -> Result<()> {
    let hold = ObjectLockLegalHold::builder()
        .status(ObjectLockLegalHoldStatus::On)
        .build();
    let put = client.put_object_legal_hold().bucket(BUCKET);
    put.key(format!("capstan/{name}"))
        .legal_hold(hold)
        .send()
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lock_is_prolonged_past_its_limit_and_what_others_did_is_told() -> Result<()> {
    let locked = Locked::start("retain = \"30d\"\nlock_max = \"30d\"\n").await?;
    let [longer, held, others @ ..] = locked.names.as_slice() else {
        anyhow::bail!("{:?}", locked.names)
    };
    locked.lock(longer, 4_000).await?;
    hold(&locked.client, held).await?;
    for name in others.iter().chain([held]) {
        locked.lock(name, 1).await?;
    }
    // A lock's time counts in seconds: the limit, from when they were stored, is before what it would be from now.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let found = locked.scan(&[])?;
    let count = locked.names.len() as u64;
    ensure!(
        found.locks_seen == count && !found.locks_left && found.locks_renewed == 0,
        "{found:?}"
    );
    ensure!(
        found.locks_at_limit == count - 1 && found.locks_longer == 1 && found.locks_held == 1,
        "{found:?}"
    );
    for name in others.iter().chain([held]) {
        let (until, stored) = locked.locked_until(name).await?;
        ensure!(until == stored + 30 * DAY, "{name}: {until} of {stored}");
    }
    let (until, _) = locked.locked_until(longer).await?;
    ensure!(
        until > now()? + 3_900 * DAY,
        "what is longer stays: {until}"
    );

    let told = locked
        .world
        .coordinator(&["scan", "--extend-locks"])?
        .expect_code(exit::OK)?
        .stdout_text();
    for words in ["1 locks are longer", "under a legal hold"] {
        ensure!(told.contains(words), "{words}: {told}");
    }
    let tried = locked
        .world
        .coordinator(&["destination", "test", "s3"])?
        .stdout_text();
    let row = tried.lines().find(|line| line.starts_with("legal holds"));
    let row = row.with_context(|| tried.clone())?;
    ensure!(
        row.contains("on 1 of") && row.contains(held.as_str()),
        "{tried}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_looked_at_in_parts_and_all_of_them_in_the_end() -> Result<()> {
    let locked = Locked::start("retain = \"30d\"\n").await?;
    for name in &locked.names {
        locked.lock(name, 1).await?;
    }
    let count = locked.names.len() as u64;
    let mut renewed = 0;
    for round in 0..count.div_ceil(2) {
        let found = locked.scan(&["--locks-max", "2"])?;
        renewed += found.locks_renewed;
        ensure!(
            found.locks_seen == 2 && found.locks_left,
            "{round}: {found:?}"
        );
    }
    ensure!(renewed == count, "{renewed} of {count}");
    // One that is not bounded goes round, from where another stopped.
    let part = locked.scan(&["--locks-max", "3"])?;
    ensure!(part.locks_seen == 3 && part.locks_left, "{part:?}");
    let whole = locked.scan(&[])?;
    ensure!(
        whole.locks_seen == count && whole.locks_renewed == 0 && !whole.locks_left,
        "{whole:?}"
    );
    Ok(())
}

#[derive(Debug, Deserialize)]
struct PruneReport {
    removed: Packs,
    still_there: Vec<StillThere>,
}

#[derive(Debug, Deserialize)]
struct Packs {
    packs: u64,
}

#[derive(Debug, Deserialize)]
struct StillThere {
    destination: String,
    packs: u64,
    problem: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_leaves_what_is_held_names_it_and_calls_nothing_damaged() -> Result<()> {
    let world = World::with(WorldOptions {
        host_lines: vec!["keep = { last = 1 }".into(), "keep_floor = 1".into()],
        ..WorldOptions::default()
    })?;
    world.replace_config_line("#grace = ", "grace = \"1s\"")?;
    let directory = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Moto, directory.path())?;
    let client = admin(&server);
    make_locking_bucket(&client).await?;
    add_to_config(&world, &s3_table(&server.endpoint(), true))?;
    fs::write(world.source().join("one"), incompressible(1, 2 << 20))?;
    world.run()?;
    let stored = Stored::bucket(&server);
    let first = stored.objects().await?;
    let packs = first.keys().filter(|name| name.contains("/packs/"));
    let packs: Vec<_> = packs.cloned().collect();
    for name in &packs {
        hold(&client, name).await?;
    }
    fs::write(world.source().join("one"), incompressible(2, 2 << 20))?;
    world.run()?;

    let prune = || -> Result<PruneReport> {
        let reports: Vec<PruneReport> = world
            .coordinator(&["prune", HOST, "--json", "--yes"])?
            .expect_code(exit::OK)?
            .json()?;
        reports.into_iter().next().context("a report")
    };
    prune()?;
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    let report = prune()?;
    ensure!(
        report.removed.packs > 0,
        "what is not held goes: {report:?}"
    );
    let here = report
        .still_there
        .iter()
        .find(|still| still.destination == "s3")
        .with_context(|| format!("{report:?}"))?;
    let problem = here.problem.as_deref().unwrap_or_default();
    ensure!(
        here.packs > 0 && problem.contains("until a legal hold is lifted"),
        "{report:?}"
    );
    let left = stored.objects().await?;
    let held = packs.iter().filter(|name| left.contains_key(*name)).count();
    ensure!(held > 0, "it is there all the same");
    world
        .coordinator(&["scan", "--full"])?
        .expect_code(exit::OK)?;
    world.expect_restores("latest", "after")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_object_is_put_in_its_class() -> Result<()> {
    let world = World::new()?;
    let directory = tests::world::temporary_directory()?;
    let server = S3Server::start(S3Kind::Moto, directory.path())?;
    make_bucket(&server).await?;
    let without = fs::read_to_string(world.config())?;
    let table = s3_table(&server.endpoint(), true);
    let classes = "storage_class = { packs = \"STANDARD_IA\", log = \"ONEZONE_IA\" }\n";
    add_to_config(&world, &format!("{table}{classes}"))?;
    fs::write(world.source().join("file"), incompressible(1, 1 << 20))?;
    world.run()?;
    let listed = admin(&server).list_objects_v2().bucket(BUCKET);
    let listed = listed.send().await?;
    let mut seen = BTreeMap::new();
    for object in listed.contents() {
        let key = object.key().unwrap_or_default();
        let mut parts = key.split('/').skip(2);
        if let Some(kind) = parts.next() {
            let class = object.storage_class().map_or("", |class| class.as_str());
            let before = seen.insert(kind.to_owned(), class.to_owned());
            ensure!(
                before.is_none_or(|before| before == class),
                "{key}: {class}"
            );
        }
    }
    for (kind, class) in [
        ("packs", "STANDARD_IA"),
        ("log", "ONEZONE_IA"),
        ("meta", "STANDARD"),
        ("config", "STANDARD"),
    ] {
        let found = seen.get(kind).map(String::as_str);
        ensure!(found == Some(class), "{kind}: {seen:?}");
    }

    let frozen = format!("{without}\n{table}storage_class = {{ log = \"DEEP_ARCHIVE\" }}\n");
    world.write_config(&frozen)?;
    let refused = world.coordinator(&["config", "check"])?;
    let refused = refused.expect_code(exit::ERROR)?.stderr_text();
    ensure!(
        refused.contains("storage_class") && refused.contains("thawed"),
        "{refused}"
    );
    Ok(())
}
