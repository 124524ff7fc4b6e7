//! The daemon's one task: what is due begins, what is asked for is done, what ended is noted. Everything that it decides, the
//! schedule decides; everything that must not be lost is in the state before it happens.

mod orders;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use append_server::service_manager::ServiceManager;
use formats::ids::RunId;
use formats::keys::secret::random;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use crate::backup::progress::Stop;
use crate::backup::run::RunOptions;
use crate::catalog::state::Outcome;
use crate::catalog::state::occasions::AttemptResult;
use crate::clock::utc;
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::daemon::handle::{Order, RunOrder};
use crate::daemon::health::Health;
use crate::daemon::protocol::RunNews;
use crate::daemon::records::{attempted, record_of, records_of_all};
use crate::daemon::runs::{Begin, End, Run, Runs};
use crate::daemon::serve::orders::tell_refusal;
use crate::daemon::start::Signals;
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::schedule::roster::{Act, Roster};

/// How long it sleeps at most: then it looks at the clock, which may have been set, and at how far runs are.
const SLEEP_MAX: Duration = Duration::from_secs(2);
/// How far a clock may go back before that counts as set.
const CLOCK_BACK_MAX: SignedDuration = SignedDuration::from_secs(1);
/// How long runs may take to stop when the daemon ends.
const RUNS_END_MAX: Duration = Duration::from_secs(60);

/// What the daemon's task is given.
#[derive(Debug)]
pub struct Inputs {
    /// coordinator.toml.
    pub file: PathBuf,
    /// The revision of what is in force.
    pub revision: String,
    /// What is asked of it.
    pub orders: mpsc::Receiver<Order>,
    /// Where services learn of another configuration.
    pub publish: watch::Sender<Arc<Coordinator>>,
    /// Where it shows that it moves.
    pub health: Health,
}

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    coordinator: Arc<Coordinator>,
    inputs: Inputs,
    manager: ServiceManager,
    roster: Roster,
    runs: Runs,
    /// Runs that were asked for and wait for their turn.
    asked: BTreeMap<String, RunOrder>,
    since: Timestamp,
    last_look: Timestamp,
    /// Why the configuration that is there is not in force.
    refused: Option<String>,
}

impl Daemon {
    /// A daemon in which nothing has begun.
    pub async fn new(
        coordinator: Arc<Coordinator>,
        inputs: Inputs,
        manager: ServiceManager,
    ) -> Result<Self, DatabaseError> {
        let now = coordinator.clock.now();
        let mut daemon = Self {
            coordinator,
            inputs,
            manager,
            roster: Roster::new(0),
            runs: Runs::default(),
            asked: BTreeMap::new(),
            since: now,
            last_look: now,
            refused: None,
        };
        daemon.load(now).await?;
        Ok(daemon)
    }

    /// Goes on until a signal ends it, and ends what runs.
    pub async fn serve(&mut self, signals: &mut Signals) -> Result<(), DatabaseError> {
        self.manager.ready();
        let served = loop {
            let sleep = match self.look().await {
                Ok(sleep) => sleep,
                // Without its state nothing may begin: it would not be known afterwards.
                Err(error) => break Err(error),
            };
            // Losing any arm is safe: signals, orders and ended runs wait where they are, and the sleep begins anew.
            tokio::select! {
                () = signals.end.wait() => break Ok(()),
                _ = signals.hangup.recv() => {
                    self.manager.reloading();
                    if let Err(why) = self.reload().await {
                        tracing::error!(why, "the configuration is not taken");
                    }
                    self.manager.ready();
                }
                Some(order) = self.inputs.orders.recv() => self.carry_out(order).await,
                Some((host, run, end)) = self.runs.next_ended(), if !self.runs.is_empty() => {
                    if let Err(error) = self.ended(&host, &run, &end).await {
                        break Err(error);
                    }
                }
                () = tokio::time::sleep(sleep) => {}
            }
        };
        self.manager.stopping();
        self.end(signals).await;
        served
    }

    /// Begins what may begin now; gives how long nothing else will.
    async fn look(&mut self) -> Result<Duration, DatabaseError> {
        let now = self.coordinator.clock.now();
        if self.last_look.duration_since(now) > CLOCK_BACK_MAX {
            tracing::warn!("the clock was set back; the schedule goes on from the state");
            self.load(now).await?;
        }
        self.last_look = now;
        for host in self.roster.poll_asked(now) {
            self.begin_asked(&host, now);
        }
        for act in self.roster.poll(now) {
            match act {
                Act::Begin { host, occasion } => self.begin_due(&host, occasion, now).await?,
                Act::LetGo { host, occasion } => self.let_go(&host, occasion, now).await?,
            }
        }
        self.runs.tell_steps();
        // The same fact for both: whoever asks, and the service manager, which ends a daemon that hangs.
        self.inputs.health.moved(Instant::now());
        self.manager.alive();
        let closes = self.runs.stop_late(now);
        let next = [self.roster.wake(), closes].into_iter().flatten().min();
        let until = next.map(|next| next.duration_since(now).max(SignedDuration::ZERO));
        let until = until.and_then(|until| Duration::try_from(until).ok());
        let watchdog = self.manager.watchdog_interval().unwrap_or(SLEEP_MAX);
        let sleep = until.unwrap_or(SLEEP_MAX).min(SLEEP_MAX).min(watchdog);
        // A step after what is waited for, so that it has come.
        Ok(sleep + Duration::from_millis(1))
    }

    /// Puts every host in with what the state knows of it.
    async fn load(&mut self, now: Timestamp) -> Result<(), DatabaseError> {
        let config = &self.coordinator.config;
        let parallel = usize::try_from(config.limits.max_parallel).unwrap_or(usize::MAX);
        self.roster.set_max_parallel(parallel);
        let mut state = self.coordinator.state.lock().await;
        let records = records_of_all(&mut state, config, now)?;
        drop(state);
        let hosts = records.iter().map(|(host, _)| host.name.to_string());
        self.roster.keep_only(&hosts.collect());
        for (host, record) in records {
            self.roster
                .put(host.name.as_str(), host.timing.clone(), record);
        }
        Ok(())
    }

    async fn begin_due(
        &mut self,
        name: &str,
        occasion: Timestamp,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        let Some(host) = self.host(name) else {
            self.roster.ended(name, None, None, now);
            return Ok(());
        };
        let mut state = self.coordinator.state.lock().await;
        let closes = host.timing.closes(now);
        let begin = self.new_run(closes, RunOptions::default(), None, Some(occasion));
        if !state.occasion_begun(name, occasion, Some(begin.run), now)? {
            let since = state.schedule_seen(name)?.unwrap_or(now);
            let record = record_of(&state, name, since, now)?;
            drop(state);
            self.roster.ended(name, None, None, now);
            self.roster.put(name, host.timing, record);
            return Ok(());
        }
        drop(state);
        self.runs.begin(Arc::clone(&self.coordinator), host, begin);
        Ok(())
    }

    async fn let_go(
        &mut self,
        name: &str,
        occasion: Timestamp,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        let mut state = self.coordinator.state.lock().await;
        state.occasion_let_go(name, occasion, now)?;
        drop(state);
        let reason = format!(
            "the run of {} was missed, and catch_up is \"no\"",
            utc(occasion)
        );
        let skipped = Event::of_host(name, What::RunSkipped { reason });
        self.coordinator.events.tell(skipped);
        Ok(())
    }

    fn begin_asked(&mut self, name: &str, now: Timestamp) {
        let Some((order, host)) = self.asked.remove(name).zip(self.host(name)) else {
            self.roster.ended(name, None, None, now);
            return;
        };
        let is_open = host.timing.is_open(now);
        if !order.outside_window && !is_open {
            let why = format!("the window of {name} closed before its run's turn came");
            tell_refusal(&order, ExitCode::Error, &why);
            self.roster.ended(name, None, None, now);
            return;
        }
        let options = RunOptions {
            full_read: order.full_read,
            outside_window: order.outside_window && host.timing.window.is_some(),
            ..RunOptions::default()
        };
        let closes = match order.outside_window {
            true => None,
            false => host.timing.closes(now),
        };
        let coordinator = Arc::new(self.coordinator.acting_as(order.by));
        let begin = self.new_run(closes, options, Some(order.news), None);
        self.runs.begin(coordinator, host, begin);
    }

    fn new_run(
        &self,
        closes: Option<Timestamp>,
        options: RunOptions,
        news: Option<mpsc::Sender<RunNews>>,
        occasion: Option<Timestamp>,
    ) -> Begin {
        Begin {
            run: RunId(random().expect("the kernel gave random bytes when the daemon began")),
            occasion,
            closes,
            options,
            news,
        }
    }

    fn host(&self, name: &str) -> Option<Host> {
        self.coordinator.config.host(name).ok().cloned()
    }

    /// Notes what a run came to.
    async fn ended(&mut self, host: &str, run: &Run, end: &End) -> Result<(), DatabaseError> {
        let now = self.coordinator.clock.now();
        let Some(result) = self.result(host, run, end, now).await? else {
            run.tell_end(end);
            return Ok(());
        };
        let mut state = self.coordinator.state.lock().await;
        if let Some(occasion) = run.occasion {
            state.occasion_ended(host, occasion, result, now)?;
        }
        let good = state.last_good(host)?.map(|(_, good)| good.committed);
        drop(state);
        let of_occasion = run.occasion.map(|_| attempted(result));
        self.roster.ended(host, of_occasion, good, now);
        run.tell_end(end);
        Ok(())
    }

    /// What an attempt came to: what the history says, which the run wrote itself, unless it could not. Nothing for one that was
    /// cut short while its record went into the log: the next daemon looks there.
    async fn result(
        &self,
        host: &str,
        run: &Run,
        end: &End,
        now: Timestamp,
    ) -> Result<Option<AttemptResult>, DatabaseError> {
        let mut state = self.coordinator.state.lock().await;
        let finished = state.run(run.run)?.and_then(|row| row.finished);
        let asked_to_end = run.progress.asked_to_stop() == Some(Stop::Ending);
        let result = match (end, finished) {
            (_, Some((_, Outcome::Cancelled))) if asked_to_end => AttemptResult::PutOff,
            (_, Some((_, outcome))) => AttemptResult::Ran(outcome),
            (End::Reported(report), None) => {
                let put_off = report.exit_code() == ExitCode::Locked || asked_to_end;
                match put_off {
                    true => AttemptResult::PutOff,
                    false => AttemptResult::Ran(Outcome::Failed),
                }
            }
            (End::Aborted, None) if state.may_be_committed(run.run)? => return Ok(None),
            // What is committed stays so, whatever of its end is missing.
            (End::Aborted | End::Panicked, None) if state.result(run.run)?.is_some() => {
                state.run_died(run.run, now)?;
                let noted = state.run(run.run)?.and_then(|row| row.finished);
                AttemptResult::Ran(noted.map_or(Outcome::Died, |(_, outcome)| outcome))
            }
            (End::Aborted, None) => {
                let why = "the daemon ended before the run did";
                state.run_finished(run.run, now, Outcome::Cancelled, Some(why))?;
                AttemptResult::PutOff
            }
            (End::Panicked, None) => {
                let why = "the run came upon an error of this program; see the daemon's log";
                state.run_finished(run.run, now, Outcome::Died, Some(why))?;
                drop(state);
                self.tell_died(host, run, now, why);
                AttemptResult::Ran(Outcome::Died)
            }
        };
        Ok(Some(result))
    }

    fn tell_died(&self, host: &str, run: &Run, now: Timestamp, why: &str) {
        tracing::error!(host, run = %run.run, "a run panicked");
        let took = now.duration_since(run.began);
        let ended = What::run_ended(Outcome::Died, None, took, Some(why.to_owned()));
        let ended = Event::of_host(host, ended).in_run(run.run);
        self.coordinator.events.tell(ended);
    }

    /// Stops what runs in an orderly way, and what does not stop in time, or at a second signal, where it stands.
    async fn end(&mut self, signals: &mut Signals) {
        self.runs.stop_all(Stop::Ending);
        let mut deadline = std::pin::pin!(tokio::time::sleep(RUNS_END_MAX));
        let mut aborted = false;
        while !self.runs.is_empty() {
            // Losing any arm is safe: an ended run waits, and the others are only looked at before all is aborted.
            let ended = tokio::select! {
                ended = self.runs.next_ended() => ended,
                () = &mut deadline, if !aborted => None,
                () = signals.end.wait(), if !aborted => None,
            };
            match ended {
                Some((host, run, end)) => {
                    if let Err(error) = self.ended(&host, &run, &end).await {
                        tracing::error!(%error, "a run's end is not in the state");
                    }
                }
                None => {
                    tracing::warn!("runs that do not stop in time are cut short");
                    self.runs.abort_all();
                    aborted = true;
                }
            }
        }
    }
}
