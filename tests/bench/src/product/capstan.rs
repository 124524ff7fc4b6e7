//! Capstan: `coordinator run` here, and the agent it sends through the private sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Place, Product, prepare_with, write_below};
use crate::options::Step;
use crate::proc_files::Peaks;

const HOST: &str = "target";

/// The coordinator, with everything in the turn's own directory.
#[derive(Debug)]
pub struct Capstan;

impl Product for Capstan {
    fn prepare(&mut self, place: &Place<'_>) -> Result<()> {
        let mut init = Command::new(place.ground.coordinator());
        init.args(["init", "--no-users", "--dir"])
            .arg(directory(place));
        prepare_with(&mut init)?;
        let sshd = place.ground.sshd();
        let source = place.source.to_str().context("the set's path is UTF-8")?;
        let hosts = format!(
            "[host.{HOST}]\naddress = \"{}\"\nuser = \"root\"\nidentity_file = {:?}\nhost_key = [\"{}\"]\npaths = [{source:?}]\n",
            sshd.address(),
            sshd.identity_file(),
            sshd.fingerprint()?
        );
        let path = write_below(&directory(place), "hosts.toml", &hosts)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    fn backup(&self, place: &Place<'_>, _step: Step) -> Result<Command> {
        let mut command = coordinator(place);
        command.args(["run", HOST, "--json"]);
        Ok(command)
    }

    fn restore(&self, place: &Place<'_>, _step: Step, to: &Path) -> Result<Command> {
        let mut command = coordinator(place);
        command
            .args(["restore", HOST, "latest", "--json", "--to"])
            .arg(to);
        Ok(command)
    }

    fn repository(&self, place: &Place<'_>) -> PathBuf {
        directory(place).join("repository")
    }

    fn own_peaks(&self, stdout: &str) -> Peaks {
        let report: Value = serde_json::from_str(stdout).unwrap_or_default();
        [
            ("target-agent", "agent_rss_bytes"),
            ("coordinator", "coordinator_rss_bytes"),
        ]
        .into_iter()
        .filter_map(|(process, field)| Some((process.to_owned(), report.get(field)?.as_u64()?)))
        .collect()
    }
}

fn directory(place: &Place<'_>) -> PathBuf {
    place.directory.join("coordinator")
}

fn coordinator(place: &Place<'_>) -> Command {
    let mut command = Command::new(place.ground.coordinator());
    command
        .arg("-c")
        .arg(directory(place).join("coordinator.toml"));
    command
}
