//! The runs of the daemon: each a task of its own, which can fail, be stopped or panic without touching the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use formats::ids::RunId;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::backup::progress::{Progress, Step, Stop};
use crate::backup::report::RunReport;
use crate::backup::run::{RunOptions, run_host};
use crate::backup::threaded::spawn;
use crate::clock::utc;
use crate::commands::run::summary::{result_json, result_texts};
use crate::config::host::Host;
use crate::coordinator::Coordinator;
use crate::daemon::protocol::{LiveRun, RunNews};
use crate::exit_code::ExitCode;

/// News are held back while fewer than these could still be put: the last ones always find room.
const NEWS_KEPT_FREE: usize = 4;

/// A run that goes on.
#[derive(Debug)]
pub struct Run {
    /// The run.
    pub run: RunId,
    /// The occasion that it is for, by the calendar; none when it was asked for by hand.
    pub occasion: Option<Timestamp>,
    /// When it began.
    pub began: Timestamp,
    /// When its host's window closes.
    pub closes: Option<Timestamp>,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Who wants to hear of it.
    pub news: Option<mpsc::Sender<RunNews>>,
    told: Option<Step>,
}

/// What is to be begun.
#[derive(Debug)]
pub struct Begin {
    /// The run.
    pub run: RunId,
    /// For which occasion.
    pub occasion: Option<Timestamp>,
    /// When the host's window closes.
    pub closes: Option<Timestamp>,
    /// What is asked of it.
    pub options: RunOptions,
    /// Who wants to hear of it.
    pub news: Option<mpsc::Sender<RunNews>>,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// As runs do.
    Reported(Box<RunReport>),
    /// Its task panicked.
    Panicked,
    /// Its task was ended from outside.
    Aborted,
}

/// All runs that go on, by host.
#[derive(Debug, Default)]
pub struct Runs {
    by_host: BTreeMap<String, Run>,
    tasks: JoinSet<Option<RunReport>>,
    hosts: HashMap<Id, String>,
    abort: CancellationToken,
}

impl Runs {
    /// Begins a run.
    pub fn begin(&mut self, coordinator: Arc<Coordinator>, host: Host, begin: Begin) {
        let name = host.name.to_string();
        let progress = Arc::new(Progress::default());
        let run = Run {
            run: begin.run,
            occasion: begin.occasion,
            began: coordinator.clock.now(),
            closes: begin.closes,
            progress: Arc::clone(&progress),
            news: begin.news,
            told: None,
        };
        run.tell(RunNews::Began);
        let options = RunOptions {
            run: Some(begin.run),
            ..begin.options
        };
        let abort = self.abort.clone();
        let task = spawn(&mut self.tasks, move || async move {
            // Losing the run is what is wanted: as when the process is killed, nothing half done is ever seen.
            tokio::select! {
                report = run_host(&coordinator, &host, options, &progress) => Some(report),
                () = abort.cancelled() => None,
            }
        });
        self.hosts.insert(task.id(), name.clone());
        self.by_host.insert(name, run);
    }

    /// Whether none goes on.
    pub fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// Asks a host's run to stop; whether there is one.
    pub fn stop(&self, host: &str, why: Stop) -> bool {
        let run = self.by_host.get(host);
        if let Some(run) = run {
            run.progress.ask_to_stop(why);
        }
        run.is_some()
    }

    /// Asks all runs to stop.
    pub fn stop_all(&self, why: Stop) {
        self.by_host
            .values()
            .for_each(|run| run.progress.ask_to_stop(why));
    }

    /// Asks those to stop whose window has closed; gives the next time at which one will.
    pub fn stop_late(&self, now: Timestamp) -> Option<Timestamp> {
        let closing = self.by_host.values();
        let closing = closing.filter_map(|run| Some((run, run.closes?)));
        let (late, to_come): (Vec<_>, Vec<_>) = closing.partition(|(_, closes)| *closes <= now);
        for (run, _) in late {
            run.progress.ask_to_stop(Stop::WindowClosed);
        }
        to_come.into_iter().map(|(_, closes)| closes).min()
    }

    /// Ends every task where it stands.
    pub fn abort_all(&self) {
        self.abort.cancel();
    }

    /// The next run that has ended. Losing the future loses nothing.
    pub async fn next_ended(&mut self) -> Option<(String, Run, End)> {
        loop {
            let joined = self.tasks.join_next_with_id().await?;
            let (id, end) = match joined {
                Ok((id, Some(report))) => (id, End::Reported(Box::new(report))),
                Ok((id, None)) => (id, End::Aborted),
                Err(error) => (error.id(), end_of(&error)),
            };
            let host = self.hosts.remove(&id);
            if let Some((host, run)) = host.and_then(|host| self.by_host.remove_entry(&host)) {
                return Some((host, run, end));
            }
        }
    }

    /// Tells whoever listens how far runs are, at every new step.
    pub fn tell_steps(&mut self) {
        for run in self.by_host.values_mut() {
            let step = run.progress.counts().step;
            if run.told != Some(step) {
                run.told = Some(step);
                run.tell(RunNews::Goes(step.text().to_owned()));
            }
        }
    }

    /// What is to be shown of all that go on.
    pub fn live(&self) -> Vec<LiveRun> {
        let runs = self.by_host.iter();
        runs.map(|(host, run)| {
            let counts = run.progress.counts();
            LiveRun {
                host: host.clone(),
                run: run.run.to_string(),
                since: utc(run.began),
                step: counts.step.text().to_owned(),
                entries: counts.entries,
                bytes_read: counts.bytes_read,
                new_bytes: counts.bytes_new,
            }
        })
        .collect()
    }
}

impl Run {
    /// What its end is told with.
    pub fn tell_end(&self, end: &End) {
        let news = match end {
            End::Reported(report) => {
                let counts = self.progress.counts();
                let (out, errors) = result_texts(report, &counts);
                RunNews::Ended {
                    code: report.exit_code().number(),
                    json: result_json(report, &counts),
                    out,
                    errors,
                }
            }
            End::Panicked => {
                died("the run came upon an error of this program; see the daemon's log")
            }
            End::Aborted => died("the daemon ended before the run did"),
        };
        self.tell(news);
    }

    /// Progress gives way to what matters; whoever does not listen is not waited for.
    fn tell(&self, news: RunNews) {
        let Some(listener) = &self.news else {
            return;
        };
        let may_wait = matches!(news, RunNews::Goes(_));
        if may_wait && listener.capacity() < NEWS_KEPT_FREE {
            return;
        }
        if let Err(error) = listener.try_send(news) {
            tracing::debug!(%error, "nobody hears of a run");
        }
    }
}

fn died(why: &str) -> RunNews {
    RunNews::Refused {
        code: ExitCode::Error.number(),
        why: why.to_owned(),
    }
}

fn end_of(error: &JoinError) -> End {
    match error.is_panic() {
        true => End::Panicked,
        false => End::Aborted,
    }
}
