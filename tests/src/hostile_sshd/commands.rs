//! Runs a client's commands for real, with a private runtime directory and home, so that whatever the coordinator
//! does to deploy its agent works here as on a target. It never runs anything as somebody else than the test itself.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use russh::Channel;
use russh::server::Msg;
use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::process::Command;

use super::End;

/// Runs a command on a channel and ends it with the command's exit code; stdin is the channel's data, stderr is dropped.
pub(super) async fn run(
    directory: &Path,
    stdout_before: &[u8],
    channel: Channel<Msg>,
    command: &str,
    end: End,
) -> Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", directory)
        .env("XDG_RUNTIME_DIR", directory)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting a shell")?;
    let mut stdin = child.stdin.take().context("stdin was asked for")?;
    let mut stdout = child.stdout.take().context("stdout was asked for")?;
    let (mut from_client, mut to_client) = split(channel.into_stream());
    let feed = tokio::spawn(async move {
        // A command that reads nothing closes its stdin; that is its right.
        drop(copy(&mut from_client, &mut stdin).await);
        drop(stdin.shutdown().await);
    });
    to_client
        .write_all(stdout_before)
        .await
        .context("writing to the client")?;
    // The client may leave while the command still writes.
    drop(copy(&mut stdout, &mut to_client).await);
    let status = child.wait().await.context("waiting for the command")?;
    end.with_code(
        status
            .code()
            .and_then(|code| u32::try_from(code).ok())
            .unwrap_or(255),
    )
    .await;
    feed.abort();
    Ok(())
}
