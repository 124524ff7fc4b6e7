//! One test's world: a target behind a private sshd, a coordinator's directory made by `coordinator init`, and the host
//! `web1` in its hosts.toml. Everything lies in one temporary directory, which goes when the value is dropped.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::compare;
use crate::coordinator_process::{DEADLINE, Finished, Running, binary};
use crate::processes;
use crate::shapes::{RestoreReport, RunReport, SnapshotLine, VerifyReport, exit};
use crate::sshd::{Sshd, SshdOptions};
use crate::target_state::{self, TargetState};

/// Name of the host in hosts.toml.
pub const HOST: &str = "web1";

/// Where worlds are made: not below `/tmp`, which a target with namespaces hides.
const BASES: [&str; 3] = ["/srv", "/var/lib", "/opt"];

/// What differs from the plain world.
#[derive(Debug, Clone, Default)]
pub struct WorldOptions {
    /// How the target's sshd differs.
    pub sshd: SshdOptions,
    /// Further lines of the `[host.web1]` table.
    pub host_lines: Vec<String>,
    /// Replaces `user = "root"`.
    pub user: Option<String>,
    /// Puts a second sshd in between, as jump host `bastion`.
    pub jump: bool,
    /// Replaces the default source: these absolute paths.
    pub paths: Option<Vec<PathBuf>>,
    /// Further arguments of `init`; without any, `--no-users`.
    pub init_arguments: Vec<String>,
    /// Runs the append-server as a program of its own.
    pub separate_append_server: bool,
    /// Replaces the destination's URL in coordinator.toml.
    pub destination_url: Option<String>,
}

/// A coordinator, a target, and the temporary directory both live in.
#[derive(Debug)]
pub struct World {
    // Order matters: the servers end before their directory goes.
    sshd: Sshd,
    bastion: Option<Sshd>,
    append_server: Option<Running>,
    options: WorldOptions,
    directory: TempDir,
}

impl World {
    /// The plain world: sshd that allows everything, root login, one empty source directory.
    pub fn new() -> Result<Self> {
        Self::with(WorldOptions::default())
    }

    /// A world with differences.
    pub fn with(options: WorldOptions) -> Result<Self> {
        let directory = temporary_directory()?;
        for name in ["sshd", "source"] {
            fs::create_dir(directory.path().join(name))?;
        }
        let sshd = Sshd::start(&directory.path().join("sshd"), options.sshd.clone())?;
        let bastion = options
            .jump
            .then(|| {
                fs::create_dir(directory.path().join("bastion"))?;
                Sshd::start(&directory.path().join("bastion"), SshdOptions::default())
            })
            .transpose()?;
        let mut world = Self {
            sshd,
            bastion,
            append_server: None,
            options,
            directory,
        };
        world.init()?;
        // The disks of these tests are smaller than the room that is kept for the log by default.
        world.replace_config_line("#reserve = ", "reserve = \"1MiB\"")?;
        world.write_hosts(&world.hosts_toml(
            &world.sshd.address().to_string(),
            &world.sshd.fingerprint()?,
        )?)?;
        if let Some(url) = &world.options.destination_url {
            world.set_destination(url)?;
        }
        if world.options.separate_append_server {
            world.write_append_server_config()?;
            world.start_append_server()?;
        }
        Ok(world)
    }

    fn init(&self) -> Result<()> {
        let dir = self.coordinator_dir();
        let mut arguments = vec![OsStr::new("init"), OsStr::new("--dir"), dir.as_os_str()];
        arguments.extend(self.options.init_arguments.iter().map(OsStr::new));
        if self.options.init_arguments.is_empty() {
            arguments.push(OsStr::new("--no-users"));
        }
        self.coordinator_raw(&arguments)?.expect_code(exit::OK)?;
        Ok(())
    }

    /// Starts the append-server's own program, again if it was killed, and waits for its sockets.
    pub fn start_append_server(&mut self) -> Result<()> {
        // The one before is reaped first: until its last thread is gone, its sockets still accept.
        self.append_server = None;
        let config = self.directory.path().join("append-server.toml");
        let server = Running::spawn(
            &binary("append-server")?,
            &[OsStr::new("-c"), config.as_os_str()],
            &[],
        )?;
        let sockets = self.directory.path().join("sockets");
        let server = self.append_server.insert(server);
        processes::wait_until(
            "the append-server's sockets",
            Duration::from_secs(20),
            || {
                ensure!(
                    !server.has_ended()?,
                    "the append-server ended at once: {}",
                    server.stderr_so_far()
                );
                let mut accepting = 0;
                for entry in fs::read_dir(&sockets)? {
                    accepting +=
                        usize::from(std::os::unix::net::UnixStream::connect(entry?.path()).is_ok());
                }
                Ok(accepting >= 2)
            },
        )
    }

    /// The append-server's own program, when there is one.
    pub fn append_server(&self) -> Option<&Running> {
        self.append_server.as_ref()
    }

    fn write_append_server_config(&self) -> Result<()> {
        let directory = self.directory.path();
        for name in ["sockets", "spool"] {
            fs::create_dir(directory.join(name))?;
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o700))?;
        }
        let repository = self.repository();
        fs::create_dir_all(&repository)?;
        let text = format!(
            "control_socket = {:?}\ningest_socket = {:?}\n\n[spool]\ndir = {:?}\n\n\
             [[destination]]\nname = \"local\"\nurl = \"file://{}\"\n",
            directory.join("sockets/control"),
            directory.join("sockets/ingest"),
            directory.join("spool"),
            repository.display()
        );
        write_private(&directory.join("append-server.toml"), &text)?;
        let config = fs::read_to_string(self.config())?;
        let commented = "#socket_dir = \"/run/append-server\"";
        ensure!(
            config.contains(commented),
            "coordinator.toml has no {commented}"
        );
        let socket_dir = format!("socket_dir = {:?}", directory.join("sockets"));
        self.write_config(&config.replace(commented, &socket_dir))
    }

    /// The temporary directory of this world.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What `init --dir` made.
    pub fn coordinator_dir(&self) -> PathBuf {
        self.directory.path().join("coordinator")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.coordinator_dir().join("coordinator.toml")
    }

    /// The directory that is backed up by default.
    pub fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    /// A directory to restore into; it does not exist yet.
    pub fn output(&self, name: &str) -> PathBuf {
        self.directory.path().join("output").join(name)
    }

    /// The default destination's directory.
    pub fn repository(&self) -> PathBuf {
        self.coordinator_dir().join("repository")
    }

    /// The target.
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    /// The target, to switch it off and on.
    pub fn sshd_mut(&mut self) -> &mut Sshd {
        &mut self.sshd
    }

    /// The jump host, when there is one.
    pub fn bastion(&self) -> Option<&Sshd> {
        self.bastion.as_ref()
    }

    /// The text of hosts.toml for an address and a fingerprint.
    pub fn hosts_toml(&self, address: &str, fingerprint: &str) -> Result<String> {
        let source = vec![self.source()];
        let paths = self.options.paths.as_ref().unwrap_or(&source);
        let paths = paths
            .iter()
            .map(|path| path.to_str().map(|text| format!("{text:?}")))
            .collect::<Option<Vec<_>>>();
        let mut lines = vec![
            format!("[host.{HOST}]"),
            format!("address = \"{address}\""),
            format!(
                "user = \"{}\"",
                self.options.user.as_deref().unwrap_or("root")
            ),
            format!("identity_file = {:?}", self.sshd.identity_file()),
            format!("host_key = [\"{fingerprint}\"]"),
            format!(
                "paths = [{}]",
                paths.context("the sources' paths are UTF-8")?.join(", ")
            ),
        ];
        lines.extend(self.options.host_lines.iter().cloned());
        if let Some(bastion) = &self.bastion {
            lines.extend([
                "jump = \"bastion\"".into(),
                String::new(),
                "[host.bastion]".into(),
                format!("address = \"{}\"", bastion.address()),
                "user = \"root\"".into(),
                format!("identity_file = {:?}", bastion.identity_file()),
                format!("host_key = [\"{}\"]", bastion.fingerprint()?),
            ]);
        }
        Ok(lines.join("\n") + "\n")
    }

    /// Replaces hosts.toml, kept private as `init` made it.
    pub fn write_hosts(&self, text: &str) -> Result<()> {
        write_private(&self.coordinator_dir().join("hosts.toml"), text)
    }

    /// Replaces coordinator.toml.
    pub fn write_config(&self, text: &str) -> Result<()> {
        write_private(&self.config(), text)
    }

    /// Changes the destination's URL in coordinator.toml.
    pub fn set_destination(&self, url: &str) -> Result<()> {
        self.replace_config_line("url = ", &format!("url = \"{url}\""))
    }

    /// Replaces the first line of coordinator.toml that begins so.
    pub fn replace_config_line(&self, beginning: &str, line: &str) -> Result<()> {
        let config = fs::read_to_string(self.config())?;
        let old = config.lines().find(|line| line.starts_with(beginning));
        let old =
            old.with_context(|| format!("coordinator.toml has no line `{beginning}…`:\n{config}"))?;
        self.write_config(&config.replacen(old, line, 1))
    }

    /// Sends the coordinator to another address, as through a relay, with the same host key.
    pub fn set_address(&self, address: &str) -> Result<()> {
        self.write_hosts(&self.hosts_toml(address, &self.sshd.fingerprint()?)?)
    }

    /// Runs the coordinator with `-c coordinator.toml` before these arguments.
    pub fn coordinator<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Finished> {
        self.start(arguments)?.finish(DEADLINE)
    }

    /// The same with another deadline.
    pub fn coordinator_within<A: AsRef<OsStr>>(
        &self,
        deadline: Duration,
        arguments: &[A],
    ) -> Result<Finished> {
        self.start(arguments)?.finish(deadline)
    }

    /// Starts the coordinator and hands it over while it runs.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Running> {
        let config = self.config();
        let mut all: Vec<OsString> = vec!["-c".into(), config.into_os_string()];
        all.extend(
            arguments
                .iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        Running::spawn(&binary("coordinator")?, &all, &[])
    }

    /// Runs the coordinator with exactly these arguments.
    pub fn coordinator_raw(&self, arguments: &[&OsStr]) -> Result<Finished> {
        Running::spawn(&binary("coordinator")?, arguments, &[])?.finish(DEADLINE)
    }

    /// One backup that must be entirely good.
    pub fn run(&self) -> Result<RunReport> {
        self.run_expecting(exit::OK)
    }

    /// One backup that must end with this exit code.
    pub fn run_expecting(&self, code: i32) -> Result<RunReport> {
        self.run_within(DEADLINE, code, &[])
    }

    /// One backup with further arguments, within a deadline of its own.
    pub fn run_within(
        &self,
        deadline: Duration,
        code: i32,
        arguments: &[&str],
    ) -> Result<RunReport> {
        let mut all = vec!["run", HOST, "--json"];
        all.extend(arguments);
        self.coordinator_within(deadline, &all)?
            .expect_code(code)?
            .json()
    }

    /// The host's snapshots, oldest first.
    pub fn snapshots(&self) -> Result<Vec<SnapshotLine>> {
        self.coordinator(&["snapshots", HOST, "--json"])?
            .expect_code(exit::OK)?
            .json()
    }

    /// Restores a snapshot into a new directory and returns it.
    pub fn restore(&self, snapshot: &str, name: &str) -> Result<PathBuf> {
        self.restore_within(DEADLINE, snapshot, name)
    }

    /// The same within a deadline of its own.
    pub fn restore_within(
        &self,
        deadline: Duration,
        snapshot: &str,
        name: &str,
    ) -> Result<PathBuf> {
        let output = self.output(name);
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent)?;
        }
        let target = output.as_os_str();
        let finished = self.coordinator_within(
            deadline,
            &[
                OsStr::new("restore"),
                OsStr::new(HOST),
                OsStr::new(snapshot),
                OsStr::new("--to"),
                target,
                OsStr::new("--json"),
            ],
        )?;
        let report: RestoreReport = finished.expect_code(exit::OK)?.json()?;
        ensure!(
            report.problem_count == 0,
            "the restore had problems: {:?}",
            report.problems
        );
        Ok(output)
    }

    /// Restores a snapshot and compares it with the source, byte by byte and fact by fact.
    pub fn expect_restores(&self, snapshot: &str, name: &str) -> Result<PathBuf> {
        let output = self.restore(snapshot, name)?;
        compare::expect_equal(&self.source(), &below(&output, &self.source()))?;
        Ok(output)
    }

    /// Reads back and recomputes the whole repository of the host.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.coordinator(&["verify", HOST, "--json"])?
            .expect_code(exit::OK)?
            .json()
    }

    /// Forgets everything that the coordinator can read again from the log.
    pub fn forget_caches(&self) -> Result<()> {
        let caches = self.coordinator_dir().join("state/repositories");
        fs::remove_dir_all(&caches).with_context(|| caches.display().to_string())
    }

    /// What is on the target now.
    pub fn target_state(&self) -> Result<TargetState> {
        TargetState::of(&self.sshd)
    }

    /// Waits until the target is as it was; an error lists what is left.
    pub fn expect_target_clean(&self, before: &TargetState) -> Result<()> {
        target_state::expect_clean(&self.sshd, before)
    }
}

/// Where an absolute path lies below the directory that was restored into.
pub fn below(output: &Path, absolute: &Path) -> PathBuf {
    let bytes = absolute.as_os_str().as_bytes();
    output.join(OsStr::from_bytes(bytes.strip_prefix(b"/").unwrap_or(bytes)))
}

/// Copies a directory with everything that `cp -a` keeps; the copy must not be there yet.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["-a", "--"])
        .args([from, to])
        .status()
        .context("starting cp")?;
    ensure!(
        status.success(),
        "cp -a {} {}",
        from.display(),
        to.display()
    );
    Ok(())
}

/// A temporary directory that a target with namespaces can see too.
pub fn temporary_directory() -> Result<TempDir> {
    // Removing a deep tree takes one descriptor per level.
    processes::raise_descriptor_limit();
    let chosen = std::env::var_os("CAPSTAN_TESTS_DIR").map(PathBuf::from);
    let mut tried = Vec::new();
    for base in chosen.into_iter().chain(BASES.map(PathBuf::from)) {
        match tempfile::Builder::new()
            .prefix("capstan-test-")
            .tempdir_in(&base)
        {
            Ok(directory) => {
                fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
                return Ok(directory);
            }
            Err(error) => tried.push(format!("{}: {error}", base.display())),
        }
    }
    anyhow::bail!(
        "no place for a test's directory; set CAPSTAN_TESTS_DIR. Tried {}",
        tried.join("; ")
    )
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}
