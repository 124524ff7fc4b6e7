//! What `init` did, for people and for `--json`. Shows the admin's password, this once.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::keyring::password::ShownOnce;

/// A directory that was set up.
#[derive(Debug, Clone, Serialize)]
pub struct InitReport {
    /// The directory.
    pub dir: PathBuf,
    /// coordinator.toml.
    pub config: PathBuf,
    /// hosts.toml.
    pub hosts: PathBuf,
    /// The first destination.
    pub destination: PathBuf,
    /// The recovery kit.
    pub recovery_kit: PathBuf,
    /// The admin, if there is one.
    pub admin: Option<AdminReport>,
}

/// The admin that was made.
#[derive(Debug, Clone, Serialize)]
pub struct AdminReport {
    /// The user's name.
    pub user: &'static str,
    /// The password, if it was drawn here.
    pub password: Option<ShownOnce>,
    /// Memory that stretching it takes, in KiB.
    pub memory_kib: u32,
    /// Whether that is less than usual, because this machine is short of memory.
    pub memory_reduced: bool,
}

impl fmt::Display for InitReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config.display();
        writeln!(out, "Set up {}:", self.dir.display())?;
        writeln!(out, "  configuration   {config}")?;
        writeln!(out, "  hosts           {}", self.hosts.display())?;
        writeln!(out, "  destination     {}", self.destination.display())?;
        writeln!(out, "  recovery kit    {}", self.recovery_kit.display())?;
        if let Some(admin) = &self.admin {
            write_admin(out, admin)?;
        }
        let kit = self.recovery_kit.display();
        writeln!(
            out,
            "\nThe recovery kit reads every backup, and without it a lost machine means lost backups.\n\
             Print it or copy it elsewhere, prove the copy, then delete the file here:\n  \
             coordinator -c {config} key verify-kit {kit}\n\n\
             Next: add a host to {}, then\n  \
             coordinator -c {config} host trust NAME\n  \
             coordinator -c {config} run NAME",
            self.hosts.display()
        )
    }
}

fn write_admin(out: &mut fmt::Formatter<'_>, admin: &AdminReport) -> fmt::Result {
    if let Some(password) = &admin.password {
        writeln!(
            out,
            "\nPassword of user {}, shown only now: {}",
            admin.user,
            password.expose()
        )?;
    }
    if admin.memory_reduced {
        writeln!(
            out,
            "This machine is short of memory: the password is stretched with {} MiB instead of 1 GiB, so\n\
             choose a long one.",
            admin.memory_kib >> 10
        )?;
    }
    Ok(())
}
