//! The machine that a benchmark ran on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::options::Options;

/// What a reader needs to compare with another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// A name that is fit for a directory.
    pub name: String,
    /// Model of the processor.
    pub cpu: String,
    /// How many of them.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Type of the filesystem that everything lies on.
    pub filesystem: String,
}

/// This machine.
pub fn describe(options: &Options) -> Result<Machine> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let meminfo = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let cpu = field(&cpuinfo, "model name").unwrap_or("unknown processor");
    let kib = field(&meminfo, "MemTotal").and_then(|text| text.split_whitespace().next());
    let kib: u64 = kib.and_then(|text| text.parse().ok()).unwrap_or_default();
    let cores = std::thread::available_parallelism()?.get();
    let base = options.dir.as_deref().unwrap_or(Path::new("/srv"));
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| slug(&format!("{cpu} {cores} cores")));
    Ok(Machine {
        name,
        cpu: cpu.to_owned(),
        cores,
        memory_bytes: kib * 1024,
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        filesystem: filesystem_of(&mountinfo, base)
            .unwrap_or("unknown")
            .to_owned(),
    })
}

/// The commit of the checkout that this program was built in, with `-dirty` when it was changed since.
pub fn checkout() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The value of the first `key : value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim())
}

/// Lower-case words joined by dashes.
fn slug(text: &str) -> String {
    text.to_lowercase()
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// The type of the mount that is the longest prefix of a path.
fn filesystem_of<'a>(mountinfo: &'a str, path: &Path) -> Option<&'a str> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let point = mount.split_whitespace().nth(4)?;
            path.starts_with(point)
                .then(|| (point.len(), filesystem.split_whitespace().next()))
        })
        .max_by_key(|(length, _)| *length)?
        .1
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{field, filesystem_of, slug};

    #[test]
    fn files_of_proc_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC (tm) Processor\n";
        assert_eq!(
            field(cpuinfo, "model name").map(slug).as_deref(),
            Some("amd-epyc-tm-processor")
        );
        let mountinfo =
            "22 1 0:1 / / rw - ext4 /dev/a rw\n23 22 0:2 / /srv rw shared:1 - xfs /dev/b rw\n";
        assert_eq!(filesystem_of(mountinfo, Path::new("/srv/x")), Some("xfs"));
        assert_eq!(filesystem_of(mountinfo, Path::new("/opt")), Some("ext4"));
    }
}
