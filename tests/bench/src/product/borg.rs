//! borg: the client on the target, `borg serve` on the other end of an SSH connection. Client and target are this
//! machine, and the private sshd stands before the repository.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{PASSWORD, Place, Product, prepare_with};
use crate::options::Step;

/// borg.
#[derive(Debug)]
pub struct Borg;

impl Product for Borg {
    fn prepare(&mut self, place: &Place<'_>) -> Result<()> {
        let mut init = borg(place);
        init.args(["init", "--encryption", "repokey-blake2"])
            .arg(url(place));
        prepare_with(&mut init)
    }

    fn backup(&self, place: &Place<'_>, step: Step) -> Result<Command> {
        let mut command = borg(place);
        command
            .arg("create")
            .arg(format!("{}::{}", url(place), step.label()))
            .arg(place.source);
        Ok(command)
    }

    fn restore(&self, place: &Place<'_>, step: Step, to: &Path) -> Result<Command> {
        let mut command = borg(place);
        command
            .arg("extract")
            .arg(format!("{}::{}", url(place), step.label()))
            .current_dir(to);
        Ok(command)
    }
}

fn url(place: &Place<'_>) -> String {
    let destination = place.ground.destination();
    format!("ssh://{destination}{}", place.repository().display())
}

fn borg(place: &Place<'_>) -> Command {
    let program = place.ground.peer("borg");
    let mut command = Command::new(&program);
    command
        .env("BORG_RSH", place.ground.ssh_line())
        .env("BORG_REMOTE_PATH", program)
        .env("BORG_PASSPHRASE", PASSWORD)
        .env("BORG_BASE_DIR", place.client())
        .env("HOME", place.client());
    command
}
