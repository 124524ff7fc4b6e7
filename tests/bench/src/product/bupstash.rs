//! bupstash: `put` on the target, `serve` on the other end of an SSH connection. Client and target are this machine,
//! and the private sshd stands before the repository.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Place, Product, prepare_with};
use crate::options::Step;

/// bupstash.
#[derive(Debug)]
pub struct Bupstash;

impl Product for Bupstash {
    fn prepare(&mut self, place: &Place<'_>) -> Result<()> {
        prepare_with(bupstash(place).args(["new-key", "-o"]).arg(key(place)))?;
        prepare_with(bupstash(place).arg("init"))
    }

    fn backup(&self, place: &Place<'_>, step: Step) -> Result<Command> {
        let mut command = bupstash(place);
        command
            .args(["put", "--quiet"])
            .arg(format!("name={}", step.label()))
            .arg(place.source);
        Ok(command)
    }

    fn restore(&self, place: &Place<'_>, step: Step, to: &Path) -> Result<Command> {
        let mut command = bupstash(place);
        command
            .args(["restore", "--quiet", "--into"])
            .arg(to)
            .arg(format!("name={}", step.label()));
        Ok(command)
    }
}

fn key(place: &Place<'_>) -> std::path::PathBuf {
    place.client().join("bupstash.key")
}

fn bupstash(place: &Place<'_>) -> Command {
    let program = place.ground.peer("bupstash");
    // bupstash splits this line at blanks; none of the paths has one.
    let serve = format!(
        "{} {} {} serve {}",
        place.ground.ssh_line(),
        place.ground.destination(),
        program.display(),
        place.repository().display()
    );
    let mut command = Command::new(program);
    command
        .env("BUPSTASH_REPOSITORY_COMMAND", serve)
        .env("BUPSTASH_KEY", key(place))
        .env("XDG_CACHE_HOME", place.client().join("cache"))
        .env("HOME", place.client());
    command
}
