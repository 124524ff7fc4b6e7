//! What `/proc` says about this machine and about the processes below this one. A process that ends while it is looked
//! at is passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Highest resident memory by the name of a process, in bytes; of several with one name, the largest.
pub type Peaks = BTreeMap<String, u64>;

/// CPU seconds that the whole machine has spent so far: user, nice, system, irq and softirq.
pub fn cpu_secs() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let ticks = busy_ticks(&stat).context("/proc/stat has no line of all CPUs")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.split_whitespace();
    if fields.next()? != "cpu" {
        return None;
    }
    let numbers: Vec<u64> = fields
        .map(str::parse)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    // Idle and iowait are waiting, steal is somebody else's, guest is part of user.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = numbers.as_slice() else {
        return None;
    };
    Some(user + nice + system + irq + softirq)
}

/// Raises `peaks` to what the processes below this one have reached.
pub fn raise_peaks(peaks: &mut Peaks) {
    let mut waiting = children(std::process::id());
    while let Some(pid) = waiting.pop() {
        waiting.extend(children(pid));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let Some((name, peak)) = name_and_peak(&status) else {
            continue;
        };
        // Between fork and exec a child still carries this process's name and memory.
        if name == "bench" {
            continue;
        }
        let known = peaks.entry(kind_of(pid, name)).or_default();
        *known = peak.max(*known);
    }
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The command name and the peak of resident memory in bytes; kernel threads and zombies have none.
fn name_and_peak(status: &str) -> Option<(&str, u64)> {
    let field = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::trim)
    };
    let kib: u64 = field("VmHWM:")?.split_whitespace().next()?.parse().ok()?;
    Some((field("Name:")?, kib * 1024))
}

/// The name under which a process is reported: the agent's file has a random name, interpreters hide the program, and
/// a program's serving end is not its client.
fn kind_of(pid: u32, name: &str) -> String {
    let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_else(|_| PathBuf::new());
    if executable.to_string_lossy().contains("/.capstan-") {
        return "target-agent".into();
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    kind_of_command(name, &String::from_utf8_lossy(&command))
}

/// `command` as in `/proc/PID/cmdline`, its arguments ended by NUL.
fn kind_of_command(name: &str, command: &str) -> String {
    let arguments = || command.split('\0').skip(1);
    let is_borg = arguments().any(|argument| argument.ends_with("/borg"));
    let name = if name.starts_with("python") && is_borg {
        "borg"
    } else {
        name
    };
    // The serving end's command line is among the arguments of the `ssh` that starts it, too.
    if name != "ssh" && arguments().any(|argument| argument == "serve") {
        format!("{name} serve")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{busy_ticks, kind_of_command, name_and_peak};

    #[test]
    fn waiting_and_stolen_time_is_not_busy() {
        let stat = "cpu  100 20 30 4000 500 6 7 800 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(busy_ticks(stat), Some(163));
        assert_eq!(busy_ticks("intr 1 2 3\n"), None);
        assert_eq!(busy_ticks("cpu 1 2\n"), None);
    }

    #[test]
    fn a_status_gives_name_and_peak() {
        let status = "Name:\trestic\nVmPeak:\t  999 kB\nVmHWM:\t  2048 kB\n";
        assert_eq!(name_and_peak(status), Some(("restic", 2 << 20)));
        assert_eq!(name_and_peak("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn ends_of_one_program_have_names_of_their_own() {
        assert_eq!(kind_of_command("restic", "restic\0backup\0"), "restic");
        assert_eq!(kind_of_command("ssh", "ssh\0borg\0serve\0"), "ssh");
        assert_eq!(
            kind_of_command(
                "python",
                "/srv/borg/bin/python\0/srv/borg/bin/borg\0serve\0"
            ),
            "borg serve"
        );
        assert_eq!(
            kind_of_command("bupstash", "bupstash\0serve\0/srv\0"),
            "bupstash serve"
        );
    }
}
