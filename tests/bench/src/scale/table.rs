//! Shows results: a Markdown table on stdout as soon as there is one, and everything as JSON in one file.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::isolation::Place;

/// Collects the tables of one measurement.
#[derive(Debug)]
pub struct Results {
    name: &'static str,
    options: Value,
    load_before: String,
    tables: Vec<Value>,
}

/// One table: its rows as a person reads them, and as values.
#[derive(Debug)]
pub struct Table {
    title: String,
    columns: Vec<&'static str>,
    lines: Vec<Vec<String>>,
    values: Vec<Value>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.to_vec(),
            lines: Vec::new(),
            values: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row; it is told on stderr at once, because the next may take long.
    pub fn push(&mut self, cells: Vec<String>, value: impl Serialize) -> Result<()> {
        eprintln!("  {}", cells.join(" · "));
        self.lines.push(cells);
        self.values
            .push(serde_json::to_value(value).context("writing a row as JSON")?);
        Ok(())
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let heads: Vec<String> = self.columns.iter().map(|head| (*head).to_owned()).collect();
        let rule: Vec<String> = self.columns.iter().map(|_| "---".into()).collect();
        let mut text = format!("\n### {}\n\n{}{}", self.title, row(&heads), row(&rule));
        for line in &self.lines {
            text.push_str(&row(line));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }
}

impl Results {
    /// Results of a measurement with these options.
    pub fn new(name: &'static str, options: Value) -> Self {
        Self {
            name,
            options,
            load_before: load(),
            tables: Vec::new(),
        }
    }

    /// Prints a table, keeps it, and writes what there is so far: a later failure loses nothing.
    pub fn add(&mut self, place: &Place, table: &Table) -> Result<()> {
        print!("{}", table.markdown());
        std::io::stdout().flush().context("printing a table")?;
        self.tables.push(json!({
            "title": table.title,
            "rows": table.values,
            "notes": table.notes,
        }));
        let all = json!({
            "measurement": self.name,
            "options": self.options,
            "machine": machine(),
            "load_before": self.load_before,
            "load_after": load(),
            "tables": self.tables,
        });
        fs::create_dir_all(&place.results)?;
        let path = place.results.join(format!("scale-{}.json", self.name));
        let text = serde_json::to_string_pretty(&all).context("writing JSON")?;
        fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// A number with three significant digits or so.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The smallest, the middle one and the largest.
pub fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    format!(
        "{} · {} · {}",
        number(low),
        number(median(values)),
        number(high)
    )
}

/// A ratio as a percentage.
pub fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

/// The middle one; of an even count, the lower of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().unwrap_or_default()
}

fn machine() -> Value {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().next().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "cores": cores, "kernel": kernel.trim(), "memory": total })
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.trim().to_owned()
}
