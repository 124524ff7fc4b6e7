//! Logs on standard error: how much, in which form, in which colours. Never logs what the libraries below
//! say of single packets, whatever is asked: that could hold contents.

use std::io::{self, IsTerminal as _, Write};

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

use crate::cli::GlobalArgs;
use crate::config::coordinator_file::Log;
use crate::config::raw::{LogFormat, LogLevel};

/// The crates whose messages are shown in full.
const OUR_CRATES: [&str; 3] = ["coordinator", "append_server", "formats"];

/// The part of the terminal that is drawn again and again, and the log lines that scroll above it.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    bars: MultiProgress,
}

impl Screen {
    /// Where progress is drawn; nothing is, when standard error is no terminal.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes a line above what is drawn. A closed standard error must not end a backup.
    pub fn tell(&self, line: &str) {
        let written = self.bars.suspend(|| writeln!(io::stderr(), "{line}"));
        if let Err(error) = written {
            tracing::debug!(%error, "a line could not be shown");
        }
    }
}

/// Starts logging for the rest of the program.
pub fn start(global: &GlobalArgs, log: Log, screen: &Screen) -> Result<(), TryInitError> {
    let level = level(global, log.level);
    let ours = OUR_CRATES.map(|name| (name, level));
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(ours);
    let writer = ScreenWriter(screen.clone());
    let layer = fmt::layer().with_writer(writer);
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(colours(global)).with_target(false).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
}

/// How much is logged.
///
/// A command on a terminal shows its progress itself, so the few lines a run logs need -v. Whoever asks
/// for less or much more in the configuration gets it without.
fn level(global: &GlobalArgs, configured: LogLevel) -> LevelFilter {
    let configured = match configured {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn | LogLevel::Info => LevelFilter::WARN,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    match global.verbose {
        _ if global.quiet => LevelFilter::ERROR,
        0 => configured,
        1 => configured.max(LevelFilter::INFO),
        _ => configured.max(LevelFilter::TRACE),
    }
}

/// Whether standard error takes colours.
pub fn colours(global: &GlobalArgs) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !global.no_color && !refused && io::stderr().is_terminal()
}

/// Writes log lines above what is drawn.
#[derive(Debug)]
struct ScreenWriter(Screen);

impl<'a> MakeWriter<'a> for ScreenWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &ScreenWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.bars.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tracing::level_filters::LevelFilter;

    use super::level;
    use crate::cli::GlobalArgs;
    use crate::config::raw::LogLevel;

    fn asked(verbose: u8, quiet: bool) -> GlobalArgs {
        GlobalArgs {
            config: PathBuf::new(),
            verbose,
            quiet,
            json: false,
            no_color: false,
        }
    }

    #[test]
    fn steps_need_a_v_and_quiet_leaves_errors_alone() {
        assert_eq!(level(&asked(0, false), LogLevel::Info), LevelFilter::WARN);
        assert_eq!(level(&asked(1, false), LogLevel::Info), LevelFilter::INFO);
        assert_eq!(level(&asked(2, false), LogLevel::Info), LevelFilter::TRACE);
        assert_eq!(level(&asked(0, true), LogLevel::Trace), LevelFilter::ERROR);
        assert_eq!(level(&asked(0, false), LogLevel::Debug), LevelFilter::DEBUG);
        assert_eq!(level(&asked(0, false), LogLevel::Error), LevelFilter::ERROR);
    }
}
