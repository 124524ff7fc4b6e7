//! Reads `/proc`: who descends from whom, who runs in which pid namespace, who holds which socket.
//! It never signals a process that it was not given by id.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Signal};

/// How often a condition of another process is looked at again.
const POLL: Duration = Duration::from_millis(2);

/// One running process, as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id in the namespace of the tests.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its arguments, joined by blanks; the name in brackets when it has none.
    pub command: String,
    /// The file it runs, with ` (deleted)` when that file is gone.
    pub executable: PathBuf,
}

/// All processes that are alive, zombies left out.
pub fn all() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("listing /proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|text| text.parse().ok())
            && let Some(process) = read(pid)
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// What runs below a process, itself left out.
pub fn descendants(root: u32) -> Result<Vec<Process>> {
    let everything = all()?;
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        family.extend(
            everything
                .iter()
                .filter(|process| family.contains(&process.parent))
                .map(|process| process.pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    Ok(everything
        .into_iter()
        .filter(|process| process.pid != root && family.contains(&process.pid))
        .collect())
}

/// Everything that runs in the pid namespace of a process, itself included.
pub fn in_pid_namespace_of(pid: u32) -> Result<Vec<Process>> {
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid"))
        .with_context(|| format!("reading the pid namespace of {pid}"))?;
    Ok(all()?
        .into_iter()
        .filter(|process| {
            fs::read_link(format!("/proc/{}/ns/pid", process.pid))
                .is_ok_and(|found| found == namespace)
        })
        .collect())
}

/// Sockets that listen and that one of these processes holds: `tcp 127.0.0.1:port` or `unix /path`.
pub fn listening_sockets(pids: &[u32]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for pid in pids {
        let held = socket_inodes(*pid);
        if held.is_empty() {
            continue;
        }
        for (inode, name) in listeners_visible_to(*pid) {
            if held.contains(&inode) {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

/// Peak resident memory of a living process.
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// Sends SIGKILL to one process; `false` when it had gone already.
pub fn kill(pid: u32) -> Result<bool> {
    signal(pid, Signal::KILL)
}

/// Sends a signal to one process; `false` when it had gone already.
pub fn signal(pid: u32, signal: Signal) -> Result<bool> {
    match rustix::process::kill_process(typed(pid)?, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("signalling process {pid}")),
    }
}

/// Waits until a process of that id is gone or is a zombie.
pub fn wait_gone(pid: u32, deadline: Duration) -> Result<()> {
    wait_until(&format!("process {pid} to end"), deadline, || {
        Ok(read(pid).is_none())
    })
}

/// Looks at a condition again and again until it holds; an error names what was waited for.
pub fn wait_until(
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Lets this process open as many files as it may: walking a deep tree holds one descriptor per level.
pub fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}

fn typed(pid: u32) -> Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .with_context(|| format!("{pid} is no process id"))
}

fn read(pid: u32) -> Option<Process> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    // The name in brackets may hold blanks and brackets itself.
    let (name, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if state == "Z" || state == "X" {
        return None;
    }
    let arguments = fs::read(directory.join("cmdline")).ok()?;
    let command = if arguments.is_empty() {
        format!("[{}]", name.split_once('(').map_or(name, |(_, name)| name))
    } else {
        String::from_utf8_lossy(&arguments)
            .trim_end_matches('\0')
            .replace('\0', " ")
    };
    let executable = fs::read_link(directory.join("exe")).unwrap_or_default();
    Some(Process {
        pid,
        parent,
        command,
        executable,
    })
}

fn socket_inodes(pid: u32) -> BTreeSet<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| socket_inode(&link))
        .collect()
}

fn socket_inode(link: &Path) -> Option<u64> {
    let text = OsStr::to_str(link.as_os_str())?;
    text.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn listeners_visible_to(pid: u32) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Field 3 is the state, 0A is LISTEN; field 9 is the inode.
            if let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields.as_slice()
                && let Ok(inode) = inode.parse()
            {
                found.insert(inode, format!("{table} {}", port_of(local)));
            }
        }
    }
    let bytes = fs::read(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    for line in bytes.split(|byte| *byte == b'\n').skip(1) {
        let text = String::from_utf8_lossy(line);
        let fields: Vec<&str> = text.split_whitespace().collect();
        // Bit 16 of the flags is __SO_ACCEPTCON.
        if let [_, _, _, flags, _, _, inode, path @ ..] = fields.as_slice()
            && flags.ends_with("10000")
            && let Ok(inode) = inode.parse()
        {
            found.insert(inode, format!("unix {}", path.join(" ")));
        }
    }
    found
}

fn port_of(local: &str) -> String {
    let port = local
        .rsplit_once(':')
        .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    port.map_or_else(
        || {
            OsStr::from_bytes(local.as_bytes())
                .to_string_lossy()
                .into_owned()
        },
        |port| format!("port {port}"),
    )
}
