//! Real receivers of what is told: an HTTP server, a mail server with STARTTLS and a login, and a plain one, each on a
//! loopback port. `tests/run` installs what they need. They end with their value.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::processes;
use crate::sshd::free_port;
use crate::world::temporary_directory;

/// Who may send over the secure mail server, and with what.
pub const MAIL_USER: &str = "capstan";
/// Its password.
pub const MAIL_PASSWORD: &str = "mail secret";

const SCRIPT: &str = include_str!("receivers/receivers.py");

/// Running receivers.
#[derive(Debug)]
pub struct Receivers {
    child: Child,
    http_port: u16,
    secure_port: u16,
    plain_port: u16,
    directory: TempDir,
}

/// A post that was received.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Post {
    /// The path it went to.
    pub path: String,
    /// Its headers, with names in lower case.
    pub headers: std::collections::BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Post {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }
}

/// A mail that was received.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Letter {
    /// Which server took it.
    pub server: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Who sent it.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub text: String,
}

impl Receivers {
    /// Starts them.
    pub fn start() -> Result<Self> {
        let directory = temporary_directory()?;
        let path = directory.path();
        make_certificate(path)?;
        fs::write(path.join("receivers.py"), SCRIPT)?;
        let (secure_port, plain_port) = (free_port()?, free_port()?);
        let child = Command::new(python())
            .arg(path.join("receivers.py"))
            .arg(path)
            .args([secure_port.to_string(), plain_port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the receivers")?;
        let mut receivers = Self {
            child,
            http_port: 0,
            secure_port,
            plain_port,
            directory,
        };
        let ports = receivers.directory.path().join("ports");
        let child = &mut receivers.child;
        processes::wait_until("the receivers", Duration::from_secs(30), || {
            ensure!(
                child.try_wait()?.is_none(),
                "the receivers ended at once: does tests/run have installed aiosmtpd?"
            );
            Ok(ports.exists())
        })?;
        receivers.http_port = fs::read_to_string(ports)?.trim().parse()?;
        Ok(receivers)
    }

    /// The HTTP server.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The mail server that wants STARTTLS and a login.
    pub fn secure_mail(&self) -> String {
        format!("localhost:{}", self.secure_port)
    }

    /// The plain mail server.
    pub fn plain_mail(&self) -> String {
        format!("127.0.0.1:{}", self.plain_port)
    }

    /// The certificate of the secure mail server.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// Refuses everything for the time being, or takes it again.
    pub fn refuse(&self, refuses: bool) -> Result<()> {
        let path = self.directory.path().join("refuse");
        match refuses {
            true => fs::write(path, "")?,
            false => fs::remove_file(path)?,
        }
        Ok(())
    }

    /// The posts that were received, oldest first.
    pub fn posts(&self) -> Result<Vec<Post>> {
        self.lines("http.ndjson")
    }

    /// The posts to a path.
    pub fn posts_to(&self, path: &str) -> Result<Vec<Post>> {
        let mut posts = self.posts()?;
        posts.retain(|post| post.path == path);
        Ok(posts)
    }

    /// The mails that were received, oldest first.
    pub fn letters(&self) -> Result<Vec<Letter>> {
        self.lines("mail.ndjson")
    }

    fn lines<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>> {
        let path = self.directory.path().join(name);
        let text = match path.exists() {
            true => fs::read_to_string(path)?,
            false => String::new(),
        };
        let lines = text.split_inclusive('\n');
        // The last one may be being written.
        let whole = lines.filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("the receivers could not be reaped");
        }
    }
}

fn python() -> PathBuf {
    let installed = std::env::var_os("CAPSTAN_TEST_SERVERS")
        .map(|directory| Path::new(&directory).join("bin/python"));
    match installed {
        Some(path) if path.exists() => path,
        _ => PathBuf::from("python3"),
    }
}

fn make_certificate(directory: &Path) -> Result<()> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("cert.pem"))
        .stderr(Stdio::null())
        .status()
        .context("starting openssl")?;
    ensure!(made.success(), "openssl made no certificate");
    Ok(())
}
