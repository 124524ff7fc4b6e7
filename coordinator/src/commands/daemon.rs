//! `daemon`, `reload` and `cancel`: starts the daemon, or asks the one that runs.

use std::io::{self, Write};

use crate::cli::daemon::CancelArgs;
use crate::config::Config;
use crate::daemon::client::{AskError, ask_to_do};
use crate::daemon::protocol::Question;
use crate::repository::layout::StateDir;
use crate::terminal::{visible, write_json};

/// `reload`.
pub async fn reload_command(
    config: &Config,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), AskError> {
    let socket = StateDir::new(&config.state_dir).daemon_socket();
    let revision = ask_to_do(&socket, Question::Reload).await?;
    match json {
        true => write_json(out, &serde_json::json!({ "revision": revision }))?,
        false => writeln!(out, "revision {} is in force", visible(&revision))?,
    }
    Ok(())
}

/// `cancel HOST`.
pub async fn cancel_command(
    args: &CancelArgs,
    config: &Config,
    out: &mut (dyn Write + Send),
) -> Result<(), AskError> {
    let socket = StateDir::new(&config.state_dir).daemon_socket();
    let host = args.host.clone();
    let done = ask_to_do(&socket, Question::Cancel { host }).await?;
    told(&done, out)?;
    Ok(())
}

fn told(text: &str, out: &mut (dyn Write + Send)) -> io::Result<()> {
    writeln!(out, "{}", visible(text))
}
