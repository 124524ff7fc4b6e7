//! rustic on the target, storing to the append-only REST server.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::rest_server::RestServer;
use super::{PASSWORD, Place, Product, prepare_with};
use crate::options::Step;

/// rustic and its server.
#[derive(Debug, Default)]
pub struct Rustic {
    server: Option<RestServer>,
}

impl Product for Rustic {
    fn prepare(&mut self, place: &Place<'_>) -> Result<()> {
        self.server = Some(RestServer::start(place)?);
        prepare_with(&mut self.rustic(place, &["init".into()])?)
    }

    fn backup(&self, place: &Place<'_>, _step: Step) -> Result<Command> {
        let source = place.source.display().to_string();
        self.rustic(place, &["backup".into(), source])
    }

    fn restore(&self, place: &Place<'_>, _step: Step, to: &Path) -> Result<Command> {
        let to = to.display().to_string();
        self.rustic(place, &["restore".into(), "latest".into(), to])
    }
}

impl Rustic {
    fn rustic(&self, place: &Place<'_>, arguments: &[String]) -> Result<Command> {
        let server = self
            .server
            .as_ref()
            .context("the REST server was started")?;
        let client = place.client().display().to_string();
        let environment = [
            ("RUSTIC_PASSWORD", PASSWORD.to_owned()),
            ("RUSTIC_CACHE_DIR", format!("{client}/cache")),
            ("HOME", client),
        ];
        server.on_target(place, &environment, |port| {
            let mut words = vec![place.ground.peer("rustic").display().to_string()];
            words.extend(["-r".to_owned(), format!("rest:http://127.0.0.1:{port}/")]);
            words.extend_from_slice(arguments);
            words
        })
    }
}
