//! Calendars of schedules.

use std::process::Command;

use anyhow::{Context as _, Result};

/// A calendar that comes once, in a few seconds.
pub fn in_seconds(secs: u32) -> Result<String> {
    let date = Command::new("date")
        .args([
            "-u",
            "-d",
            &format!("+{secs} seconds"),
            "+%Y-%m-%d %H:%M:%S",
        ])
        .output()
        .context("starting date")?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}
