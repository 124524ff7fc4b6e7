//! Calls a dead-man switch: that the daemon began, that all is well, or that it is not.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::catalog::state::State;
use crate::config::notify_settings::Endpoint;
use crate::coordinator::Coordinator;
use crate::daemon::health::Health;
use crate::database::DatabaseError;
use crate::notify::deliver::{Ping, ping};
use crate::notify::http::Poster;
use crate::status::fleet_status;
use crate::status::severity::{Severity, severity};
use crate::terminal::error_line;

/// A switch, and what its call needs.
#[derive(Debug)]
pub struct Call {
    /// What it is called in the configuration.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whether nobody called it since the daemon began.
    pub is_first: bool,
    /// With the configuration in force.
    pub current: Arc<Coordinator>,
    /// Makes requests.
    pub poster: Arc<Poster>,
    /// Knows how the daemon is, and hears whether the switch is reached.
    pub health: Health,
}

impl Call {
    /// Calls it by how hosts and the daemon are.
    pub async fn make(self) {
        if self.is_first {
            self.tell(Ping::Start).await;
        }
        // A daemon that does not do all its work is as good as a host without snapshots.
        let is_daemon_well = self.health.down(std::time::Instant::now()).is_empty();
        let current = Arc::clone(&self.current);
        let hosts = spawn_blocking(move || are_hosts_well(&current));
        let are_well = is_daemon_well && matches!(hosts.await, Ok(Ok(true)));
        self.tell(match are_well {
            true => Ping::Success,
            false => Ping::Fail,
        })
        .await;
    }

    async fn tell(&self, told: Ping) {
        let Err(error) = ping(&self.endpoint, told, &self.poster).await else {
            self.health.target_took(&self.name);
            return;
        };
        self.health.target_fails(&self.name, error_line(&error));
        let error = &error as &dyn std::error::Error;
        tracing::error!(to = %self.name, error, "a dead-man switch was not reached");
    }
}

/// Whether every host has the snapshots that it was promised.
fn are_hosts_well(current: &Coordinator) -> Result<bool, DatabaseError> {
    let state = State::open(&current.state_dir.state_file())?;
    let hosts = fleet_status(&state, &current.config, current.clock.now())?;
    let is_well = |host| severity(host) != Severity::Critical;
    Ok(hosts.iter().all(is_well))
}
