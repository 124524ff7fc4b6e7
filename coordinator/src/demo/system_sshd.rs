//! The system's sshd with a private configuration, for the demo. Ends with its value: the server, its
//! sessions and what runs in them, each by its process id.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Where it is looked for.
const PROGRAMS: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
/// How often another port is tried.
const STARTS_MAX: usize = 3;
/// How long it may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long its processes may take to end before they are killed.
const END_LIMIT: Duration = Duration::from_secs(3);
/// How long between two looks.
const END_PAUSE: Duration = Duration::from_millis(20);
/// The directory that Debian's sshd wants when it is started by root.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// An sshd that listens.
#[derive(Debug)]
pub struct SystemSshd {
    /// Its port on 127.0.0.1.
    pub port: u16,
    child: Child,
    _privilege_separation: Option<MadeDirectory>,
}

impl SystemSshd {
    /// Starts it with the keys in `directory`; nothing when there is none, or it does not start.
    pub async fn start(directory: &Path) -> Option<Self> {
        let program = PROGRAMS.iter().map(Path::new).find(|path| path.is_file())?;
        let config = directory.join("sshd_config");
        for _ in 0..STARTS_MAX {
            // Each time, as another server of this kind may have ended and taken it along.
            let made = MadeDirectory::for_sshd();
            let port = free_port().ok()?;
            fs::write(&config, config_text(directory, port)).ok()?;
            match listen(program, &config).await {
                Ok(child) => {
                    return Some(Self {
                        port,
                        child,
                        _privilege_separation: made,
                    });
                }
                Err(said) => tracing::info!(said, "the system's sshd does not start"),
            }
        }
        None
    }
}

impl Drop for SystemSshd {
    fn drop(&mut self) {
        let Some(server) = self.child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        // Taken before the server ends: afterwards nothing says whose children they were.
        let all = with_descendants(server);
        send(&all, Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < END_LIMIT && all.iter().any(|id| lives(*id)) {
            thread::sleep(END_PAUSE);
        }
        let left: BTreeSet<i32> = all.into_iter().filter(|id| lives(*id)).collect();
        send(&left, Signal::KILL);
    }
}

/// Login must not depend on the directory's owner or on PAM, which only root could ask.
fn config_text(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nPubkeyAuthentication yes\nPasswordAuthentication no\n\
         AllowTcpForwarding yes\nAllowStreamLocalForwarding yes\nPrintMotd no\nLogLevel INFO\n\
         MaxStartups 100\nHostKey \"{directory}/host_key\"\n\
         AuthorizedKeysFile \"{directory}/authorized_keys\"\n"
    )
}

async fn listen(program: &Path, config: &Path) -> Result<Child, String> {
    let mut child = Command::new(program)
        .args(["-D", "-e", "-f"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let Some(stderr) = child.stderr.take() else {
        return Err("it has no standard error".to_owned());
    };
    let mut lines = BufReader::new(stderr).lines();
    match timeout(START_LIMIT, until_listening(&mut lines)).await {
        Ok(Ok(())) => {
            // Read to its end, so that the server is never held up by what it says.
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    tracing::trace!(line, "sshd");
                }
            });
            Ok(child)
        }
        Ok(Err(said)) => Err(said),
        Err(_) => Err("it does not listen".to_owned()),
    }
}

async fn until_listening(lines: &mut Lines<BufReader<ChildStderr>>) -> Result<(), String> {
    let mut last = "it ended".to_owned();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("Server listening on") {
            return Ok(());
        }
        last = line;
    }
    Err(last)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A process and everything it has started, directly or not.
fn with_descendants(first: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([first]);
    let parents = parents();
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(id, parent)| found.contains(parent) && !found.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Every process with its parent.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let id: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let (_, parent) = state_and_parent(id)?;
            Some((id, parent))
        })
        .collect()
}

fn state_and_parent(id: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before may hold anything, a parenthesis included.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Whether a process still does anything; one that only waits to be reaped does not.
fn lives(id: i32) -> bool {
    state_and_parent(id).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn send(processes: &BTreeSet<i32>, signal: Signal) {
    for id in processes.iter().filter_map(|id| Pid::from_raw(*id)) {
        if let Err(error) = kill_process(id, signal) {
            tracing::debug!(%error, "a process has ended by itself");
        }
    }
}

/// A directory that was missing, and goes again.
#[derive(Debug)]
struct MadeDirectory(PathBuf);

impl MadeDirectory {
    fn for_sshd() -> Option<Self> {
        let path = PathBuf::from(PRIVILEGE_SEPARATION);
        let root = rustix::process::geteuid().is_root();
        (root && fs::create_dir(&path).is_ok()).then_some(Self(path))
    }
}

impl Drop for MadeDirectory {
    fn drop(&mut self) {
        // A server that was started meanwhile needs it as much; then it stays.
        if another_sshd_lives() {
            return;
        }
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::debug!(%error, "sshd's directory stays");
        }
    }
}

/// Whether any sshd runs; the demo's own has ended by then.
fn another_sshd_lives() -> bool {
    parents().into_iter().any(|(id, _)| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        name.trim_end().starts_with("sshd") && lives(id)
    })
}
