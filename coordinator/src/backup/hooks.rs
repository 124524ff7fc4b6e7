//! Hooks: commands that the operator has run on the host around a run, over the coordinator's own SSH connection. What
//! `finally` is owed is written down before the first hook of a run, so that the next run pays what a killed one could not.
//!
//! `failed` and `finally` are run when a run got as far as its host, on a connection of their own: that of the run may be
//! what broke.

use std::time::Duration;

use append_server::ssh::connect::SshConnection;
use append_server::ssh::stream::ExitStatus;
use formats::ids::RunId;

use crate::backup::error::RunError;
use crate::backup::login::reach;
use crate::backup::report::{Warning, WarningKind};
use crate::config::hook_settings::{Hook, HookEvent, HookFailure};
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::database::DatabaseError;
use crate::ssh::exec::ExecError;
use crate::ssh::guarded::{GuardedCommand, run_guarded};
use crate::terminal::error_line;

/// How long until a host that did not answer is tried a second time.
const SECOND_TRY_AFTER: Duration = Duration::from_secs(5);

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It exited with another code than 0, or a signal ended it.
    #[error("the {event} hook {command} failed with {status}{}", said(.output))]
    Failed {
        /// When it was run.
        event: &'static str,
        /// Its words.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// It was ended because its time was up.
    #[error(
        "the {event} hook {command} was ended after {} s: raise its `timeout` if it needs longer{}",
        .limit.as_secs(), said(.output)
    )]
    TimedOut {
        /// When it was run.
        event: &'static str,
        /// Its words.
        command: String,
        /// How long it had.
        limit: Duration,
        /// The end of what it printed.
        output: String,
    },
    /// It did not run, or not to its end.
    #[error("the {event} hook {command} did not run to its end")]
    Exec {
        /// When it should have run.
        event: &'static str,
        /// Its words.
        command: String,
        /// Why.
        source: ExecError,
    },
}

fn said(output: &str) -> String {
    match output {
        "" => String::new(),
        output => format!("; it said: {output}"),
    }
}

/// The hooks of one run of one host.
#[derive(Debug)]
pub struct Hooks<'a> {
    coordinator: &'a Coordinator,
    host: &'a Host,
    run: RunId,
    /// Whether the run got as far as its hooks.
    begun: bool,
    /// What failed and only warns, for people.
    warnings: Vec<Warning>,
}

impl<'a> Hooks<'a> {
    /// None was run yet.
    pub fn new(coordinator: &'a Coordinator, host: &'a Host, run: RunId) -> Self {
        Self {
            coordinator,
            host,
            run,
            begun: false,
            warnings: Vec::new(),
        }
    }

    /// Pays what an earlier run is owed, then runs those before the run. An error ends the run.
    pub async fn before(&mut self, connection: &SshConnection) -> Result<(), RunError> {
        if let Some(owed) = self.owed().await? {
            tracing::warn!(of = %owed, "running the finally hooks that an earlier run did not get to");
            self.all(HookEvent::Finally, connection).await?;
            self.forget_owed().await?;
        }
        self.begun = true;
        if self.has(HookEvent::Finally) {
            let host = self.host.name.to_string();
            let mut state = self.coordinator.state.lock().await;
            state.owe_finally(&host, self.run)?;
        }
        self.all(HookEvent::BeforeRun, connection).await
    }

    /// Runs those after the run, whatever became of it; gives what failed and only warns. What cannot be run stays owed.
    pub async fn after(mut self, is_committed: bool) -> Vec<Warning> {
        let event = match is_committed {
            true => HookEvent::AfterRun,
            false => HookEvent::Failed,
        };
        if self.begun && (self.has(event) || self.has(HookEvent::Finally)) {
            match self.after_run(event).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "hooks after the run were not run");
                    let line = error_line(&error);
                    self.warn(format!("hooks after the run were not run: {line}"));
                }
            }
        }
        self.warnings
    }

    async fn after_run(&mut self, event: HookEvent) -> Result<(), RunError> {
        let connection = self.connect_anew().await?;
        self.all(event, &connection).await?;
        self.all(HookEvent::Finally, &connection).await?;
        connection.disconnect().await;
        if self.has(HookEvent::Finally) {
            self.forget_owed().await?;
        }
        Ok(())
    }

    async fn connect_anew(&self) -> Result<SshConnection, RunError> {
        match reach(self.host).await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                tracing::warn!(%error, "connecting for the hooks after the run, once more in a moment");
                tokio::time::sleep(SECOND_TRY_AFTER).await;
                Ok(reach(self.host).await?)
            }
        }
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(Warning::new(WarningKind::Hook, text));
    }

    fn has(&self, event: HookEvent) -> bool {
        self.host.hooks.iter().any(|hook| hook.on == event)
    }

    async fn owed(&self) -> Result<Option<RunId>, DatabaseError> {
        let state = self.coordinator.state.lock().await;
        state.finally_owed(&self.host.name.to_string())
    }

    async fn forget_owed(&self) -> Result<(), DatabaseError> {
        let mut state = self.coordinator.state.lock().await;
        state.finally_done(&self.host.name.to_string())
    }

    /// Runs the hooks of one kind in their order. A failure ends it where it says so, or where the host is gone.
    async fn all(&mut self, event: HookEvent, connection: &SshConnection) -> Result<(), RunError> {
        for hook in self.host.hooks.iter().filter(|hook| hook.on == event) {
            let Err(error) = self.one(hook, connection).await else {
                continue;
            };
            let is_lost = matches!(error, HookError::Exec { .. });
            if hook.on_failure == HookFailure::Abort || is_lost {
                return Err(error.into());
            }
            tracing::warn!(%error, "a hook failed");
            if hook.on_failure == HookFailure::Warn {
                self.warn(error_line(&error));
            }
        }
        Ok(())
    }

    async fn one(&self, hook: &Hook, connection: &SshConnection) -> Result<(), HookError> {
        let event = hook.on.as_str();
        let command = hook.shown();
        tracing::info!(event, command, "hook");
        let variables = [
            ("CAPSTAN_EVENT", event.to_owned()),
            ("CAPSTAN_HOST", self.host.name.to_string()),
            ("CAPSTAN_RUN", self.run.to_string()),
        ];
        let limit = hook.timeout.duration();
        let guarded = GuardedCommand {
            words: &hook.command,
            variables: &variables,
            become_words: self.host.become_command.words(),
            limit,
        };
        let ended = match run_guarded(connection, guarded).await {
            Ok(ended) => ended,
            Err(source) => {
                return Err(HookError::Exec {
                    event,
                    command,
                    source,
                });
            }
        };
        let output = ended.output;
        let status = match ended.status {
            Some(status) if status.success() => {
                tracing::info!(event, output, "a hook is done");
                return Ok(());
            }
            Some(ExitStatus::Code(code)) => format!("exit code {code}"),
            Some(ExitStatus::Signal(name)) => format!("signal {name}"),
            None => {
                return Err(HookError::TimedOut {
                    event,
                    command,
                    limit,
                    output,
                });
            }
        };
        Err(HookError::Failed {
            event,
            command,
            status,
            output,
        })
    }
}
