//! `doctor`: looks at everything that backups and restores will need, and says what is wrong and what is switched off.
//! Never changes anything, never stores an object.

mod machine;
mod reach;
mod settings;

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::error::ConfigErrors;
use crate::exit_code::ExitCode;
use crate::terminal::{Align, write_json, write_table};

/// How one look ended, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Not used, by choice or by default.
    Off,
    /// Works, and a person should change it.
    Warn,
    /// Does not work.
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at, such as "state" or "destination nas".
    about: String,
    verdict: Verdict,
    /// What it is like and, unless it is well, what to do.
    text: String,
}

impl Finding {
    fn new(about: impl Into<String>, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            verdict,
            text: text.into(),
        }
    }
}

/// Looks at everything; ends with 1 when something fails, with 3 when there is only something to warn of.
pub async fn doctor_command(
    path: &Path,
    clock: &dyn Clock,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<ExitCode> {
    let findings = match Config::load(path) {
        Ok(config) => look(&config, clock).await,
        Err(errors) => refused(&errors),
    };
    tell(&findings, json, out)?;
    let worst = findings.iter().map(|finding| finding.verdict).max();
    Ok(match worst {
        Some(Verdict::Fail) => ExitCode::Error,
        Some(Verdict::Warn) => ExitCode::Warnings,
        Some(Verdict::Ok | Verdict::Off) | None => ExitCode::Ok,
    })
}

async fn look(config: &Config, clock: &dyn Clock) -> Vec<Finding> {
    let text = format!("{} hosts in {}", config.hosts.len(), config.file.display());
    let mut findings = vec![Finding::new("configuration", Verdict::Ok, text)];
    findings.extend(machine::look(config, clock.now()));
    findings.extend(reach::look(config).await);
    findings.extend(settings::look(config));
    findings
}

/// Without a configuration there is nothing else to look at.
fn refused(errors: &ConfigErrors) -> Vec<Finding> {
    let each = errors.errors().iter();
    let mut findings: Vec<_> = each
        .map(|error| Finding::new("configuration", Verdict::Fail, error.to_string()))
        .collect();
    if errors.left_off() > 0 {
        let text = format!("and {} more errors", errors.left_off());
        findings.push(Finding::new("configuration", Verdict::Fail, text));
    }
    findings
}

fn tell(findings: &[Finding], json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return write_json(out, &findings);
    }
    let columns = [
        ("about", Align::Left),
        ("", Align::Left),
        ("finding", Align::Left),
    ];
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let word = finding.verdict.word().to_owned();
            vec![finding.about.clone(), word, finding.text.clone()]
        })
        .collect();
    write_table(out, &columns, &rows)
}

#[cfg(test)]
mod tests;
