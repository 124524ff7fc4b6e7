//! Real S3 servers for tests, each on a loopback port and in a directory of the test's own: Ceph's gateway, which does
//! everything; moto, which starts in seconds; and rclone's, which ignores conditional writes as some providers do.
//! `tests/run` installs them. They end with their value.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::certificates::ServerCertificate;
use crate::processes;
use crate::sshd::free_port;

/// How long a server may take to answer.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Every server's key pair.
pub const ACCESS_KEY_ID: &str = "capstan";
/// Every server's key pair.
pub const SECRET_KEY: &str = "capstan-secret";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Kind {
    /// Ceph's radosgw: conditional writes, versions, object lock.
    Ceph,
    /// moto: the same, nearly.
    Moto,
    /// rclone serve s3: ignores conditional writes, knows neither versions nor locks.
    Rclone,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Seat {
    /// Its address, as whoever started it sees it.
    pub address: Ipv4Addr,
    /// A file that keeps the network namespace it runs in, where it listens on every address; nothing is our own, where it
    /// listens on this one.
    pub network: Option<PathBuf>,
}

impl Default for S3Seat {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST,
            network: None,
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct S3Server {
    kind: S3Kind,
    directory: PathBuf,
    seat: S3Seat,
    tls: Option<ServerCertificate>,
    port: u16,
    child: Option<Child>,
}

impl S3Server {
    /// Starts a server that keeps its files in `directory`, which must exist.
    pub fn start(kind: S3Kind, directory: &Path) -> Result<Self> {
        Self::start_at(kind, directory, S3Seat::default())
    }

    /// Starts it to be reached at another address.
    pub fn start_at(kind: S3Kind, directory: &Path, seat: S3Seat) -> Result<Self> {
        Self::start_with(kind, directory, seat, None)
    }

    /// Starts moto with TLS, and this certificate.
    pub fn start_moto_with_tls(directory: &Path, certificate: ServerCertificate) -> Result<Self> {
        Self::start_with(
            S3Kind::Moto,
            directory,
            S3Seat::default(),
            Some(certificate),
        )
    }

    fn start_with(
        kind: S3Kind,
        directory: &Path,
        seat: S3Seat,
        tls: Option<ServerCertificate>,
    ) -> Result<Self> {
        let mut server = Self {
            kind,
            directory: directory.to_owned(),
            seat,
            tls,
            port: free_port()?,
            child: None,
        };
        server.launch()?;
        Ok(server)
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.seat.address, self.port))
    }

    /// The address it is told to listen on.
    fn listens_on(&self) -> Ipv4Addr {
        match self.seat.network {
            None => self.seat.address,
            Some(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// A program in the server's network.
    fn command(&self, program: &Path) -> Command {
        match &self.seat.network {
            None => Command::new(program),
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", network.display()));
                command.arg("--").arg(program);
                command
            }
        }
    }

    /// Stops answering; what is stored stays, for rclone, which keeps it in files.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("ending an S3 server")?;
            child.wait().context("waiting for an S3 server")?;
        }
        if self.kind == S3Kind::Ceph {
            for process in self.ceph_processes()? {
                processes::kill(process)?;
                processes::wait_gone(process, START_DEADLINE)?;
            }
        }
        Ok(())
    }

    /// Answers again on the same port.
    pub fn launch(&mut self) -> Result<()> {
        match self.kind {
            S3Kind::Ceph => self.launch_ceph()?,
            S3Kind::Moto => {
                let port = self.port.to_string();
                let address = self.listens_on().to_string();
                let mut arguments = vec!["-H".to_owned(), address, "-p".to_owned(), port];
                if let Some(tls) = &self.tls {
                    arguments.extend([
                        "-s".to_owned(),
                        "-c".to_owned(),
                        tls.certificate.display().to_string(),
                        "-k".to_owned(),
                        tls.key.display().to_string(),
                    ]);
                }
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                self.spawn("moto_server", &arguments)?;
            }
            S3Kind::Rclone => {
                let store = self.directory.join("store");
                fs::create_dir_all(&store)?;
                let keys = format!("{ACCESS_KEY_ID},{SECRET_KEY}");
                let address = format!("{}:{}", self.listens_on(), self.port);
                let store = store.display().to_string();
                self.spawn(
                    "rclone",
                    &[
                        "serve",
                        "s3",
                        "--auth-key",
                        &keys,
                        "--addr",
                        &address,
                        &store,
                    ],
                )?;
            }
        }
        self.wait()
    }

    /// Makes a further user of Ceph's, whose key is its name and whose secret is every server's.
    pub fn add_user(&self, name: &str) -> Result<()> {
        ensure!(self.kind == S3Kind::Ceph, "{:?} has one user", self.kind);
        self.ceph_admin(&[
            "user",
            "create",
            "--uid",
            name,
            "--display-name",
            name,
            "--access-key",
            name,
            "--secret-key",
            SECRET_KEY,
        ])
    }

    /// Makes Ceph give back the space of what was removed, which it does by itself hours later.
    pub fn collect_garbage(&self) -> Result<()> {
        match self.kind {
            S3Kind::Ceph => self.ceph_admin(&["gc", "process", "--include-all"]),
            S3Kind::Moto | S3Kind::Rclone => Ok(()),
        }
    }

    fn ceph_admin(&self, arguments: &[&str]) -> Result<()> {
        let output = self
            .command(Path::new("radosgw-admin"))
            .arg("-c")
            .arg(self.directory.join("ceph.conf"))
            .args(["-n", "client.rgw"])
            .args(arguments)
            .output()
            .context("running radosgw-admin")?;
        ensure!(
            output.status.success(),
            "radosgw-admin: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) -> Result<()> {
        let log = fs::File::create(self.directory.join("log"))?;
        let child = self
            .command(&tool(program))
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {program}: tests/run installs it"))?;
        self.child = Some(child);
        Ok(())
    }

    fn launch_ceph(&self) -> Result<()> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/s3_server/ceph.sh");
        let log = fs::File::create(self.directory.join("log"))?;
        let status = self
            .command(Path::new("bash"))
            .arg(script)
            .arg(&self.directory)
            .arg(self.port.to_string())
            .arg(self.listens_on().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .status()
            .context("starting Ceph")?;
        ensure!(status.success(), "Ceph did not start: {}", self.log());
        Ok(())
    }

    fn ceph_processes(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(self.directory.join("run")) else {
            return Ok(found);
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "pid")
                && let Ok(process) = fs::read_to_string(&path)?.trim().parse()
            {
                found.push(process);
                fs::remove_file(&path)?;
            }
        }
        Ok(found)
    }

    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
            let ended = self
                .child
                .as_mut()
                .is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || start.elapsed() > START_DEADLINE {
                bail!("{:?} does not answer: {}", self.kind, self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("the test's S3 server could not be ended: {error:#}");
        }
    }
}

/// A client with all rights.
pub fn admin(server: &S3Server) -> aws_sdk_s3::Client {
    client_of(server, ACCESS_KEY_ID)
}

/// A client with a user's rights.
pub fn client_of(server: &S3Server, access_key_id: &str) -> aws_sdk_s3::Client {
    let credentials = Credentials::new(access_key_id, SECRET_KEY, None, None, "test");
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.endpoint())
        .force_path_style(true)
        .credentials_provider(credentials)
        .http_client(http)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// A program that `tests/run` installed, or that is on the path.
fn tool(program: &str) -> PathBuf {
    let installed = std::env::var_os("CAPSTAN_TEST_SERVERS")
        .map(|directory| Path::new(&directory).join("bin").join(program));
    match installed {
        Some(path) if path.exists() => path,
        _ => PathBuf::from(program),
    }
}
