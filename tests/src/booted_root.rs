//! The installed machine of [`PackageRoot`] under a systemd of its own: systemd-nspawn boots it, with this machine's network.
//! What units say then happens: users, sandboxes, credentials, watchdogs. It ends with the value.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::coordinator_process::{DEADLINE, Finished, Running};
use crate::package_root::PackageRoot;
use crate::processes;

/// Boots with the machine's programs below those of the package; the mount goes with the process.
const BOOT: &str = "set -eu
mount --make-rprivate /
mount -t overlay -o \"lowerdir=$1/usr:/usr\" overlay \"$1/usr\"
exec systemd-nspawn --directory=\"$1\" --machine=\"$2\" --register=no --keep-unit --resolv-conf=off --timezone=off \\
    --link-journal=no --console=pipe --boot systemd.unit=basic.target";

/// A booted machine.
#[derive(Debug)]
pub struct BootedRoot {
    nspawn: Running,
    /// Its process 1, as this machine knows it.
    leader: u32,
}

impl BootedRoot {
    /// Boots it, and waits until services can be started. Nothing where this machine lets nobody boot another.
    pub fn boot(root: &PackageRoot) -> Result<Option<Self>> {
        fs::write(
            root.path("/etc/machine-id"),
            format!("{:032x}\n", 0xca95_7a4e_u32),
        )?;
        let directory = root.path("/");
        let name = format!("capstan-{}", std::process::id());
        let arguments = [
            OsStr::new("--mount"),
            OsStr::new("sh"),
            OsStr::new("-c"),
            OsStr::new(BOOT),
            OsStr::new("sh"),
            directory.as_os_str(),
            OsStr::new(&name),
        ];
        let mut nspawn = Running::spawn(&"/usr/bin/unshare".into(), &arguments, &[])?;
        let mut leader = None;
        processes::wait_until("systemd-nspawn to start systemd", DEADLINE, || {
            leader = leader_of(nspawn.pid())?;
            Ok(leader.is_some() || nspawn.has_ended()?)
        })?;
        let Some(leader) = leader else {
            eprintln!(
                "systemd-nspawn boots nothing here, so units are not started: {}",
                nspawn.stderr_so_far()
            );
            return Ok(None);
        };
        let booted = Self { nspawn, leader };
        processes::wait_until("systemd to be there", DEADLINE, || {
            let asked = booted.run(&["systemctl", "is-active", "basic.target"])?;
            Ok(asked.code == Some(0))
        })
        .with_context(|| booted.nspawn.stderr_so_far())?;
        Ok(Some(booted))
    }

    /// Runs a program in there as root.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Finished> {
        let target = self.leader.to_string();
        let mut all: Vec<&OsStr> = ["--all", "--target", &target, "--"].map(OsStr::new).into();
        all.extend(arguments.iter().map(AsRef::as_ref));
        Running::spawn(&"/usr/bin/nsenter".into(), &all, &[])?.finish(DEADLINE)
    }

    /// `systemctl` that must succeed; an error shows what the unit logged.
    pub fn systemctl(&self, verb: &str, unit: &str) -> Result<()> {
        let done = self.run(&["systemctl", verb, unit])?;
        if done.code == Some(0) {
            return Ok(());
        }
        let log = self.run(&["journalctl", "--no-pager", "--unit", unit])?;
        bail!(
            "systemctl {verb} {unit}: {}\n{}",
            done.stderr_text(),
            log.stdout_text()
        )
    }

    /// What systemd says of one property of a unit.
    pub fn property(&self, unit: &str, property: &str) -> Result<String> {
        let option = format!("--property={property}");
        let shown = self.run(&["systemctl", "show", "--value", &option, unit])?;
        Ok(shown.expect_code(0)?.stdout_text().trim().to_owned())
    }

    /// Waits until a property of a unit is so.
    pub fn wait_for(&self, unit: &str, property: &str, wanted: &str) -> Result<()> {
        let what = format!("{property} of {unit} to be {wanted}");
        processes::wait_until(&what, DEADLINE, || {
            Ok(self.property(unit, property)? == wanted)
        })
    }
}

impl Drop for BootedRoot {
    fn drop(&mut self) {
        let ended = processes::kill(self.leader)
            .and_then(|_| processes::wait_gone(self.nspawn.pid(), Duration::from_secs(20)));
        if let Err(error) = ended {
            eprintln!("a booted machine could not be ended: {error:#}");
        }
    }
}

/// The first process of the pid namespace that systemd-nspawn made, once it is systemd.
fn leader_of(nspawn: u32) -> Result<Option<u32>> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(std::process::id());
    ensure!(own.is_some(), "/proc does not show pid namespaces");
    let is_systemd = |executable: &PathBuf| executable.ends_with("systemd");
    Ok(processes::descendants(nspawn)?
        .into_iter()
        .find(|process| is_systemd(&process.executable) && namespace(process.pid) != own)
        .map(|process| process.pid))
}
