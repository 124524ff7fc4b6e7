//! restic and rustic on the target, storing to the append-only REST server. They have one repository format and, for what is
//! done here, one command line.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::rest_server::RestServer;
use super::{PASSWORD, Place, Product, prepare_with};
use crate::options::Step;

/// One of the two, and its server.
#[derive(Debug)]
pub struct RestClient {
    program: &'static str,
    /// What stands before the directory that is restored to.
    restore_to: &'static [&'static str],
    server: Option<RestServer>,
}

impl RestClient {
    /// restic.
    pub fn restic() -> Self {
        Self {
            program: "restic",
            restore_to: &["--target"],
            server: None,
        }
    }

    /// rustic.
    pub fn rustic() -> Self {
        Self {
            program: "rustic",
            restore_to: &[],
            server: None,
        }
    }

    fn command(&self, place: &Place<'_>, arguments: &[&str]) -> Result<Command> {
        let server = self
            .server
            .as_ref()
            .context("the REST server was started")?;
        let client = place.client().display().to_string();
        let prefix = self.program.to_uppercase();
        let environment = [
            (&*format!("{prefix}_PASSWORD"), PASSWORD.to_owned()),
            (&*format!("{prefix}_CACHE_DIR"), format!("{client}/cache")),
            ("HOME", client),
        ];
        server.on_target(place, &environment, |port| {
            let mut words = vec![place.ground.peer(self.program).display().to_string()];
            words.extend(["-r".to_owned(), format!("rest:http://127.0.0.1:{port}/")]);
            words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
            words
        })
    }
}

impl Product for RestClient {
    fn prepare(&mut self, place: &Place<'_>) -> Result<()> {
        self.server = Some(RestServer::start(place)?);
        prepare_with(&mut self.command(place, &["init"])?)
    }

    fn backup(&self, place: &Place<'_>, _step: Step) -> Result<Command> {
        let source = place.source.display().to_string();
        self.command(place, &["backup", &source])
    }

    fn restore(&self, place: &Place<'_>, _step: Step, to: &Path) -> Result<Command> {
        let to = to.display().to_string();
        let arguments = [&["restore", "latest"], self.restore_to, &[&to]].concat();
        self.command(place, &arguments)
    }
}
