//! A Linux kernel of a test's own, as an ordinary process (User Mode Linux), for what this machine's kernel may not have: the
//! device mapper. It has this machine's files, read-only, memory filesystems over what tests write, and one empty disk. The
//! test's own executable runs in there as root, and the kernel ends with it.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::coordinator_process::Running;
use crate::world::temporary_directory;

/// The disk in there.
pub const DISK: &str = "/dev/ubda";
/// Where tests may write in there.
pub const WRITABLE: &str = "/run/test";
/// Its size: what is not written takes no room on this machine's disk.
const DISK_BYTES: u64 = 2 << 30;
/// How long it may take from its start to its end; past that it is killed, even if this test has ended.
const DEADLINE: Duration = Duration::from_secs(270);
/// Says in there that it is there.
const INSIDE: &str = "CAPSTAN_TEST_INSIDE";
/// What the first process prints when the test has ended well.
const PASSED: &str = "inside: passed";
/// The first process in there. Executables come from where they are on this machine, through a place that no memory filesystem
/// hides; LVM is told that nobody makes device files for it, and to write nothing about its metadata.
const INIT: &str = r#"set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/test
end() { echo o >/proc/sysrq-trigger; sleep 60; }
mount -t proc proc /proc
trap end EXIT
mount -t sysfs sysfs /sys
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p /run/test /run/lock /run/programs
mount --bind "$1" /run/programs
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount -t tmpfs tmpfs /etc/lvm
cat >/etc/lvm/lvm.conf <<'CONF'
devices { scan = ["/dev"] use_devicesfile = 0 obtain_device_list_from_udev = 0 filter = ["a|^/dev/ubd|", "r|.*|"] }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
backup { backup = 0 archive = 0 }
CONF
ip link set lo up
for module in dm-mod dm-bufio dm-snapshot persistent-data/dm-persistent-data dm-bio-prison dm-thin-pool; do
    insmod "/usr/lib/uml/modules/$(uname -r)/kernel/drivers/md/$module.ko"
done
cd /
CAPSTAN_TEST_INSIDE=1 CAPSTAN_TESTS_DIR=/run/test "/run/programs/$2" --exact --nocapture "$3" && echo "inside: passed"
"#;

/// Whether this process is in such a kernel.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs a test of this executable in such a kernel; an error shows all that was printed in there. Passes without looking where
/// there is no such kernel for the machine's processor.
pub fn run_inside(test: &str) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("no User Mode Linux for this processor: passed without looking");
        return Ok(());
    }
    let directory = temporary_directory()?;
    let (disk, init) = (directory.path().join("disk"), directory.path().join("init"));
    fs::File::create(&disk)?.set_len(DISK_BYTES)?;
    fs::write(&init, INIT)?;
    let executable = std::env::current_exe()?;
    let relative = PathBuf::from("deps").join(executable.file_name().context("a name")?);
    let programs = executable.ancestors().nth(2).context("target/<profile>")?;
    // All that is printed comes out in one place, and a namespace of their own ends all of its processes with it.
    let start = format!(
        "exec timeout --signal=KILL {} linux.uml \"$@\" >&2",
        DEADLINE.as_secs()
    );
    let disk = format!("ubd0={}", disk.display());
    let words = [
        OsStr::new("--pid"),
        OsStr::new("--fork"),
        OsStr::new("--kill-child"),
        OsStr::new("sh"),
        OsStr::new("-c"),
        OsStr::new(&start),
        OsStr::new("sh"),
        OsStr::new("rootfstype=hostfs"),
        OsStr::new("rootflags=/"),
        OsStr::new("ro"),
        OsStr::new("mem=1G"),
        OsStr::new(&disk),
        OsStr::new("con=null"),
        OsStr::new("con0=fd:0,fd:1"),
        OsStr::new("quiet"),
        OsStr::new("init=/bin/sh"),
        OsStr::new("--"),
        init.as_os_str(),
        programs.as_os_str(),
        relative.as_os_str(),
        OsStr::new(test),
    ];
    let kernel = Running::spawn(&"/usr/bin/unshare".into(), &words, &[])?;
    let printed = kernel.finish(DEADLINE)?.stderr_text();
    eprintln!("{printed}");
    ensure!(printed.contains(PASSED), "{test} failed in there");
    Ok(())
}
