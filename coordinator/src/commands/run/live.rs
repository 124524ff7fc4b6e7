//! A run while it goes on: one line that is drawn again and again on a terminal, else a plain line for each
//! step and one every ten seconds. Only reads the run's counts; a slow terminal never holds a run up.

use std::io::{self, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use crate::backup::progress::{Counts, Progress, Step};
use crate::cli::GlobalArgs;
use crate::commands::run::pace::{Pace, fraction, time_left};
use crate::logging::Screen;
use crate::terminal::{count_text, duration_text, size_text};

/// How often the counts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a plain line is written while a step goes on.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// The length of the drawn bar, when there is one: a thousandth is a step.
const BAR_STEPS: f64 = 1000.0;

/// Where progress is shown.
#[derive(Debug)]
pub enum Display {
    /// Nowhere.
    Silent,
    /// As plain lines on standard error.
    Plain {
        /// The host, in front of each line.
        host: String,
    },
    /// As a line that is drawn again and again.
    Drawn {
        /// The host.
        host: String,
        /// The line.
        bar: ProgressBar,
    },
}

impl Display {
    /// What fits the options and the terminal.
    pub fn choose(global: &GlobalArgs, screen: &Screen, host: &str) -> Self {
        let host = host.to_owned();
        let terminal = console_is_terminal();
        match (global.quiet, terminal) {
            (true, _) => Self::Silent,
            (false, true) => Self::Drawn {
                host,
                bar: screen.bars().add(ProgressBar::no_length()),
            },
            // A script that reads JSON has asked for no more.
            (false, false) if global.json && global.verbose == 0 => Self::Silent,
            (false, false) => Self::Plain { host },
        }
    }
}

fn console_is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// Waits for a run, and shows its progress meanwhile.
pub async fn watch<T>(
    run: impl Future<Output = T>,
    progress: &Progress,
    mut display: Display,
) -> T {
    let mut run = pin!(run);
    let mut view = View::new(Instant::now());
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Losing a tick is safe: the next one shows all there is. The run itself is never dropped here.
        tokio::select! {
            result = &mut run => {
                view.look(progress.counts(), Instant::now(), &mut display);
                if let Display::Drawn { bar, .. } = &display {
                    bar.finish_and_clear();
                }
                return result;
            }
            _ = ticks.tick() => view.look(progress.counts(), Instant::now(), &mut display),
        }
    }
}

/// What was shown so far, and what a line needs beside the counts.
#[derive(Debug)]
struct View {
    began: Instant,
    step: Option<Step>,
    reading_since: Option<Instant>,
    told: Instant,
    pace: Pace,
}

impl View {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            step: None,
            reading_since: None,
            told: now,
            pace: Pace::default(),
        }
    }

    fn look(&mut self, counts: Counts, now: Instant, display: &mut Display) {
        let new_step = self.step != Some(counts.step);
        self.step = Some(counts.step);
        if counts.step == Step::BackUp {
            self.reading_since.get_or_insert(now);
            self.pace.note(now - self.began, counts.bytes_read);
        }
        match display {
            Display::Silent => {}
            Display::Drawn { host, bar } => {
                draw(bar, &counts, format!("{host}  {}", self.line(&counts, now)))
            }
            Display::Plain { host } => {
                if new_step || now - self.told >= PLAIN_EVERY {
                    self.told = now;
                    tell(&format!("{host}: {}", self.line(&counts, now)));
                }
            }
        }
    }

    fn line(&self, counts: &Counts, now: Instant) -> String {
        let spent = self.reading_since.map(|since| now - since);
        progress_line(counts, self.pace.bytes_per_sec(), spent.unwrap_or_default())
    }
}

/// One line of progress: the step, and while there is something to count, the counts.
pub fn progress_line(counts: &Counts, bytes_per_sec: u64, spent: Duration) -> String {
    let mut line = counts.step.text().to_owned();
    if counts.entries == 0 || counts.step < Step::BackUp {
        return line;
    }
    line.push_str(&format!(
        ": {} files, {} read, {} new",
        count_text(counts.files),
        size_text(counts.bytes_read),
        size_text(counts.bytes_new)
    ));
    if counts.step == Step::BackUp {
        line.push_str(&format!(", {}/s", size_text(bytes_per_sec)));
        let left = fraction(counts).and_then(|done| time_left(done, spent));
        if let Some(left) = left {
            line.push_str(&format!(", about {} left", duration_text(left)));
        }
    }
    if counts.problems > 0 {
        line.push_str(&format!(", {} problems", count_text(counts.problems)));
    }
    line
}

fn draw(bar: &ProgressBar, counts: &Counts, line: String) {
    bar.set_message(line);
    let done = fraction(counts).filter(|_| counts.step == Step::BackUp);
    let template = match done {
        Some(_) => "{spinner} [{bar:20}] {wide_msg}",
        None => "{spinner} {wide_msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    if let Some(done) = done {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction is between 0 and 1"
        )]
        let position = (done * BAR_STEPS) as u64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the constant is a whole number"
        )]
        bar.set_length(BAR_STEPS as u64);
        bar.set_position(position);
    }
    bar.tick();
}

/// A closed standard error must not end a backup.
fn tell(line: &str) {
    if let Err(error) = writeln!(io::stderr(), "{line}") {
        tracing::debug!(%error, "progress could not be shown");
    }
}
