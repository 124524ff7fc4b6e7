//! What people were told: the alerts that a command of the test was given, each message counted once, whoever delivers it again
//! after it was killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Message {
    id: String,
    alerts: Vec<Alert>,
}

/// Something that changed.
#[derive(Debug, Clone, Deserialize)]
pub struct Alert {
    subject: String,
    what: String,
    level: String,
    title: String,
}

/// The table of coordinator.toml that has every alert written into a file, one message a line.
pub fn table(file: &Path) -> String {
    format!(
        "[[notify.target]]\nname = \"file\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"cat >>'{0}'; echo >>'{0}'\"]\n",
        file.display()
    )
}

/// All alerts, in their order.
pub fn read(file: &Path) -> Result<Vec<Alert>> {
    let text = fs::read_to_string(file).context("somebody was told something")?;
    let mut messages = BTreeMap::new();
    let mut order = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let message: Message =
            serde_json::from_str(line).with_context(|| format!("no message: {line}"))?;
        if messages.insert(message.id.clone(), ()).is_none() {
            order.push(message);
        }
    }
    Ok(order
        .into_iter()
        .flat_map(|message| message.alerts)
        .collect())
}

/// This was told of a host, and once.
pub fn expect_told_once(alerts: &[Alert], host: &str, what: &str) -> Result<()> {
    let subject = format!("host:{host}");
    let told: Vec<&Alert> = alerts
        .iter()
        .filter(|alert| alert.subject == subject && alert.what == what && alert.level != "ok")
        .collect();
    ensure!(told.len() == 1, "{host}, {what}: {told:?} of {alerts:?}");
    Ok(())
}

/// What is wrong is told again only after it was well.
pub fn expect_changes_alone(alerts: &[Alert]) -> Result<()> {
    let mut wrong: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    for alert in alerts {
        // That the daemon was started again is news each time, and never over.
        if !alert.subject.starts_with("host:") {
            continue;
        }
        let is_wrong = alert.level != "ok";
        let before = wrong.insert((&alert.subject, &alert.what), is_wrong);
        ensure!(
            before.unwrap_or(false) != is_wrong,
            "told twice: {} ({}): {alerts:?}",
            alert.title,
            alert.level
        );
    }
    Ok(())
}
