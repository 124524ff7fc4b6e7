//! A destination that lies about time, about what it has, and that somebody has put objects into which look right: nothing is
//! removed by its word, and nothing is believed that the signed log does not lead to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tests::compare::expect_equal;
use tests::corpus::bytes::incompressible;
use tests::fault_proxy::{Fault, FaultProxy, Operation, Which};
use tests::places::{files_below, leave_only_behind_proxy, repository_in};
use tests::s3_server::S3Server;
use tests::shapes::exit;
use tests::world::{HOST, World, WorldOptions, below, copy_tree};

/// Longer than the shortest grace of these tests.
const PAST_GRACE: Duration = Duration::from_millis(1_200);

/// A time as headers and as listings have it.
struct Date {
    header: &'static str,
    listing: &'static str,
}

const TEN_YEARS_OFF: [Date; 2] = [
    Date {
        header: "Sat, 29 Nov 2036 08:00:00 GMT",
        listing: "2036-11-29T08:00:00.000Z",
    },
    Date {
        header: "Tue, 29 Nov 2016 08:00:00 GMT",
        listing: "2016-11-29T08:00:00.000Z",
    },
];

#[derive(Debug, Default, Deserialize)]
struct Packs {
    packs: u64,
}

/// What matters here of an element of `prune --json`.
#[derive(Debug, Deserialize)]
struct PruneReport {
    forgotten: u64,
    condemned: Packs,
    removed: Packs,
}

/// A host whose one destination is behind a proxy, and what it was at its snapshots.
struct Behind {
    world: World,
    proxy: FaultProxy,
    _server: S3Server,
    was: Vec<(String, PathBuf)>,
    restores: usize,
}

impl Behind {
    async fn start(grace: &str) -> Result<Self> {
        let world = World::with(WorldOptions {
            host_lines: vec!["keep = { last = 1 }".into(), "keep_floor = 1".into()],
            ..WorldOptions::default()
        })?;
        world.replace_config_line("#grace = ", &format!("grace = \"{grace}\""))?;
        let (server, proxy) = leave_only_behind_proxy(&world).await?;
        Ok(Self {
            world,
            proxy,
            _server: server,
            was: Vec::new(),
            restores: 0,
        })
    }

    /// Another file in the place of the one before, and a snapshot of it.
    fn run(&mut self) -> Result<()> {
        let number = self.was.len();
        let bytes = incompressible(100 + number as u64, 1 << 20);
        fs::write(self.world.source().join("changes"), bytes)?;
        let id = self.world.run()?.snapshot.context("a snapshot")?.id;
        let copy = self.world.directory().join(format!("was-{number}"));
        copy_tree(&self.world.source(), &copy)?;
        self.was.push((id, copy));
        Ok(())
    }

    fn prune(&self) -> Result<PruneReport> {
        let finished = self
            .world
            .coordinator(&["prune", HOST, "--yes", "--json"])?;
        let reports: Vec<PruneReport> = finished.expect_code(exit::OK)?.json()?;
        reports.into_iter().next().context("a report")
    }

    /// The snapshots that are listed restore to what they were; how many there are.
    fn expect_all(&mut self) -> Result<usize> {
        let listed = self.world.snapshots()?;
        for snapshot in &listed {
            self.restores += 1;
            let out = format!("check-{}", self.restores);
            let out = self.world.restore(&snapshot.id, &out)?;
            let was = self.was.iter().find(|(id, _)| *id == snapshot.id);
            let (_, was) = was.context("a snapshot of this test")?;
            expect_equal(was, &below(&out, &self.world.source()))?;
        }
        Ok(listed.len())
    }
}

/// The text with what is between these marks replaced, everywhere.
fn between(text: &str, open: &str, close: &str, new: &str) -> String {
    let mut parts = text.split(open);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| match part.split_once(close) {
        Some((_, after)) => done + open + new + close + after,
        None => done + open + part,
    })
}

/// Every answer says that it is this time, and that everything was stored then.
fn say_date(proxy: &FaultProxy, date: &'static Date) {
    proxy.forget_plan();
    for operation in Operation::ALL {
        let lie = Fault::edit(move |answer| {
            for (name, value) in &mut answer.headers {
                if name == "date" || name == "last-modified" {
                    date.header.clone_into(value);
                }
            }
            if operation == Operation::List
                && let Ok(text) = str::from_utf8(&answer.body)
            {
                let said = between(text, "<LastModified>", "</LastModified>", date.listing);
                answer.body = said.into_bytes().into();
            }
        });
        proxy.plan(Which::all(operation), lie);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m65_f28_a_server_whose_dates_are_ten_years_off_has_nothing_removed() -> Result<()> {
    let mut behind = Behind::start("7d").await?;
    for _ in 0..3 {
        behind.run()?;
    }
    for (round, date) in (1usize..).zip(&TEN_YEARS_OFF) {
        say_date(&behind.proxy, date);
        let struck = behind.proxy.struck();
        behind.run()?;
        let first = behind.prune()?;
        ensure!(
            first.forgotten > 0 && first.condemned.packs > 0,
            "{first:?}"
        );
        // By the server's word, what is condemned has been so for longer than its grace, or not at all.
        for _ in 0..2 {
            let again = behind.prune()?;
            ensure!(again.removed.packs == 0, "round {round}: {again:?}");
        }
        ensure!(behind.expect_all()? == 1);
        behind
            .world
            .coordinator(&["scan", "--full", "--verify"])?
            .expect_code(exit::OK)?;
        ensure!(behind.proxy.struck() > struck, "the proxy has told no lie");
    }
    behind.proxy.forget_plan();
    // Everything that was forgotten meanwhile is there still.
    behind
        .world
        .coordinator(&["undelete", HOST])?
        .expect_code(exit::OK)?;
    let back = behind.expect_all()?;
    ensure!(back == behind.was.len(), "{back} of {}", behind.was.len());
    Ok(())
}

/// The keys of a listing.
fn keys(listing: &str) -> impl Iterator<Item = &str> {
    let parts = listing.split("<Key>").skip(1);
    parts.filter_map(|part| part.split_once("</Key>").map(|(key, _)| key))
}

/// The listing without what the server did not have then, but for keys that contain this.
fn only_old(listing: &str, then: &BTreeSet<String>, but: &str) -> String {
    let mut parts = listing.split("<Contents>");
    let first = parts.next().unwrap_or_default().to_owned();
    let old = parts.fold(first, |done, part| {
        let is_old = keys(part).all(|key| then.contains(key) || key.contains(but));
        match part.split_once("</Contents>") {
            Some((_, after)) if !is_old => done + after,
            _ => done + "<Contents>" + part,
        }
    });
    let count = keys(&old).count().to_string();
    between(&old, "<KeyCount>", "</KeyCount>", &count)
}

/// Listings are what they were then, but for keys that contain this.
fn stale(then: &BTreeSet<String>, but: &'static str) -> Fault {
    let then = then.clone();
    Fault::edit(move |answer| {
        if let Ok(text) = str::from_utf8(&answer.body) {
            answer.body = only_old(text, &then, but).into_bytes().into();
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f28_what_a_stale_listing_does_not_show_is_not_swept() -> Result<()> {
    let mut behind = Behind::start("1s").await?;
    behind.run()?;
    let then: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let noted = Arc::clone(&then);
    let note = Fault::edit(move |answer| {
        if let Ok(text) = str::from_utf8(&answer.body) {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.extend(keys(text).map(str::to_owned));
        }
    });
    behind.proxy.plan(Which::all(Operation::List), note);
    behind
        .world
        .coordinator(&["scan", "--full"])?
        .expect_code(exit::OK)?;
    behind.proxy.forget_plan();
    let then = then.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(then.len() > 3, "{then:?}");

    for _ in 0..2 {
        behind.run()?;
    }
    behind
        .proxy
        .plan(Which::all(Operation::List), stale(&then, "/nothing/"));
    behind
        .world
        .coordinator(&["prune", HOST, "--yes"])?
        .expect_code(exit::INTEGRITY)?
        .expect_stderr(&["was rolled back"])?;
    behind.proxy.forget_plan();
    // Of the packs alone: it goes on without what it does not see.
    behind
        .proxy
        .plan(Which::all(Operation::List), stale(&then, "/log/"));
    for _ in 0..2 {
        behind.prune()?;
        std::thread::sleep(PAST_GRACE);
    }
    ensure!(behind.proxy.struck() > 0, "no listing was stale");
    behind.proxy.forget_plan();
    ensure!(behind.expect_all()? >= 1);
    behind
        .world
        .coordinator(&["scan", "--full", "--verify"])?
        .expect_code(exit::OK)?;
    Ok(())
}

/// The repository that is not this one.
fn repository_beside(destination: &Path, own: &Path) -> Result<PathBuf> {
    let folders = fs::read_dir(destination)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path != own)
        .find(|path| path.file_name().is_some_and(|name| name.len() == 32));
    folders.context("there is another repository")
}

/// The newest record of a log.
fn last_record(repository: &Path) -> Result<PathBuf> {
    let records = files_below(&repository.join("log"))?;
    records.last().cloned().context("a record")
}

#[test]
fn m62_well_formed_objects_that_the_log_does_not_lead_to_are_not_believed() -> Result<()> {
    let world = World::new()?;
    let address = world.sshd().address().to_string();
    let own = world.hosts_toml(&address, &world.sshd().fingerprint()?)?;
    let second = own.replace(&format!("[host.{HOST}]"), "[host.other]");
    world.write_hosts(&format!("{own}{second}"))?;
    for seed in 2..4 {
        fs::write(world.source().join("file"), incompressible(seed, 1 << 20))?;
        world
            .coordinator(&["run", "other"])?
            .expect_code(exit::OK)?;
    }
    let destination = world.repository();
    let other = repository_in(&destination)?;
    fs::write(world.source().join("file"), incompressible(1, 1 << 20))?;
    world.run()?;
    let repository = repository_beside(&destination, &other)?;

    // Sealed and signed as they have to be, for another repository.
    let mut put = 0;
    for folder in ["packs", "meta"] {
        for from in files_below(&other.join(folder)).unwrap_or_default() {
            let to = repository.join(from.strip_prefix(&other)?);
            fs::create_dir_all(to.parent().context("a folder")?)?;
            fs::copy(&from, &to)?;
            put += 1;
        }
    }
    ensure!(put >= 2, "only {put} objects");
    world.expect_restores("latest", "with-strangers")?;
    let listed = world.snapshots()?;
    ensure!(listed.len() == 1, "{listed:?}");
    world.run()?;
    world.forget_caches()?;
    ensure!(world.snapshots()?.len() == 2);
    world.verify()?;

    // A record of another log in the next place: it is not read as one of this log, and nothing is written behind it.
    let last = last_record(&repository)?;
    let number: u64 = last
        .file_name()
        .and_then(|name| name.to_str())
        .context("a name")?
        .parse()?;
    let next = last.with_file_name(format!("{:020}", number + 1));
    fs::copy(last_record(&other)?, &next)?;
    world
        .coordinator(&["snapshots", HOST])?
        .expect_code(exit::INTEGRITY)?
        .expect_stderr(&["is not signed by this repository's key"])?;
    world
        .coordinator(&["run", HOST])?
        .expect_code(exit::INTEGRITY)?;
    fs::remove_file(&next)?;
    world.run()?;
    ensure!(world.snapshots()?.len() == 3);
    world.verify()?;
    Ok(())
}
