//! What the daemon is asked for.

use std::sync::Arc;
use std::time::Instant;

use crate::backup::progress::Stop;
use crate::clock::utc;
use crate::config::revision::{ConfigRevision, record_applied};
use crate::daemon::control::refusal;
use crate::daemon::handle::{Order, RunOrder};
use crate::daemon::protocol::Live;
use crate::daemon::reload::read_again;
use crate::daemon::serve::Daemon;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::schedule::outlook::Outlook;
use crate::schedule::roster::Asked;
use crate::terminal::error_line;

impl Daemon {
    pub(super) async fn carry_out(&mut self, order: Order) {
        let heard = match order {
            Order::Reload { answer } => {
                let done = self.reload().await;
                answer.send(done).is_ok()
            }
            Order::Cancel { host, answer } => answer.send(self.cancel(&host)).is_ok(),
            Order::Live { answer } => answer.send(self.live()).is_ok(),
            Order::Run(order) => {
                self.ask(order);
                true
            }
        };
        if !heard {
            tracing::debug!("whoever asked has left");
        }
    }

    /// Takes the configuration that is there, or says why the one before stays.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        self.manager.reloading();
        let done = self.take_config().await;
        self.manager.ready();
        let what = match &done {
            Ok(revision) => What::ConfigReloaded {
                revision: revision.clone(),
            },
            Err(problem) => What::ConfigRefused {
                problem: problem.clone(),
            },
        };
        self.refused = done.as_ref().err().cloned();
        self.coordinator.events.tell(Event::new(what));
        done
    }

    async fn take_config(&mut self) -> Result<String, String> {
        let config = read_again(&self.inputs.file, &self.coordinator.config);
        let config = config.map_err(|error| error_line(&error))?;
        let before = Arc::clone(&self.coordinator);
        self.coordinator = Arc::new(before.with_config(config));
        let now = self.coordinator.clock.now();
        if let Err(error) = self.load(now).await {
            self.coordinator = before;
            return Err(error_line(&error));
        }
        let revision = match record_applied(&self.coordinator.config, now) {
            Ok(revision) => revision,
            // It is in force all the same: the record is for `config diff`.
            Err(error) => {
                tracing::error!(error = error_line(&error), "writing down what is in force");
                ConfigRevision::of(&self.coordinator.config)
            }
        };
        self.coordinator.try_place_all().await;
        let revision = revision.full();
        self.inputs.revision = revision.clone();
        self.inputs
            .publish
            .send_replace(Arc::clone(&self.coordinator));
        Ok(revision)
    }

    fn cancel(&mut self, host: &str) -> Result<String, String> {
        if self.runs.stop(host, Stop::Cancelled) {
            return Ok(format!("the run of {host} is being stopped"));
        }
        if self.roster.unask(host) {
            if let Some(order) = self.asked.remove(host) {
                tell_refusal(
                    &order,
                    ExitCode::Cancelled,
                    "it was cancelled before it began",
                );
            }
            return Ok(format!(
                "the run of {host} that waited for its turn is given up"
            ));
        }
        Err(format!("{host} is not being backed up"))
    }

    /// Queues a run, unless there is something against it.
    fn ask(&mut self, order: RunOrder) {
        let now = self.coordinator.clock.now();
        let host = match self.coordinator.config.host(&order.host) {
            Ok(host) => host,
            Err(error) => return tell_refusal(&order, ExitCode::NotFound, &error.to_string()),
        };
        if host.paths.is_empty() {
            let why = format!("host {} has no paths to back up", host.name);
            return tell_refusal(&order, ExitCode::Error, &why);
        }
        if !order.outside_window
            && !host.timing.is_open(now)
            && let Some(opens) = host.timing.opens(now)
        {
            let why = format!(
                "the window of {} is closed until {}: use --outside-window to run it all the same",
                host.name,
                utc(opens)
            );
            return tell_refusal(&order, ExitCode::Error, &why);
        }
        if self.roster.is_running(&order.host) {
            let why = format!("host {} is being backed up already", host.name);
            return tell_refusal(&order, ExitCode::Locked, &why);
        }
        let asked = Asked {
            host: order.host.clone(),
            first: order.first,
        };
        if let Some(earlier) = self.asked.insert(order.host.clone(), order) {
            tell_refusal(
                &earlier,
                ExitCode::Cancelled,
                "somebody else asked for the same run",
            );
        }
        self.roster.ask(asked);
    }

    fn live(&self) -> Live {
        let now = self.coordinator.clock.now();
        let due = |host: &&str| {
            let outlook = self.roster.outlook(host, now);
            !self.roster.is_running(host) && matches!(outlook, Some(Outlook::Due { .. }))
        };
        let waiting = self.asked.keys().map(String::as_str);
        let waiting = waiting.chain(self.roster.hosts().filter(due));
        let mut waiting: Vec<String> = waiting.map(str::to_owned).collect();
        waiting.sort();
        waiting.dedup();
        Live {
            pid: std::process::id(),
            since: utc(self.since),
            revision: self.inputs.revision.clone(),
            refused: self.refused.clone(),
            running: self.runs.live(),
            waiting,
            troubles: self.inputs.health.troubles(Instant::now()),
            destinations: None,
            behind: None,
        }
    }
}

pub(super) fn tell_refusal(order: &RunOrder, code: ExitCode, why: &str) {
    if let Err(error) = order.news.try_send(refusal(code, why)) {
        tracing::debug!(%error, "nobody hears why a run is refused");
    }
}
