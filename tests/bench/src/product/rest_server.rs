//! The append-only REST server that restic and rustic store to, and the way to it through `ssh -R`.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::processes;
use tests::sshd::free_port;

use super::Place;
use crate::ground::quoted;

/// How long it may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running server, which ends with the value.
#[derive(Debug)]
pub struct RestServer {
    port: u16,
    child: Child,
}

impl RestServer {
    /// Serves the repository of a turn on loopback.
    pub fn start(place: &Place<'_>) -> Result<Self> {
        let port = free_port()?;
        fs::create_dir_all(place.repository())?;
        let log = fs::File::create(place.directory.join("rest-server.log"))?;
        let child = Command::new(place.ground.peer("rest-server"))
            .args(["--append-only", "--no-auth", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--path")
            .arg(place.repository())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the REST server")?;
        let server = Self { port, child };
        processes::wait_until("the REST server to listen", START_DEADLINE, || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        Ok(server)
    }

    /// A command that runs on the target, with the server behind the port that `command` is given.
    pub fn on_target(
        &self,
        place: &Place<'_>,
        environment: &[(&str, String)],
        command: impl FnOnce(u16) -> Vec<String>,
    ) -> Result<Command> {
        let forwarded = free_port()?;
        let mut words = vec!["exec".to_owned(), "env".to_owned()];
        for (name, value) in environment {
            words.push(format!("{name}={}", quoted(value)));
        }
        words.extend(command(forwarded).iter().map(quoted));
        let mut ssh = place.ground.ssh();
        ssh.arg("-R")
            .arg(format!("{forwarded}:127.0.0.1:{}", self.port))
            .arg(place.ground.destination())
            .arg(words.join(" "));
        Ok(ssh)
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("bench: the REST server could not be ended: {error}");
        }
    }
}
