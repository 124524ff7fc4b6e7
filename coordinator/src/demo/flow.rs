//! The demo on one page: set up, trust, back up, change, back up again, restore, compare, verify. Every step is
//! the one that the command of that name takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::backup::progress::Progress;
use crate::backup::report::CommittedRun;
use crate::backup::run::RunOptions;
use crate::cli::GlobalArgs;
use crate::cli::setup::InitArgs;
use crate::clock::Clock;
use crate::commands::host::trust::{Consent, trust};
use crate::commands::on_storage::init_directory;
use crate::commands::run::live::{Display, watch};
use crate::commands::run::open_and_run;
use crate::commands::run::summary::ProblemJson;
use crate::config::Config;
use crate::demo::changes::change_some;
use crate::demo::comparison::{Comparison, compare};
use crate::demo::error::DemoError;
use crate::demo::restoring::{restore_latest, verify_all};
use crate::demo::ssh_server::{self, SshServer};
use crate::demo::table::StepLine;
use crate::demo::workspace::Workspace;
use crate::demo::{sample_tree, tree_copy};
use crate::logging::Screen;

/// The host's name in the demo's configuration.
const HOST: &str = "demo";
/// A file that was changed within two seconds before it is read is read again by the next run, because
/// times cannot tell whether it changed once more. The sample's files have just been made.
const SETTLED_AFTER: Duration = Duration::from_millis(2_500);

/// What is asked of the demo, and where it is shown.
pub struct Demo<'a> {
    /// Back up a copy of this instead of the sample tree.
    pub path: Option<&'a Path>,
    /// Keep the directory.
    pub keep: bool,
    /// Do without the system's sshd.
    pub embedded_sshd: bool,
    /// How much is shown.
    pub global: &'a GlobalArgs,
    /// Where progress is drawn.
    pub screen: &'a Screen,
    /// The clock of the runs.
    pub clock: Arc<dyn Clock>,
}

/// What came of it; also what `demo --json` prints.
#[derive(Debug, Serialize)]
pub struct DemoReport {
    /// Which SSH server was used.
    pub server: &'static str,
    /// Each step.
    pub steps: Vec<StepLine>,
    /// The restored tree against the source.
    pub comparison: Comparison,
    /// What could not be backed up as it should.
    pub problem_count: u64,
    /// Where everything is, if it was to be kept.
    pub kept: Option<String>,
}

impl DemoReport {
    /// Whether everything was read, verified, and restored identically.
    pub fn passed(&self) -> bool {
        let verified = self.steps.iter().all(|step| step.verified != Some(false));
        self.comparison.identical() && verified && self.problem_count == 0
    }
}

/// Runs the demo. Its directory and its server are gone when this is, also when it is dropped half-way.
pub async fn run_demo(demo: &Demo<'_>) -> Result<DemoReport, DemoError> {
    let workspace = Workspace::create(demo.keep)?;
    let server = ssh_server::start(&workspace.path().join("ssh"), demo.embedded_sshd).await?;
    let mut play = Play {
        demo,
        source: workspace.path().join("source"),
        restored: workspace.path().join("restored"),
        repository: workspace.path().join("capstan/repository"),
        stop: workspace.stop(),
        steps: Vec::new(),
        bytes_backed_up: 0,
        problem_count: 0,
    };
    play.make_source().await?;
    let config = play.set_up(workspace.path(), &server).await?;
    play.back_up("first backup", &config).await?;
    play.change().await?;
    play.back_up("second backup", &config).await?;
    play.restore(&config).await?;
    let comparison = play.compare().await?;
    play.verify(&config).await?;
    Ok(DemoReport {
        server: server.kind,
        steps: play.steps,
        comparison,
        problem_count: play.problem_count,
        kept: demo.keep.then(|| workspace.path().display().to_string()),
    })
}

/// The demo as it goes on.
struct Play<'a> {
    demo: &'a Demo<'a>,
    source: PathBuf,
    restored: PathBuf,
    repository: PathBuf,
    stop: CancellationToken,
    steps: Vec<StepLine>,
    bytes_backed_up: u64,
    problem_count: u64,
}

impl Play<'_> {
    async fn make_source(&mut self) -> Result<(), DemoError> {
        let began = self.begin("sample tree");
        let (source, stop) = (self.source.clone(), self.stop.clone());
        let left_out = match self.demo.path.map(Path::to_owned) {
            Some(path) => on_thread(move || tree_copy::copy(&path, &source, &stop)).await?,
            None => on_thread(move || sample_tree::create(&source, &stop).map(|()| 0)).await?,
        };
        if left_out > 0 {
            self.tell(&format!("{left_out} entries are left out of the copy"));
        }
        self.end("sample tree", began, StepLine::default());
        self.tell("waiting, so that the files are old enough to be trusted the second time");
        tokio::time::sleep(SETTLED_AFTER).await;
        Ok(())
    }

    /// `init`, hosts.toml, `host trust`.
    async fn set_up(&mut self, workspace: &Path, server: &SshServer) -> Result<Config, DemoError> {
        let began = self.begin("init, trust");
        let dir = workspace.join("capstan");
        let arguments = InitArgs {
            dir: dir.clone(),
            destination: None,
            state_dir: None,
            socket_dir: None,
            kit: None,
            no_users: true,
            admin_password_file: None,
        };
        let made = init_directory(&arguments).map_err(DemoError::step("init"))?;
        let hosts = hosts_toml(server, &self.source)?;
        fs::write(&made.hosts, hosts).map_err(DemoError::file("write", &made.hosts))?;
        let config = Config::load(&made.config)?;
        // The key was made here a moment ago, and the connection never leaves this machine.
        trust(&config, HOST, Consent::Given, &mut io::sink()).await?;
        self.end("init, trust", began, StepLine::default());
        Ok(Config::load(&made.config)?)
    }

    async fn back_up(&mut self, step: &'static str, config: &Config) -> Result<(), DemoError> {
        let began = self.begin(step);
        let progress = Arc::new(Progress::default());
        let host = config.host(HOST)?;
        let clock = Arc::clone(&self.demo.clock);
        let run = open_and_run(config, host, RunOptions::default(), clock, &progress);
        let display = Display::choose(self.demo.global, self.demo.screen, HOST);
        let report = watch(run, &progress, display).await;
        for left in &report.left_behind {
            self.problem_count += 1;
            self.tell(&format!("left on the host: {left}"));
        }
        let run: CommittedRun = report.result.map_err(DemoError::step(step))?;
        for problem in &run.problems {
            let shown = ProblemJson::of(problem);
            self.tell(&format!("problem: {}: {}", shown.path, shown.text));
        }
        self.problem_count += run.totals.problems;
        self.bytes_backed_up += run.totals.bytes;
        let line = StepLine {
            files: Some(run.totals.files + run.totals.others),
            bytes_read: Some(run.totals.bytes_read),
            new_bytes: Some(run.totals.bytes_new),
            // No run commits anything that it has not read back and recomputed.
            verified: Some(true),
            ..self.repository_line()?
        };
        self.end(step, began, line);
        Ok(())
    }

    fn repository_line(&self) -> Result<StepLine, DemoError> {
        let bytes = bytes_below(&self.repository)
            .map_err(DemoError::file("look through", &self.repository))?;
        #[expect(clippy::cast_precision_loss, reason = "a ratio is shown to one digit")]
        let ratio = self.bytes_backed_up as f64 / bytes.max(1) as f64;
        Ok(StepLine {
            repository_bytes: Some(bytes),
            ratio: Some(ratio),
            ..StepLine::default()
        })
    }

    async fn change(&mut self) -> Result<(), DemoError> {
        let began = self.begin("changes");
        let source = self.source.clone();
        let changes = on_thread(move || change_some(&source)).await?;
        let count = changes.edited + changes.deleted + changes.touched + changes.added;
        self.tell(&format!(
            "{} edited, {} deleted, {} touched, {} added",
            changes.edited, changes.deleted, changes.touched, changes.added
        ));
        let line = StepLine {
            files: Some(count as u64),
            ..StepLine::default()
        };
        self.end("changes", began, line);
        Ok(())
    }

    async fn restore(&mut self, config: &Config) -> Result<(), DemoError> {
        let began = self.begin("restore");
        let clock = Arc::clone(&self.demo.clock);
        let restored = restore_latest(config, HOST, &self.restored, clock).await?;
        // Told, and not counted: what is wrong in the tree shows in the comparison, and the directories above it
        // belong to others, so that only root can give them their owners.
        for problem in &restored.problems {
            self.tell(&format!(
                "not restored as it was: {}: {}",
                problem.path, problem.text
            ));
        }
        let line = StepLine {
            files: Some(restored.files),
            bytes_read: Some(restored.bytes),
            ..StepLine::default()
        };
        self.end("restore", began, line);
        Ok(())
    }

    async fn compare(&mut self) -> Result<Comparison, DemoError> {
        let began = self.begin("compare");
        let source = self.source.clone();
        let below = source.strip_prefix("/").unwrap_or(&source);
        let (found, stop) = (self.restored.join(below), self.stop.clone());
        let comparison = on_thread(move || compare(&source, &found, &stop)).await?;
        let line = StepLine {
            files: Some(comparison.files),
            bytes_read: Some(comparison.bytes),
            verified: Some(comparison.identical()),
            ..StepLine::default()
        };
        self.end("compare", began, line);
        Ok(comparison)
    }

    async fn verify(&mut self, config: &Config) -> Result<(), DemoError> {
        let began = self.begin("verify");
        let clock = Arc::clone(&self.demo.clock);
        let verified = verify_all(config, HOST, clock).await?;
        let line = StepLine {
            bytes_read: Some(verified.bytes),
            verified: Some(verified.sound),
            ..self.repository_line()?
        };
        self.end("verify", began, line);
        Ok(())
    }

    fn begin(&self, step: &str) -> Instant {
        self.tell(step);
        Instant::now()
    }

    fn end(&mut self, step: &str, began: Instant, line: StepLine) {
        self.steps.push(StepLine {
            step: step.to_owned(),
            time: began.elapsed(),
            ..line
        });
    }

    fn tell(&self, text: &str) {
        if !self.demo.global.quiet && !self.demo.global.json {
            self.demo.screen.tell(&format!("demo: {text}"));
        }
    }
}

/// Work that blocks, away from the network's threads. It ends when the directory is about to go.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DemoError> + Send + 'static,
) -> Result<T, DemoError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(DemoError::Interrupted))
}

fn hosts_toml(server: &SshServer, source: &Path) -> Result<String, DemoError> {
    let text = |path: &Path| {
        let utf8 = path.to_str().ok_or_else(|| {
            let error = io::Error::from(io::ErrorKind::InvalidInput);
            DemoError::file("use, as it is not UTF-8:", path)(error)
        })?;
        Ok::<_, DemoError>(toml::Value::from(utf8))
    };
    Ok(format!(
        "[host.{HOST}]\naddress = \"127.0.0.1:{}\"\nuser = {}\nidentity_file = {}\npaths = [{}]\n",
        server.port,
        toml::Value::from(server.user.as_str()),
        text(&server.identity_file)?,
        text(source)?
    ))
}

fn bytes_below(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            match metadata.is_dir() {
                true => waiting.push(entry.path()),
                false => bytes += metadata.len(),
            }
        }
    }
    Ok(bytes)
}
