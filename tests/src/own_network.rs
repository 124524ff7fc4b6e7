//! A test in a network of its own: loopback alone, every port free, the well-known ones too, and names of the test's own. The
//! test's binary runs itself there again; the machine's own network and files stay as they are.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Says in the inner process that it is there.
const INSIDE: &str = "CAPSTAN_TEST_OWN_NETWORK";

/// Where the calling test finds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the network of its own: this process is to do the work.
    Inside,
    /// Outside, and the work was done inside, or cannot be done on this machine: this process is to end.
    Outside,
}

/// Runs the test of this name again in a network of its own, where these names lead to loopback.
pub fn enter(test: &str, names: &[&str]) -> Result<Side> {
    if std::env::var_os(INSIDE).is_some() {
        let status = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        ensure!(status?.success(), "loopback does not come up");
        return Ok(Side::Inside);
    }
    if !works() {
        eprintln!("no network namespaces here: {test} passes without looking");
        return Ok(Side::Outside);
    }
    let directory = crate::world::temporary_directory()?;
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost {}\n", names.join(" ")))?;
    let script = "set -eu\n\
                  mount --make-rprivate /\n\
                  mount --bind \"$1\" /etc/hosts\n\
                  shift\n\
                  exec \"$@\"\n";
    let status = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script, "sh"])
        .arg(&hosts)
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .context("running the test in a network of its own")?;
    ensure!(status.success(), "{test} failed in its own network");
    Ok(Side::Outside)
}

fn works() -> bool {
    let script = "mount --make-rprivate / && ip link set lo up";
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script])
        .output();
    tried.is_ok_and(|output| output.status.success())
}
