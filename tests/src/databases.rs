//! Real database servers for tests, each in a directory of the test's own and reached by a Unix socket there alone. They run
//! as `nobody` and end with their value. `tests/run` installs them.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::processes;

/// `nobody`: neither server runs as root.
const NOBODY: u32 = 65_534;
/// How long a server may take to be there.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
}

impl Postgres {
    /// Who may do everything, without a password.
    pub const USER: &str = "capstan";

    /// Makes a server below `directory` and waits until it answers.
    pub fn start(directory: &Path) -> Result<Self> {
        let place = own_directory(directory, "postgres")?;
        let programs = postgres_programs()?;
        let data = place.join("data");
        let mut make = as_nobody(&programs.join("initdb"), &place);
        make.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg(format!("--username={}", Self::USER))
            .arg(format!("--pgdata={}", data.display()));
        succeed(&mut make)?;
        let mut start = as_nobody(&programs.join("postgres"), &place);
        start.arg("-D").arg(&data).arg("-k").arg(&place).args([
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ]);
        let server = Server::spawn(start, place, Signal::QUIT)?;
        let postgres = Self { server };
        processes::wait_until("PostgreSQL", START_DEADLINE, || {
            Ok(postgres.sql("postgres", "SELECT 1").is_ok())
        })?;
        Ok(postgres)
    }

    /// Where its socket is.
    pub fn socket_directory(&self) -> &Path {
        &self.server.place
    }

    /// Its own client, which stops at the first error.
    pub fn client(&self, database: &str) -> Command {
        let mut client = Command::new("psql");
        client
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
            .args(["--tuples-only", "--no-align"])
            .arg(format!("--host={}", self.socket_directory().display()))
            .arg(format!("--username={}", Self::USER))
            .arg(format!("--dbname={database}"));
        client
    }

    /// What statements give.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String> {
        feed(&mut self.client(database), statements)
    }
}

/// A MariaDB server.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
}

impl MariaDb {
    /// Makes a server below `directory` and waits until it answers.
    pub fn start(directory: &Path) -> Result<Self> {
        let place = own_directory(directory, "mariadb")?;
        let data = format!("--datadir={}", place.join("data").display());
        let mut make = as_nobody(Path::new("mariadb-install-db"), &place);
        make.args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            &data,
        ]);
        succeed(&mut make)?;
        let mut start = as_nobody(Path::new("/usr/sbin/mariadbd"), &place);
        start
            .args(["--no-defaults", &data, "--skip-networking"])
            .arg("--innodb-buffer-pool-size=32M")
            .arg(format!("--pid-file={}", place.join("pid").display()))
            .arg(format!("--socket={}", place.join("socket").display()));
        let server = Server::spawn(start, place, Signal::KILL)?;
        let mariadb = Self { server };
        processes::wait_until("MariaDB", START_DEADLINE, || {
            Ok(mariadb.sql("mysql", "SELECT 1").is_ok())
        })?;
        Ok(mariadb)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.server.place.join("socket")
    }

    /// Its own client, as the user root of the database.
    pub fn client(&self, database: &str) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "--batch", "--skip-column-names"])
            .args(["--default-character-set=utf8mb4", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()))
            .arg(database);
        client
    }

    /// What statements give.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String> {
        feed(&mut self.client(database), statements)
    }
}

/// A server's process.
#[derive(Debug)]
struct Server {
    place: PathBuf,
    child: Child,
    /// What ends it at once, with all its own.
    ends_by: Signal,
}

impl Server {
    fn spawn(mut start: Command, place: PathBuf, ends_by: Signal) -> Result<Self> {
        let log = fs::File::create(place.join("log"))?;
        let child = start
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {start:?}"))?;
        Ok(Self {
            place,
            child,
            ends_by,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = processes::signal(self.child.id(), self.ends_by) {
            eprintln!("ending a database server: {error:#}");
        }
        self.child.wait().ok();
    }
}

/// A directory that belongs to nobody.
fn own_directory(directory: &Path, name: &str) -> Result<PathBuf> {
    let place = directory.join(name);
    fs::create_dir(&place)?;
    std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY))
        .context("giving a database server its directory; the system tests run as root")?;
    Ok(place)
}

fn as_nobody(program: &Path, place: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir(place);
    command
}

/// Where Debian has the programs of the newest version.
fn postgres_programs() -> Result<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql");
    let mut found = Vec::new();
    let listed = fs::read_dir(versions).context("PostgreSQL is not there: run tests/run")?;
    for version in listed {
        let version = version?;
        let number = version.file_name().to_string_lossy().parse::<u32>();
        let programs = version.path().join("bin");
        if let (Ok(number), true) = (number, programs.join("initdb").exists()) {
            found.push((number, programs));
        }
    }
    let newest = found.into_iter().max();
    Ok(newest.context("PostgreSQL is not there: run tests/run")?.1)
}

fn succeed(command: &mut Command) -> Result<String> {
    feed(command, "")
}

/// Runs a program with this on its standard input.
fn feed(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}; tests/run installs it"))?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let input = input.to_owned();
    // Beside reading, so that neither waits for the other. Who does not want it all says why by its status.
    let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    let output = child.wait_with_output()?;
    feeding.join().ok();
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
