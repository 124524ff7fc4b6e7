//! `run` where a daemon runs: asks it, so that its limits are kept, and shows what becomes of the runs.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::GlobalArgs;
use crate::cli::run::RunArgs;
use crate::config::host::Host;
use crate::daemon::client::{AskError, Asked};
use crate::daemon::protocol::{Answer, Question, RunNews, RunQuestion};
use crate::events::actor::through_sudo;
use crate::exit_code::ExitCode;
use crate::terminal::{visible, write_json};

/// The question that asks for these hosts.
pub fn question(args: &RunArgs, hosts: &[Host]) -> Question {
    Question::Run(RunQuestion {
        hosts: hosts.iter().map(|host| host.name.to_string()).collect(),
        full_read: args.full_read,
        first: args.now,
        outside_window: args.outside_window,
        through: through_sudo(),
    })
}

/// Shows what becomes of the runs that were asked for, to the last one; gives the number to end with.
pub async fn follow(
    mut asked: Asked,
    is_one: bool,
    global: &GlobalArgs,
    out: &mut (dyn Write + Send),
    errors: &mut (dyn Write + Send),
) -> Result<ExitCode, AskError> {
    let mut all = Vec::new();
    let mut worst = ExitCode::Ok;
    loop {
        let (host, news) = match asked.next().await? {
            Answer::Run { host, news } => (host, news),
            Answer::End => break,
            _ => return Err(AskError::Unexpected),
        };
        match news {
            RunNews::Began | RunNews::Goes(_) if global.quiet || global.json => {}
            RunNews::Began => writeln!(errors, "{host}: the daemon begins")?,
            RunNews::Goes(step) => writeln!(errors, "{host}: {}", visible(&step))?,
            RunNews::Ended {
                code,
                json,
                out: text,
                errors: wrong,
            } => {
                worst = worst.worse(code_of(code));
                write_shown(&wrong, errors)?;
                match global.json {
                    true => all.push(json),
                    false if global.quiet => {}
                    false => write_shown(&text, out)?,
                }
            }
            RunNews::Refused { code, why } => {
                worst = worst.worse(code_of(code));
                writeln!(errors, "{host}: {}", visible(&why))?;
                if global.json {
                    all.push(refused_json(&host, &why));
                }
            }
        }
    }
    write_all_json(all, is_one, global, out)?;
    Ok(worst)
}

/// One object for one host that was named, else an array of them.
pub fn write_all_json(
    mut all: Vec<Value>,
    is_one: bool,
    global: &GlobalArgs,
    out: &mut dyn Write,
) -> io::Result<()> {
    if !global.json {
        return Ok(());
    }
    match all.pop() {
        Some(only) if is_one && all.is_empty() => write_json(out, &only),
        last => {
            all.extend(last);
            write_json(out, &all)
        }
    }
}

/// What stands for a run that there was none of.
pub fn refused_json(host: &str, why: &str) -> Value {
    serde_json::json!({ "host": host, "outcome": "skipped", "snapshot": null, "error": why })
}

/// The daemon made the text fit for a terminal; a line's end is all that stays of what could move a cursor.
fn write_shown(text: &str, to: &mut (dyn Write + Send)) -> io::Result<()> {
    for line in text.lines() {
        writeln!(to, "{}", visible(line))?;
    }
    Ok(())
}

fn code_of(number: u8) -> ExitCode {
    let known = ExitCode::ALL.into_iter();
    let mut known = known.filter(|code| code.number() == number);
    known.next().unwrap_or(ExitCode::Error)
}
