//! What the agent says of its host: facts for Hello, names of users and groups, its own peak memory. Reads
//! the files itself, bounded: a static program has no name service.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use formats::limits::{NAME_BYTES_MAX, SNAPSHOT_NAMES_MAX};
use formats::wire::control::names::Names;
use formats::wire::facts::HostFacts;

use crate::clock;

/// The most bytes read of a file of names.
const NAMES_FILE_BYTES_MAX: u64 = 64 << 20;
/// The most bytes read of any other file here.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;
/// The most characters of a fact.
const FACT_CHARS_MAX: usize = 200;

/// The host's facts.
pub fn host_facts() -> HostFacts {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    HostFacts {
        system: clipped(&format!(
            "{} {} {}",
            text(uname.sysname()),
            text(uname.release()),
            text(uname.machine())
        )),
        hostname: clipped(&text(uname.nodename())),
        machine_id: clipped(&small_file("/etc/machine-id").unwrap_or_default()),
        uid: rustix::process::geteuid().as_raw(),
        clock_nanos: clock::nanos(clock::now()),
    }
}

pub(crate) fn clipped(text: &str) -> String {
    text.trim().chars().take(FACT_CHARS_MAX).collect()
}

pub(crate) fn small_file(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(SMALL_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The most memory this process has had resident, in bytes; 0 where the kernel does not tell.
pub fn memory_peak() -> u64 {
    let status = small_file("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib.saturating_mul(1 << 10))
}

/// The ids that entries had, to be named at the end.
#[derive(Debug, Default)]
pub struct SeenIds {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

impl SeenIds {
    /// Notes an entry's owner, as long as there is room.
    pub fn note(&mut self, uid: u32, gid: u32) {
        for (ids, id) in [(&mut self.users, uid), (&mut self.groups, gid)] {
            if (ids.len() as u64) < SNAPSHOT_NAMES_MAX {
                ids.insert(id);
            }
        }
    }

    /// Their names, from the host's files.
    pub fn names(&self) -> Names {
        Names {
            users: names_of(&self.users, Path::new("/etc/passwd")),
            groups: names_of(&self.groups, Path::new("/etc/group")),
        }
    }
}

/// Names of ids from a file of lines `name:password:id:…`; the first line of an id counts.
fn names_of(ids: &BTreeSet<u32>, path: &Path) -> Vec<(u32, String)> {
    let mut found = BTreeMap::new();
    each_line(path, |line| {
        if let Some((id, name)) = name_line(line)
            && ids.contains(&id)
        {
            found.entry(id).or_insert(name);
        }
    });
    found.into_iter().collect()
}

/// The home directory of a user, from the host's files; `/` for one that is not there.
pub fn home_of(uid: u32) -> OsString {
    home_in(Path::new("/etc/passwd"), uid).unwrap_or_else(|| "/".into())
}

fn home_in(path: &Path, uid: u32) -> Option<OsString> {
    let mut home = None;
    each_line(path, |line| {
        if name_line(line).is_some_and(|(id, _)| id == uid) {
            let field = line.split(|byte| *byte == b':').nth(5);
            let field = field.filter(|field| field.starts_with(b"/"));
            home = home
                .take()
                .or(field.map(|home| OsString::from_vec(home.to_vec())));
        }
    });
    home
}

/// Reads a file line by line, as far as it is bounded; none of one that is not there.
fn each_line(path: &Path, mut take: impl FnMut(&[u8])) {
    let Ok(file) = File::open(path) else {
        return;
    };
    let mut lines = BufReader::new(file.take(NAMES_FILE_BYTES_MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line that cannot end is not held: what is past the bound is skipped as lines of its own.
        let read = (&mut lines)
            .take(SMALL_FILE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return;
        }
        take(&line);
    }
}

fn name_line(line: &[u8]) -> Option<(u32, String)> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = std::str::from_utf8(fields.next()?).ok()?;
    let id = std::str::from_utf8(fields.nth(1)?).ok()?.trim();
    let usable = !name.is_empty() && name.len() as u64 <= NAME_BYTES_MAX;
    usable.then_some((id.parse().ok()?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{home_in, memory_peak, name_line, names_of};
    use std::collections::BTreeSet;

    #[test]
    fn names_come_from_the_first_line_of_an_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passwd");
        std::fs::write(&path, "root:x:0:0::/:\ntoor:x:0:0\n# note\nweb:x:33:33\n").expect("writes");
        let ids = BTreeSet::from([0, 33, 34]);
        let names = names_of(&ids, &path);
        assert_eq!(names, [(0, "root".to_owned()), (33, "web".to_owned())]);
        assert_eq!(name_line(b":x:1:\n"), None);
        assert_eq!(name_line(b"a:x:b\n"), None);
    }

    #[test]
    fn a_home_is_that_of_the_first_line_of_an_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passwd");
        let lines = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv/a b:\nx:x:33:33::/y:\nodd:x:34:34::home:\n";
        std::fs::write(&path, lines).expect("writes");
        assert_eq!(home_in(&path, 33), Some("/srv/a b".into()));
        assert_eq!(home_in(&path, 34), None);
        assert_eq!(home_in(&path, 35), None);
    }

    #[test]
    fn the_kernel_tells_the_peak() {
        assert!(memory_peak() > 100_000);
    }
}
