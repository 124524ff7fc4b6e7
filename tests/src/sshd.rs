//! A private OpenSSH server per test, which plays the target: own keys, own port, and, where the machine allows it, own
//! mount and pid namespaces, so that `/tmp`, `/dev/shm`, `/var/tmp` and root's home are the target's own and every
//! process of the target is known. It never touches the machine's sshd and never outlives its value.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use formats::keys::secret::random;

use crate::host_network::HostNetwork;
use crate::processes;

mod namespace;

#[cfg(test)]
mod tests;

/// How long sshd may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How often a port that somebody else took in the meantime is replaced.
const PORT_ATTEMPTS: usize = 8;

/// Name of the unprivileged account that exists on a target with namespaces.
pub const UNPRIVILEGED_USER: &str = "capstan";

/// What differs from a plain, permissive target.
#[derive(Debug, Clone, Default)]
pub struct SshdOptions {
    /// Lines of sshd_config; they stand first, and sshd takes the first value of a keyword.
    pub config: Vec<String>,
    /// Shell commands run inside the target's mount namespace before sshd starts, as root.
    pub setup: Vec<String>,
    /// Lines of the target's sudoers file; without any, only root may use sudo.
    pub sudoers: Vec<String>,
    /// A network of the target's own, instead of this machine's loopback.
    pub network: Option<Arc<HostNetwork>>,
}

/// A running sshd.
#[derive(Debug)]
pub struct Sshd {
    directory: PathBuf,
    options: SshdOptions,
    port: u16,
    child: Option<Child>,
}

impl Sshd {
    /// Starts a server that keeps its files in `directory`, which must exist.
    pub fn start(directory: &Path, options: SshdOptions) -> Result<Self> {
        prepare(directory, &options)?;
        let mut sshd = Self {
            directory: directory.to_owned(),
            options,
            port: 0,
            child: None,
        };
        for _ in 0..PORT_ATTEMPTS {
            sshd.port = free_port()?;
            if sshd.launch()? {
                return Ok(sshd);
            }
        }
        bail!(
            "no free port for sshd in {PORT_ATTEMPTS} attempts; its log: {}",
            sshd.log()
        )
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let network = self.options.network.as_ref();
        let ip = network.map_or(Ipv4Addr::LOCALHOST, |network| network.address());
        SocketAddr::from((ip, self.port))
    }

    /// The private key that may log in as root and as [`UNPRIVILEGED_USER`].
    pub fn identity_file(&self) -> PathBuf {
        self.directory.join("client_key")
    }

    /// The host key's fingerprint, `SHA256:…`.
    pub fn fingerprint(&self) -> Result<String> {
        fingerprint(&self.directory.join("host_key.pub"))
    }

    /// Everything sshd logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// The process whose descendants, or whose pid namespace, are the target.
    pub fn root_pid(&self) -> Option<u32> {
        let child = self.child.as_ref()?.id();
        if !namespaces_work() {
            return Some(child);
        }
        processes::descendants(child)
            .ok()?
            .into_iter()
            .find(|process| process.parent == child)
            .map(|process| process.pid)
    }

    /// All processes of the target, sshd's listener left out.
    pub fn processes(&self) -> Result<Vec<processes::Process>> {
        let Some(root) = self.root_pid() else {
            return Ok(Vec::new());
        };
        if namespaces_work() {
            let everything = processes::in_pid_namespace_of(root)?;
            return Ok(everything
                .into_iter()
                .filter(|process| process.pid != root)
                .collect());
        }
        processes::descendants(root)
    }

    /// The agents that run on the target now.
    pub fn agents(&self) -> Result<Vec<processes::Process>> {
        let mut found = self.processes()?;
        found.retain(|process| process.executable.to_string_lossy().contains("/.capstan-"));
        Ok(found)
    }

    /// A path of the target as the tests can open it.
    pub fn path_on_target(&self, path: &str) -> PathBuf {
        match self.root_pid() {
            Some(pid) if namespaces_work() => PathBuf::from(format!("/proc/{pid}/root{path}")),
            _ => PathBuf::from(path),
        }
    }

    /// The home directory of the unprivileged account, as the target sees it.
    pub fn home_of(&self, user: &str) -> PathBuf {
        self.directory.join("home").join(user)
    }

    /// Ends every process of the target at once, as a power cut does; the port answers no more.
    pub fn power_off(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let family = processes::descendants(child.id())?;
        child.kill().context("ending sshd")?;
        for process in &family {
            processes::kill(process.pid)?;
        }
        child.wait().context("waiting for sshd")?;
        for process in &family {
            processes::wait_gone(process.pid, START_DEADLINE)?;
        }
        Ok(())
    }

    /// Starts the target again on the same port, its memory filesystems empty.
    pub fn power_on(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the target is on already");
        ensure!(
            self.launch()?,
            "port {} was taken while the target was off",
            self.port
        );
        Ok(())
    }

    /// Starts sshd on `self.port`; `false` when somebody else has that port.
    fn launch(&mut self) -> Result<bool> {
        let log = self.directory.join("log");
        let config = self.directory.join("sshd_config");
        fs::write(&config, self.config_text())?;
        let log_file = fs::File::create(&log)?;
        let mut command =
            namespace::command(&self.directory, &self.options, &sshd_path()?, &config);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::from(log_file.try_clone()?))
            .stderr(Stdio::from(log_file))
            .process_group(0);
        self.child = Some(command.spawn().context("starting sshd")?);
        let start = Instant::now();
        loop {
            let text = self.log();
            if text.contains("Server listening on") {
                return Ok(true);
            }
            if text.contains("Address already in use") {
                self.power_off()?;
                return Ok(false);
            }
            let ended = self
                .child
                .as_mut()
                .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || start.elapsed() > START_DEADLINE {
                self.power_off()?;
                bail!("sshd did not start; its log: {text}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn config_text(&self) -> String {
        let directory = self.directory.display();
        let mut lines = self.options.config.clone();
        lines.extend([
            format!("ListenAddress {}", self.address()),
            format!("HostKey {directory}/host_key"),
            format!("AuthorizedKeysFile {directory}/authorized_keys"),
            format!("PidFile {directory}/pid"),
            "StrictModes no".into(),
            "UsePAM no".into(),
            "UseDNS no".into(),
            "PermitRootLogin prohibit-password".into(),
            "PasswordAuthentication no".into(),
            "KbdInteractiveAuthentication no".into(),
            "AllowTcpForwarding yes".into(),
            "AllowStreamLocalForwarding yes".into(),
            "MaxStartups 100:30:200".into(),
            "LogLevel VERBOSE".into(),
        ]);
        lines.join("\n") + "\n"
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if let Err(error) = self.power_off() {
            eprintln!("the test's sshd could not be ended: {error:#}");
        }
    }
}

/// Whether this machine lets the tests give each target its own mount and pid namespaces.
///
/// Without them the targets share the machine's temporary directories, so tests must run one at a time.
pub fn namespaces_work() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(namespace::probe)
}

/// A loopback port that was free a moment ago, and that no outgoing connection takes meanwhile: the kernel gives those
/// ports from 32768 on (`net.ipv4.ip_local_port_range`), and Ceph's daemons take theirs from 20000 on.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 10_240;
    const PORTS: u16 = 9_700;
    for _ in 0..1_000 {
        let random = random::<2>().context("choosing a port")?;
        let port = FIRST + u16::from_le_bytes(random) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + PORTS)
}

/// The fingerprint of a public key file, `SHA256:…`.
pub fn fingerprint(public_key: &Path) -> Result<String> {
    let output = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(public_key)
        .output()
        .context("running ssh-keygen")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace()
        .nth(1)
        .map(str::to_owned)
        .with_context(|| format!("no fingerprint of {}", public_key.display()))
}

/// Makes an Ed25519 key pair without a passphrase.
pub fn generate_key(path: &Path) -> Result<()> {
    generate_key_of_type("ed25519", path)
}

/// Makes a key pair of a type that `ssh-keygen -t` knows, without a passphrase.
pub fn generate_key_of_type(kind: &str, path: &Path) -> Result<()> {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-C", "capstan-test", "-f"])
        .arg(path)
        .output()
        .context("running ssh-keygen")?;
    ensure!(
        output.status.success(),
        "ssh-keygen: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn prepare(directory: &Path, options: &SshdOptions) -> Result<()> {
    for key in ["host_key", "client_key"] {
        generate_key(&directory.join(key))?;
    }
    let mut public = String::new();
    fs::File::open(directory.join("client_key.pub"))?.read_to_string(&mut public)?;
    fs::write(directory.join("authorized_keys"), public)?;
    fs::set_permissions(
        directory.join("authorized_keys"),
        fs::Permissions::from_mode(0o644),
    )?;
    // sshd's unprivileged child needs this directory; packages create it when their service starts.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create("/run/sshd")
        .context("creating /run/sshd")?;
    namespace::prepare(directory, options)
}

/// The machine's own sshd.
pub fn sshd_path() -> Result<PathBuf> {
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .context("no sshd on this machine: run tests/run, which installs openssh-server")
}
