//! Both programs set up in the installed machine as README says, and a host to back up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tests::coordinator_process::{DEADLINE, Finished, Running};
use tests::package_root::{PackageRoot, project};
use tests::shapes::exit;
use tests::sshd::{Sshd, SshdOptions};
use tests::world::temporary_directory;

/// The machine, and the host `web1` with twenty files.
pub struct TwoUsers {
    /// The machine.
    pub root: PackageRoot,
    /// The host's files are in its directory `source`.
    pub target: TempDir,
    sshd: Sshd,
    told: UnixDatagram,
}

impl TwoUsers {
    /// Installs, makes the destination and the coordinator's directory.
    pub fn set_up() -> Result<Self> {
        let root = PackageRoot::install("/usr")?;
        let target = temporary_directory()?;
        for name in ["sshd", "source"] {
            fs::create_dir(target.path().join(name))?;
        }
        for number in 0..20_u8 {
            let content = vec![number; 10_000 * usize::from(number)];
            fs::write(target.path().join(format!("source/f{number:02}")), content)?;
        }
        let sshd = Sshd::start(&target.path().join("sshd"), SshdOptions::default())?;
        fs::create_dir(root.path("/srv/backup"))?;
        root.give("/srv/backup", "append-server", 0o700)?;
        let notify = root.path("/run/notify");
        let told = UnixDatagram::bind(&notify)?;
        told.set_read_timeout(Some(DEADLINE))?;
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o666))?;
        let both = Self {
            root,
            target,
            sshd,
            told,
        };
        both.configure_server("[\"coordinator\", \"root\"]")?;
        let create = ["append-server", "--create-destinations"];
        both.root.run("append-server", &create)?.expect_code(0)?;
        both.init_coordinator()?;
        Ok(both)
    }

    /// The sample, with these users and without the room for the log, which the disks of tests do not have.
    pub fn configure_server(&self, allow_users: &str) -> Result<()> {
        let sample = fs::read_to_string(project().join("config/append-server.toml"))?;
        let text = sample
            .replace("allow_users = []", &format!("allow_users = {allow_users}"))
            .replace("reserve_bytes = 268435456", "reserve_bytes = 1048576");
        ensure!(text.contains(allow_users) && text.contains("= 1048576"));
        let path = "/etc/append-server/append-server.toml";
        fs::write(self.root.path(path), text)?;
        self.root.give(path, "append-server", 0o640)?;
        // It reads its configuration and never changes it.
        chown(self.root.path(path), Some(0), None)?;
        Ok(())
    }

    fn init_coordinator(&self) -> Result<()> {
        let init = [
            "coordinator",
            "init",
            "--dir",
            "/etc/coordinator",
            "--state-dir",
            "/var/lib/coordinator",
            "--socket-dir",
            "/run/append-server",
            "--destination",
            "/srv/backup",
            "--no-users",
        ];
        self.root.run("coordinator", &init)?.expect_code(exit::OK)?;
        let key = "/etc/coordinator/keys/id_ed25519";
        fs::copy(self.sshd.identity_file(), self.root.path(key))?;
        self.root.give(key, "coordinator", 0o600)?;
        let hosts = format!(
            "[host.web1]\naddress = \"{}\"\nuser = \"root\"\nidentity_file = \"keys/id_ed25519\"\n\
             host_key = [\"{}\"]\npaths = [{:?}]\n",
            self.sshd.address(),
            self.sshd.fingerprint()?,
            self.target.path().join("source"),
        );
        fs::write(self.root.path("/etc/coordinator/hosts.toml"), hosts)?;
        Ok(())
    }

    /// Starts the append-server as its unit does, and waits for its word that it is ready.
    pub fn start_server(&self) -> Result<Running> {
        let variables = [
            ("NOTIFY_SOCKET", "/run/notify"),
            ("WATCHDOG_USEC", "1000000"),
        ];
        let server = self
            .root
            .start("append-server", &variables, &["append-server"])?;
        self.expect_told("READY=1")
            .with_context(|| server.stderr_so_far())?;
        Ok(server)
    }

    /// Waits until the service manager is told so, with signs of life in between.
    pub fn expect_told(&self, expected: &str) -> Result<()> {
        let mut buffer = [0; 128];
        for _ in 0..1_000 {
            let length = self.told.recv(&mut buffer).context(expected.to_owned())?;
            if buffer[..length].starts_with(expected.as_bytes()) {
                return Ok(());
            }
        }
        bail!("{expected} was never told")
    }

    /// Reads what the service manager was told so far: few messages fit into its socket.
    pub fn hear_all(&self) -> Result<()> {
        self.told.set_nonblocking(true)?;
        while self.told.recv(&mut [0; 128]).is_ok() {}
        Ok(self.told.set_nonblocking(false)?)
    }

    /// Runs the coordinator as this user to its end.
    pub fn coordinator(&self, user: &str, arguments: &[&str]) -> Result<Finished> {
        let mut all = vec!["coordinator"];
        all.extend(arguments);
        self.root.run(user, &all)
    }

    /// A script that this user must not be able to carry out.
    pub fn shell_fails(&self, user: &str, script: &str) -> Result<()> {
        let finished = self.root.run(user, &["sh", "-c", script])?;
        ensure!(finished.code != Some(0), "{user} may: {script}");
        Ok(())
    }
}
