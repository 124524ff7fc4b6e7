//! A private OpenSSH server on a loopback port, with its own keys, that ends with its value.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use append_server::ssh::host_key::Fingerprint;
use append_server::ssh::target::{SshTarget, Timeouts};
use tempfile::TempDir;

/// How often a server is started again because something else took its port.
const STARTS_MAX: usize = 5;

/// How long anything in a test may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Sshd {
    child: Child,
    pub(super) directory: TempDir,
    pub(super) port: u16,
    log: Arc<Mutex<String>>,
}

impl Sshd {
    /// A server with these lines before the fixture's own: sshd takes the first of each key.
    pub(super) fn start(config: &str) -> Self {
        fs::create_dir_all("/run/sshd").unwrap();
        let directory = tempfile::Builder::new()
            .prefix("capstan-sshd-")
            .tempdir()
            .unwrap();
        let dir = directory.path();
        keygen(&dir.join("host_ed25519"), "ed25519");
        keygen(&dir.join("host_ecdsa"), "ecdsa");
        keygen(&dir.join("client"), "ed25519");
        keygen(&dir.join("ca"), "ed25519");
        fs::copy(dir.join("client.pub"), dir.join("authorized_keys")).unwrap();
        for _ in 0..STARTS_MAX {
            let port = free_port();
            if let Some((child, log)) = try_start(dir, port, config) {
                return Self {
                    child,
                    directory,
                    port,
                    log,
                };
            }
        }
        panic!("sshd does not start");
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn fingerprint(&self, name: &str) -> Fingerprint {
        let key = russh::keys::load_public_key(self.path(&format!("{name}.pub"))).unwrap();
        Fingerprint::of(&key)
    }

    pub(super) fn target(&self) -> SshTarget {
        SshTarget {
            name: "web1".into(),
            address: format!("127.0.0.1:{}", self.port).parse().unwrap(),
            user: user_name(),
            identity_file: Some(self.path("client")),
            certificate_file: None,
            agent_socket: None,
            password: None,
            host_keys: vec![self.fingerprint("host_ed25519")],
            jump: None,
            timeouts: Timeouts::default(),
        }
    }

    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn try_start(dir: &Path, port: u16, config: &str) -> Option<(Child, Arc<Mutex<String>>)> {
    let file = dir.join("sshd_config");
    let own = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         LogLevel VERBOSE\nHostKey {dir}/host_ed25519\nHostKey {dir}/host_ecdsa\n\
         AuthorizedKeysFile {dir}/authorized_keys\nMaxStartups 100\n",
        dir = dir.display()
    );
    fs::write(&file, format!("{config}\n{own}")).unwrap();
    let mut child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(String::new()));
    for line in lines.by_ref() {
        let line = line.unwrap();
        if line.contains("Server listening on") {
            let kept = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    let mut kept = kept.lock().unwrap();
                    kept.push_str(&line);
                    kept.push('\n');
                }
            });
            return Some((child, log));
        }
        log.lock().unwrap().push_str(&line);
    }
    eprintln!("sshd ended: {}", log.lock().unwrap());
    child.wait().unwrap();
    None
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Creates a key pair; the private key is 0600.
pub(super) fn keygen(path: &Path, kind: &str) {
    tool(
        "ssh-keygen",
        &["-q", "-t", kind, "-N", "", "-C", "test", "-f", text(path)],
    );
}

pub(super) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn user_name() -> String {
    tool("id", &["-un"]).trim().to_owned()
}

/// A file that can be run, such as a stand-in for `sudo`.
pub(super) fn program(path: &Path, body: &str) {
    fs::write(path, body).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// An SSH agent that ends with its value.
pub(super) struct Agent {
    child: Child,
    pub(super) socket: PathBuf,
    _directory: TempDir,
}

impl Agent {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-a", text(&socket)])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It names its socket once it listens.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        Self {
            child,
            socket,
            _directory: directory,
        }
    }

    pub(super) fn add(&self, key: &Path) {
        let status = Command::new("ssh-add")
            .args(["-q", text(key)])
            .env("SSH_AUTH_SOCK", &self.socket)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A tmpfs that is unmounted with its value.
pub(super) struct Tmpfs {
    directory: TempDir,
}

impl Tmpfs {
    pub(super) fn mount(options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = text(directory.path());
        tool("mount", &["-t", "tmpfs", "-o", options, "tmpfs", place]);
        Self { directory }
    }

    pub(super) fn path(&self) -> &str {
        text(self.directory.path())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        tool("umount", &["-l", text(self.directory.path())]);
    }
}

/// Waits until something on this machine has come about; the other side's processes report
/// nothing, so it has to be looked at repeatedly.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never came about: {what}"));
}

pub(super) fn entries(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
