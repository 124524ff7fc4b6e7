//! A coordinator's directory with any number of hosts, and runs of it with what they cost. The targets behind the hosts
//! are the caller's.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::coordinator_process::{DEADLINE, Finished, Running};
use tests::shapes::{RunReport, exit};
use tests::sshd::Sshd;

use crate::usage::{Sampler, Usage};

/// How long any one run may take.
pub const RUN_MAX: Duration = Duration::from_secs(4 * 3600);

/// A coordinator that is measured.
#[derive(Debug)]
pub struct Rig {
    coordinator: PathBuf,
    directory: PathBuf,
    hosts: String,
}

/// One host of hosts.toml.
#[derive(Debug)]
pub struct Host<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it listens; default: the sshd's own address.
    pub address: Option<&'a str>,
    /// Its target.
    pub sshd: &'a Sshd,
    /// What is backed up.
    pub path: &'a Path,
    /// Further lines of its table.
    pub lines: &'a [&'a str],
}

/// A run and what it cost.
#[derive(Debug)]
pub struct Cost {
    /// What the coordinator said.
    pub report: RunReport,
    /// From its start to its end, as the caller sees it.
    pub wall_secs: f64,
    /// What its processes took, as the kernel sees it.
    pub usage: Usage,
}

impl Cost {
    /// The coordinator's peak memory: its own word or what was seen from outside, whichever is more.
    pub fn coordinator_bytes(&self) -> u64 {
        self.usage
            .coordinator
            .peak_max
            .max(self.report.coordinator_rss_bytes)
    }

    /// The agent's, likewise.
    pub fn agent_bytes(&self) -> u64 {
        self.usage.agent.peak_max.max(self.report.agent_rss_bytes)
    }
}

impl Rig {
    /// A fresh coordinator in `directory`, which must not exist.
    pub fn new(coordinator: &Path, directory: &Path) -> Result<Self> {
        let arguments: [OsString; 4] = [
            "init".into(),
            "--dir".into(),
            directory.into(),
            "--no-users".into(),
        ];
        Running::spawn(&coordinator.to_owned(), &arguments, &[])?
            .finish(DEADLINE)?
            .expect_code(exit::OK)?;
        Ok(Self {
            coordinator: coordinator.to_owned(),
            directory: directory.to_owned(),
            hosts: String::new(),
        })
    }

    /// Puts `[agents] directory` into coordinator.toml.
    pub fn set_agents_directory(&self, agents: &Path) -> Result<()> {
        let path = self.directory.join("coordinator.toml");
        let text = fs::read_to_string(&path)?;
        let line = text
            .lines()
            .find(|line| line.starts_with("#directory = "))
            .context("coordinator.toml has no line `#directory = …`")?;
        let set = format!("directory = {agents:?}");
        write_private(&path, &text.replacen(line, &set, 1))
    }

    /// Puts these tables in place of the destination that `init` wrote.
    pub fn set_destinations(&self, tables: &str) -> Result<()> {
        let path = self.directory.join("coordinator.toml");
        let mut config: toml::Table = fs::read_to_string(&path)?.parse()?;
        let mut wanted: toml::Table = tables.parse().context("the destinations' tables")?;
        let wanted = wanted.remove("destination").context("a destination")?;
        config.insert("destination".into(), wanted);
        write_private(&path, &toml::to_string(&config)?)
    }

    /// Adds a host.
    pub fn add(&mut self, host: &Host<'_>) -> Result<()> {
        let address = match host.address {
            Some(address) => address.to_owned(),
            None => host.sshd.address().to_string(),
        };
        let mut lines = vec![
            format!("[host.{}]", host.name),
            format!("address = \"{address}\""),
            "user = \"root\"".into(),
            format!("identity_file = {:?}", host.sshd.identity_file()),
            format!("host_key = [\"{}\"]", host.sshd.fingerprint()?),
            format!("paths = [{:?}]", host.path),
        ];
        lines.extend(host.lines.iter().map(|line| (*line).to_owned()));
        self.hosts.push_str(&lines.join("\n"));
        self.hosts.push_str("\n\n");
        write_private(&self.directory.join("hosts.toml"), &self.hosts)
    }

    /// Starts a run of one host.
    pub fn start(&self, host: &str) -> Result<Running> {
        self.call(&["run", host, "--json"])
    }

    /// Starts any command of this coordinator.
    pub fn call<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Running> {
        let config = self.directory.join("coordinator.toml");
        let mut all: Vec<OsString> = vec!["-c".into(), config.into()];
        all.extend(arguments.iter().map(|one| one.as_ref().to_owned()));
        Running::spawn(&self.coordinator, &all, &[])
    }

    /// The directory that `init` made.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// One run that must be entirely good, and its cost.
    pub fn run(&self, host: &str) -> Result<Cost> {
        let sampler = Sampler::start(&self.coordinator)?;
        let finished = self.start(host)?.finish(RUN_MAX);
        let usage = sampler.stop()?;
        let finished = finished?;
        Ok(Cost {
            wall_secs: finished.duration.as_secs_f64(),
            report: good_report(finished)?,
            usage,
        })
    }

    /// The coordinator's program.
    pub fn coordinator(&self) -> &Path {
        &self.coordinator
    }

    /// Bytes of index, catalog and the like.
    pub fn state_bytes(&self) -> Result<u64> {
        allocated_bytes(&self.directory.join("state"))
    }

    /// Bytes of stored objects.
    pub fn repository_bytes(&self) -> Result<u64> {
        allocated_bytes(&self.directory.join("repository"))
    }

    /// Removes everything it keeps.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory)
            .with_context(|| format!("removing {}", self.directory.display()))
    }
}

/// What a run that must have been good said.
pub fn good_report(finished: Finished) -> Result<RunReport> {
    let report: RunReport = finished.expect_code(exit::OK)?.json()?;
    ensure!(
        report.problem_count == 0 && report.error.is_none(),
        "the run of {} had problems: {:?}",
        report.host,
        report.problems
    );
    Ok(report)
}

/// Bytes that a directory's files take on the disk; one that is not there takes none.
pub fn allocated_bytes(directory: &Path) -> Result<u64> {
    if !directory.exists() {
        return Ok(0);
    }
    let mut sum = 0;
    for entry in
        fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?
    {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            sum += allocated_bytes(&entry.path())?;
        }
        sum += metadata.blocks() * 512;
    }
    Ok(sum)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}
