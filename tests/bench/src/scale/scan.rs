//! `scan`: reads all of a repository again at each kind of destination, with and without the keys, beside plain reads of
//! the same bytes by the same way, and beside the disk itself. The page cache is emptied before each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tests::shapes::exit;
use tests::sshd::{Sshd, SshdOptions};

use crate::data::mixed_tree;
use crate::isolation::Place;
use crate::options::ScanOptions;
use crate::rig::{Host, RUN_MAX, Rig};
use crate::stores::{S3Choice, StoreKind, Stores, Way};
use crate::table::{Results, Table, median, number, percent, spread};
use crate::usage::{Sampler, Usage, cpu_cells};

/// Size of each file.
const FILE_BYTES: u64 = 16 << 20;
/// What the repository is called in the stores.
const NAME: &str = "scanned";
const COLUMNS: [&str; 8] = [
    "destination",
    "stored MB",
    "disk MB/s (cold)",
    "plain client MB/s",
    "scan MB/s (min · median · max)",
    "÷ disk, ÷ plain client",
    "processor seconds: coordinator, agent, sshd, S3 server, bench",
    "what",
];

/// One element of what `scan --json` prints.
#[derive(Debug, Deserialize)]
struct Report {
    outcome: String,
    destinations: Vec<DestinationReport>,
}

#[derive(Debug, Deserialize)]
struct DestinationReport {
    read: u64,
    bytes_read: u64,
    missing: u64,
    damaged: u64,
    error: Option<String>,
}

/// One scan.
#[derive(Debug, Clone, Serialize)]
struct Scan {
    rate: f64,
    secs: f64,
    objects: u64,
    bytes: u64,
    usage: Usage,
}

/// All scans of one destination, of one kind.
#[derive(Debug, Serialize)]
struct Row {
    destination: StoreKind,
    verify: bool,
    scans: Vec<Scan>,
}

/// What the same bytes take without Capstan.
#[derive(Debug, Default, Serialize)]
struct Plain {
    /// `cat` of the files; nothing where the server keeps no files.
    disk: Vec<f64>,
    client: Vec<f64>,
}

/// Measures all kinds.
pub fn measure(place: &Place, options: &ScanOptions) -> Result<()> {
    forget_pages().context(
        "emptying the page cache, which only root may do, on a machine that is not read-only",
    )?;
    let stores = Stores::start(place, options.s3, options.mib << 20)?;
    let rig = fill(place, &stores, options)?;
    let mut measured = StoreKind::ALL.map(|destination| {
        let rows = [false, true].map(|verify| Row {
            destination,
            verify,
            scans: Vec::new(),
        });
        (Plain::default(), rows)
    });
    for round in 1..=options.rounds.max(1) {
        for (plain, rows) in &mut measured {
            for row in rows {
                let what = if row.verify { "--verify" } else { "" };
                eprintln!("scan: {} {what}, round {round}", row.destination.name());
                read_plainly(place, &stores, row.destination, options.s3, plain)?;
                row.scans.push(scan(&rig, row)?);
            }
        }
    }
    let shown = json!({ "mib": options.mib, "rounds": options.rounds, "s3": options.s3 });
    let mut results = Results::new("scan", shown);
    let mut table = Table::new("Reading everything again", &COLUMNS);
    for (plain, rows) in &measured {
        for row in rows {
            table.push(cells(row, plain), json!({ "plain": plain, "scan": row }))?;
        }
    }
    table.note(
        "The page cache is emptied before each. MB is 10^6 bytes of objects; a scan's time is the whole command's. The disk \
         is `cat` of the files; the plain client is `cat` again, OpenSSH's sftp, or four gets at once. Without delay.",
    );
    results.add(place, &table)
}

/// Makes the repository, in all three places at once, and removes its source.
fn fill(place: &Place, stores: &Stores, options: &ScanOptions) -> Result<Rig> {
    let target = Sshd::start(&place.subdirectory("target")?, SshdOptions::default())?;
    let data = place.directory.join("data");
    mixed_tree(&data, options.mib.max(1) << 20, FILE_BYTES, 3)?;
    let mut rig = stores.rig(place, NAME, &StoreKind::ALL, Way::Straight)?;
    rig.add(&Host {
        name: "host",
        address: None,
        sshd: &target,
        path: &data,
        lines: &[],
    })?;
    rig.run("host")?;
    fs::remove_dir_all(&data).context("removing the data")?;
    Ok(rig)
}

/// Reads the same bytes with `cat` where they are files, and with a plain client.
fn read_plainly(
    place: &Place,
    stores: &Stores,
    kind: StoreKind,
    s3: S3Choice,
    plain: &mut Plain,
) -> Result<()> {
    let root = match kind {
        StoreKind::S3 if s3 == S3Choice::Rclone => place.directory.join("s3-server/store"),
        // It keeps them in memory.
        StoreKind::S3 => {
            plain.client.push(
                stores
                    .bucket(Way::Straight)?
                    .plain_read(&format!("{NAME}/"))?,
            );
            return Ok(());
        }
        _ => stores.files(kind, NAME),
    };
    let files = files_below(&root)?;
    forget_pages()?;
    let disk = cat(&files)?;
    plain.disk.push(disk);
    plain.client.push(match kind {
        StoreKind::Directory => disk,
        StoreKind::Sftp => {
            forget_pages()?;
            stores.plain_sftp_read(&files, Way::Straight)?
        }
        StoreKind::S3 => {
            forget_pages()?;
            stores
                .bucket(Way::Straight)?
                .plain_read(&format!("{NAME}/"))?
        }
    });
    Ok(())
}

fn scan(rig: &Rig, row: &Row) -> Result<Scan> {
    forget_pages()?;
    let mut arguments = vec![
        "scan",
        "--full",
        "--json",
        "--destination",
        row.destination.name(),
    ];
    if row.verify {
        arguments.push("--verify");
    }
    let sampler = Sampler::start(rig.coordinator())?;
    let finished = rig.call(&arguments)?.finish(RUN_MAX);
    let usage = sampler.stop()?;
    let finished = finished?.expect_code(exit::OK)?;
    let secs = finished.duration.as_secs_f64();
    let reports: Vec<Report> = finished.json()?;
    let report = reports.first().context("a repository")?;
    let here = report.destinations.first().context("a destination")?;
    ensure!(
        report.outcome == "ok" && here.missing == 0 && here.damaged == 0 && here.error.is_none(),
        "{report:?}"
    );
    Ok(Scan {
        rate: here.bytes_read as f64 / secs,
        secs,
        objects: here.read,
        bytes: here.bytes_read,
        usage,
    })
}

/// Writes everything down and forgets what was read, on the whole machine.
fn forget_pages() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3\n").context("writing /proc/sys/vm/drop_caches")
}

/// Bytes a second of `cat`.
fn cat(files: &[PathBuf]) -> Result<f64> {
    let mut bytes = 0;
    for file in files {
        bytes += fs::metadata(file)?.len();
    }
    let start = Instant::now();
    let status = Command::new("cat")
        .args(files)
        .stdout(Stdio::null())
        .status()
        .context("starting cat")?;
    ensure!(status.success(), "cat ended with {status}");
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}

fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("listing {}", root.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn cells(row: &Row, plain: &Plain) -> Vec<String> {
    let rates: Vec<f64> = row.scans.iter().map(|scan| scan.rate / 1e6).collect();
    let usages: Vec<Usage> = row.scans.iter().map(|scan| scan.usage).collect();
    let bytes = row.scans.first().map_or(0, |scan| scan.bytes);
    let rate = |rates: &[f64]| median(rates) / 1e6;
    let disk = (!plain.disk.is_empty()).then(|| rate(&plain.disk));
    let over = |base: f64| percent(median(&rates) / base);
    vec![
        row.destination.name().into(),
        number(bytes as f64 / 1e6),
        disk.map_or_else(|| "in memory".into(), number),
        number(rate(&plain.client)),
        spread(&rates),
        format!(
            "{}, {}",
            disk.map_or_else(|| "–".into(), over),
            over(rate(&plain.client))
        ),
        cpu_cells(&usages),
        if row.verify {
            "--full --verify"
        } else {
            "--full"
        }
        .into(),
    ]
}
