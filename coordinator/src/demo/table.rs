//! The demo's short table: what each step took and what it moved.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::terminal::{Align, count_text, duration_text, size_text, write_table};

/// One step of the demo.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct StepLine {
    /// Its name.
    pub step: String,
    /// How long it took.
    #[serde(serialize_with = "as_secs")]
    pub time: Duration,
    /// Files it was about.
    pub files: Option<u64>,
    /// Bytes it read from the host, from storage or from both trees.
    pub bytes_read: Option<u64>,
    /// Plain bytes that were new.
    pub new_bytes: Option<u64>,
    /// Bytes of the repository after it.
    pub repository_bytes: Option<u64>,
    /// Bytes of all snapshots so far for each byte of the repository.
    pub ratio: Option<f64>,
    /// Whether all that was stored was read back and recomputed, or compared.
    pub verified: Option<bool>,
}

fn as_secs<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

const COLUMNS: [(&str, Align); 8] = [
    ("step", Align::Left),
    ("time", Align::Right),
    ("files", Align::Right),
    ("read", Align::Right),
    ("new", Align::Right),
    ("repository", Align::Right),
    ("ratio", Align::Right),
    ("verified", Align::Left),
];

/// Writes the table.
pub fn write_steps(steps: &[StepLine], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> = steps.iter().map(row).collect();
    write_table(out, &COLUMNS, &rows)
}

fn row(step: &StepLine) -> Vec<String> {
    let size = |bytes: Option<u64>| bytes.map(size_text).unwrap_or_default();
    let verified = match step.verified {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    vec![
        step.step.clone(),
        duration_text(step.time),
        step.files.map(count_text).unwrap_or_default(),
        size(step.bytes_read),
        size(step.new_bytes),
        size(step.repository_bytes),
        step.ratio
            .map(|ratio| format!("{ratio:.1}x"))
            .unwrap_or_default(),
        verified.to_owned(),
    ]
}
