//! Places to store to that are reached over a link: a directory here, and an SFTP server and an S3 server in a network of
//! their own, which the delay line or a straight pair of devices leads to. Makes coordinators that store there, and moves
//! plain bytes the same way, to show what the servers do for any client.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use tests::coordinator_process::{DEADLINE, Running};
use tests::places::{BUCKET, write_secret};
use tests::s3_server::{ACCESS_KEY_ID, S3Kind, S3Seat, S3Server};
use tests::shapes::exit;
use tests::sshd::{Sshd, SshdOptions};

use crate::bucket::Bucket;
use crate::isolation::{Place, command};
use crate::long_link::{FAR, LISTEN_LINE, LISTEN_PORT, STRAIGHT, TargetNetwork};
use crate::rig::Rig;

/// What Ceph needs in memory besides what is stored.
const CEPH_BYTES: u64 = 1 << 30;
/// The most that Ceph's store in memory holds, with room for what it has not given back yet.
const CEPH_STORED_MAX: u64 = 1_400 << 20;
/// Free disk that is left to others.
const DISK_LEFT_BYTES: u64 = 4 << 30;

/// A kind of destination; also its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A directory of this machine
    Directory,
    /// OpenSSH's SFTP server
    Sftp,
    /// An S3 server
    S3,
}

impl StoreKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Directory, Self::Sftp, Self::S3];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Sftp => "sftp",
            Self::S3 => "s3",
        }
    }
}

/// Which S3 server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum S3Choice {
    /// Ceph's gateway over one store in memory
    Ceph,
    /// rclone's, over files; it ignores conditional writes
    Rclone,
    /// moto, in Python, in memory
    Moto,
}

/// How the servers are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By a pair of devices without any delay.
    Straight,
    /// Through the delay line, which must be up.
    Line,
}

impl Way {
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Straight => STRAIGHT,
            Self::Line => FAR,
        }
    }
}

/// The servers, and where they keep what is stored.
#[derive(Debug)]
pub struct Stores {
    // Order matters: the servers end before their directory goes.
    sshd: Sshd,
    s3: S3Server,
    network: TargetNetwork,
    directory: PathBuf,
}

impl Stores {
    /// Starts the servers; says at once when this machine has not the room for `stored_bytes` in each place.
    pub fn start(place: &Place, s3: S3Choice, stored_bytes: u64) -> Result<Self> {
        check_room(place, s3, stored_bytes)?;
        let network = TargetNetwork::new(&place.directory)?;
        network.join_straight()?;
        // As for the target's own network: no connection begins with what the one before learned.
        command("sysctl", &["-q", "-w", "net.ipv4.tcp_no_metrics_save=1"])?;
        let sshd = Sshd::start(
            &place.subdirectory("sftp-server")?,
            SshdOptions {
                config: vec![LISTEN_LINE.into(), "Subsystem sftp internal-sftp".into()],
                setup: vec![network.sshd_setup()],
                ..SshdOptions::default()
            },
        )?;
        let kind = match s3 {
            S3Choice::Ceph => S3Kind::Ceph,
            S3Choice::Rclone => S3Kind::Rclone,
            S3Choice::Moto => S3Kind::Moto,
        };
        let seat = S3Seat {
            address: STRAIGHT,
            network: Some(network.file().to_owned()),
        };
        let s3 = S3Server::start_at(kind, &place.subdirectory("s3-server")?, seat)?;
        let directory = place.subdirectory("stores")?;
        write_secret(&directory.join("s3.secret"))?;
        let stores = Self {
            sshd,
            s3,
            network,
            directory,
        };
        stores.bucket(Way::Straight)?.create()?;
        Ok(stores)
    }

    /// The network that the servers are in.
    pub fn network(&self) -> &TargetNetwork {
        &self.network
    }

    /// A fresh coordinator in `place`, whose only destinations are these, all required.
    pub fn rig(&self, place: &Place, name: &str, kinds: &[StoreKind], way: Way) -> Result<Rig> {
        let rig = Rig::new(&place.coordinator, &place.directory.join(name))?;
        fs::create_dir(self.directory.join(name)).context("making a store's directory")?;
        let tables: Vec<String> = kinds
            .iter()
            .map(|kind| self.table(*kind, name, way))
            .collect::<Result<_>>()?;
        rig.set_destinations(&tables.join("\n"))?;
        for kind in kinds {
            if *kind != StoreKind::S3 {
                rig.call(&["destination", "create", kind.name()])?
                    .finish(DEADLINE)?
                    .expect_code(exit::OK)?;
            }
        }
        Ok(rig)
    }

    /// What the coordinator of that name stores in, for `--destination`.
    pub fn url(&self, kind: StoreKind, name: &str, way: Way) -> String {
        let path = self.files(kind, name);
        match kind {
            StoreKind::Directory => format!("file://{}", path.display()),
            StoreKind::Sftp => {
                let address = way.address();
                format!("sftp://root@{address}:{LISTEN_PORT}{}", path.display())
            }
            StoreKind::S3 => format!("s3://{BUCKET}/{name}"),
        }
    }

    /// What a destination's table has besides name and URL.
    pub fn settings(&self, kind: StoreKind, way: Way) -> Result<Vec<(&'static str, String)>> {
        Ok(match kind {
            StoreKind::Directory => Vec::new(),
            StoreKind::Sftp => vec![
                ("host_key", self.sshd.fingerprint()?),
                (
                    "identity_file",
                    self.sshd.identity_file().display().to_string(),
                ),
            ],
            StoreKind::S3 => vec![
                ("endpoint", self.endpoint(way)),
                ("access_key_id", ACCESS_KEY_ID.to_owned()),
                (
                    "secret_key_file",
                    self.directory.join("s3.secret").display().to_string(),
                ),
            ],
        })
    }

    fn table(&self, kind: StoreKind, name: &str, way: Way) -> Result<String> {
        let mut lines = vec![
            "[[destination]]".to_owned(),
            format!("name = {:?}", kind.name()),
            format!("url = {:?}", self.url(kind, name, way)),
            "required = true".to_owned(),
        ];
        for (key, value) in self.settings(kind, way)? {
            lines.push(match key {
                "host_key" => format!("{key} = [{value:?}]"),
                _ => format!("{key} = {value:?}"),
            });
        }
        Ok(lines.join("\n") + "\n")
    }

    fn endpoint(&self, way: Way) -> String {
        format!("http://{}:{}", way.address(), self.s3.address().port())
    }

    /// Where the files of a directory, or of the SFTP server's directory, lie here.
    pub fn files(&self, kind: StoreKind, name: &str) -> PathBuf {
        self.directory.join(name).join(kind.name())
    }

    /// The bucket, for plain transfers.
    pub fn bucket(&self, way: Way) -> Result<Bucket> {
        Bucket::of(&self.s3, &self.endpoint(way))
    }

    /// Removes all that was stored under a name, and waits for the servers to have given its room back.
    pub fn clear(&self, name: &str) -> Result<()> {
        let files = self.directory.join(name);
        fs::remove_dir_all(&files).with_context(|| format!("removing {}", files.display()))?;
        self.bucket(Way::Straight)?.clear(&format!("{name}/"))?;
        self.s3.collect_garbage()
    }

    /// Makes the S3 server give back the room of what was removed.
    pub fn collect_garbage(&self) -> Result<()> {
        self.s3.collect_garbage()
    }

    /// Bytes a second of OpenSSH's own client that stores one file.
    pub fn plain_sftp_upload(&self, file: &Path, way: Way) -> Result<f64> {
        let bytes = fs::metadata(file)?.len();
        let stored = self.directory.join("plain");
        let put = format!("put {} {}", file.display(), stored.display());
        let rate = bytes as f64 / self.sftp(&[put], way)?;
        ensure!(fs::metadata(&stored)?.len() == bytes, "sftp stored less");
        fs::remove_file(&stored)?;
        Ok(rate)
    }

    /// Bytes a second of OpenSSH's own client that reads these files.
    pub fn plain_sftp_read(&self, files: &[PathBuf], way: Way) -> Result<f64> {
        let mut bytes = 0;
        let mut gets = Vec::new();
        for file in files {
            bytes += fs::metadata(file)?.len();
            gets.push(format!("get {} /dev/null", file.display()));
        }
        Ok(bytes as f64 / self.sftp(&gets, way)?)
    }

    /// Runs OpenSSH's client with these commands; gives the seconds it took.
    fn sftp(&self, commands: &[String], way: Way) -> Result<f64> {
        let batch = self.directory.join("batch");
        fs::write(&batch, commands.join("\n") + "\n")?;
        let start = Instant::now();
        let output = Command::new("sftp")
            .args(["-q", "-F", "none", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .args(["-o", "Compression=no", "-P", &LISTEN_PORT.to_string(), "-i"])
            .arg(self.sshd.identity_file())
            .arg("-b")
            .arg(&batch)
            .arg(format!("root@{}", way.address()))
            .stdin(Stdio::null())
            .output()
            .context("starting sftp")?;
        ensure!(
            output.status.success(),
            "sftp: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(start.elapsed().as_secs_f64())
    }

    /// Builds a coordinator anew from one of the places; gives how it ended.
    pub fn recover(
        &self,
        rig: &Rig,
        (kind, name): (StoreKind, &str),
        into: &Path,
    ) -> Result<Running> {
        let mut arguments = vec![
            "recover".to_owned(),
            "--json".into(),
            "--dir".into(),
            into.display().to_string(),
            "--kit".into(),
            rig.directory()
                .join("recovery-kit.txt")
                .display()
                .to_string(),
            "--destination".into(),
            self.url(kind, name, Way::Straight),
        ];
        for (key, value) in self.settings(kind, Way::Straight)? {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        Running::spawn(&rig.coordinator().to_owned(), &arguments, &[])
    }
}

/// Data, two directories of it, and the spool: three times what is stored, at most.
fn check_room(place: &Place, s3: S3Choice, stored_bytes: u64) -> Result<()> {
    let disk = rustix::fs::statvfs(&place.directory).context("asking for free space")?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = stored_bytes
        .saturating_mul(3)
        .saturating_add(DISK_LEFT_BYTES);
    ensure!(
        free >= needed,
        "this measurement wants {} MiB free on the disk of {}, and there are {}",
        needed >> 20,
        place.directory.display(),
        free >> 20
    );
    if s3 == S3Choice::Ceph {
        ensure!(
            stored_bytes <= CEPH_STORED_MAX,
            "Ceph's store is in memory here and takes {} MiB at most; use less data, or --s3 rclone",
            CEPH_STORED_MAX >> 20
        );
    }
    let in_memory = match s3 {
        S3Choice::Ceph => stored_bytes.saturating_mul(2) + CEPH_BYTES,
        S3Choice::Moto => stored_bytes.saturating_mul(2),
        S3Choice::Rclone => 0,
    };
    let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let available = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .split_whitespace()
                .next()
        })
        .and_then(|kib| kib.parse::<u64>().ok())
        .context("/proc/meminfo has no MemAvailable")?;
    ensure!(
        available * 1024 >= in_memory,
        "the S3 server keeps what it stores in memory: it wants {} MiB, and there are {}",
        in_memory >> 20,
        available >> 10
    );
    Ok(())
}
