//! The report: Markdown for people, JSON with every measurement, and a plot per set, in a directory of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::options::Step;
use crate::plot::{self, figure};
use crate::product::ProductName;
use crate::results::{Results, SetResults};
use crate::statistics::{Spread, ratio};
use crate::targets;

mod table;

use table::Table;

/// Processes that never need more are no part of the answer.
const SHOWN_MIB: f64 = 4.0;
/// Measurements of a run that has not ended.
const UNFINISHED: &str = "unfinished.json";

/// Writes everything below `directory`, and the report to stdout.
pub fn write(directory: &Path, results: &Results) -> Result<()> {
    let text = markdown(results);
    println!("{text}");
    let own = fresh_directory(directory, results)?;
    put(&own.join("report.md"), &text)?;
    put(&own.join("results.json"), &json(results)?)?;
    for set in &results.sets {
        put(&own.join(format!("{}.svg", set.name)), &plot::svg(set))?;
    }
    let unfinished = directory.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_file(&unfinished)
            .with_context(|| format!("removing {}", unfinished.display()))?;
    }
    eprintln!("bench: written to {}", own.display());
    Ok(())
}

/// Keeps what was measured so far, in case the process does not live to write its report.
pub fn keep_unfinished(directory: &Path, results: &Results) -> Result<()> {
    fs::create_dir_all(directory)?;
    put(&directory.join(UNFINISHED), &json(results)?)
}

/// `2026-11-20-NAME`, and a number when there is one of that name already.
fn fresh_directory(directory: &Path, results: &Results) -> Result<PathBuf> {
    let day = results.started.split('T').next().unwrap_or_default();
    let name = format!("{day}-{}", results.machine.name);
    let mut number = 1;
    let mut own = directory.join(&name);
    while own.exists() {
        number += 1;
        own = directory.join(format!("{name}-{number}"));
    }
    fs::create_dir_all(&own).with_context(|| format!("creating {}", own.display()))?;
    Ok(own)
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn json(results: &Results) -> Result<String> {
    Ok(serde_json::to_string_pretty(results)? + "\n")
}

fn markdown(results: &Results) -> String {
    let machine = &results.machine;
    let mut parts = vec![
        format!("# Benchmark of {}", results.started),
        format!(
            "{} with {} cores, {:.0} GiB of memory, kernel {}, {}. Warm cache, loopback through a private sshd with \
             its defaults, both ends on this machine. Medians; every product at its defaults, each in turn, the order \
             reversed every other round. CPU is the whole machine's.",
            machine.cpu,
            machine.cores,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.kernel,
            machine.filesystem
        ),
    ];
    if results.scale.total_cmp(&1.0).is_ne() {
        parts.push(format!(
            "**At scale {}: a trial of the benchmark. The targets are not for sets of this size.**",
            results.scale
        ));
    }
    let products = results.products.iter().map(|version| {
        let how = version.product.how();
        format!("- {}: {}; {how}", version.product.text(), version.version)
    });
    parts.push(products.collect::<Vec<_>>().join("\n"));
    let notes = results.notes.iter().map(|note| format!("- {note}"));
    parts.push(notes.collect::<Vec<_>>().join("\n"));
    parts.push("## Targets".into());
    parts.push(target_table(results));
    parts.extend(results.sets.iter().map(set_section));
    parts.join("\n\n") + "\n"
}

fn target_table(results: &Results) -> String {
    let rows = targets::rows(results);
    if rows.is_empty() {
        return "None of the sets that have targets was measured.".into();
    }
    let mut table = Table::new(["what", "set", "against", "reached", "at most", ""]);
    for row in rows {
        let verdict = match row.met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        table.row([
            row.what.clone(),
            row.set.into(),
            row.against.clone(),
            row.reached.map_or_else(|| "–".into(), figure),
            figure(row.at_most),
            verdict.into(),
        ]);
    }
    table.text()
}

fn set_section(set: &SetResults) -> String {
    let change = &set.facts.change;
    let mut parts = vec![
        format!("## {}", set.name),
        format!(
            "{} entries, {:.0} MB ({:.0} MB on disk); the change touched {} of {} files, {:.1} MB.",
            set.facts.entries,
            set.facts.bytes as f64 / 1e6,
            set.facts.allocated_bytes as f64 / 1e6,
            change.changed,
            change.of,
            change.bytes_in_changed as f64 / 1e6
        ),
    ];
    if set.products().is_empty() {
        parts.push("Nothing was measured.".into());
    } else {
        parts.extend([
            format!("![{0}]({0}.svg)", set.name),
            medians(set),
            "Capstan's share of what each peer takes:".into(),
            ratios(set),
            "Smallest, median and largest:".into(),
            spreads(set),
            format!("Peak memory of each process in MiB; shells and the like, below {SHOWN_MIB} MiB, are left out:"),
            memory(set),
        ]);
    }
    if !set.limits.is_empty() {
        parts.push("What this machine can do with these data, in the same run, one thread unless the work is SSH's:".into());
        parts.push(limits(set));
    }
    parts.extend(set.failures.iter().map(|failure| {
        format!(
            "**{} failed** in round {}, {}:\n\n```text\n{}\n```",
            failure.product.text(),
            failure.round + 1,
            failure.step.title(),
            failure.error
        )
    }));
    parts.join("\n\n")
}

/// The columns of a set's tables: a heading, and the figure of a product.
type Column = (&'static str, fn(&SetResults, ProductName) -> Option<Spread>);

const COLUMNS: [Column; 10] = [
    ("initial s", |set, product| set.wall(product, Step::Initial)),
    ("no change s", |set, product| {
        set.wall(product, Step::NoChange)
    }),
    ("1 % changed s", |set, product| {
        set.wall(product, Step::Changed)
    }),
    ("restore s", |set, product| set.wall(product, Step::Restore)),
    ("repository MB", |set, product| {
        megabytes(set.repository(product, Step::Initial))
    }),
    ("growth MB", |set, product| megabytes(set.growth(product))),
    ("CPU initial", |set, product| {
        set.cpu(product, Step::Initial)
    }),
    ("CPU no change", |set, product| {
        set.cpu(product, Step::NoChange)
    }),
    ("CPU changed", |set, product| {
        set.cpu(product, Step::Changed)
    }),
    ("CPU restore", |set, product| {
        set.cpu(product, Step::Restore)
    }),
];

fn megabytes(spread: Option<Spread>) -> Option<Spread> {
    spread.map(|bytes| Spread {
        min: bytes.min / 1e6,
        median: bytes.median / 1e6,
        max: bytes.max / 1e6,
    })
}

fn by_column(
    set: &SetResults,
    products: &[ProductName],
    cell: impl Fn(&Column, ProductName) -> Option<String>,
) -> String {
    let headings = std::iter::once("").chain(COLUMNS.iter().map(|(heading, _)| *heading));
    let mut table = Table::new(headings);
    for product in products {
        let cells = COLUMNS
            .iter()
            .map(|column| cell(column, *product).unwrap_or_else(|| "–".into()));
        table.row(std::iter::once(product.text().to_owned()).chain(cells));
    }
    if products.is_empty() {
        return format!("No peer was measured on {}.", set.name);
    }
    table.text()
}

fn medians(set: &SetResults) -> String {
    by_column(set, &set.products(), |(_, value), product| {
        value(set, product).map(|spread| figure(spread.median))
    })
}

fn ratios(set: &SetResults) -> String {
    let mut peers = set.products();
    peers.retain(|product| *product != ProductName::Capstan);
    by_column(set, &peers, |(_, value), peer| {
        let ours = value(set, ProductName::Capstan);
        ratio(ours, value(set, peer)).map(figure)
    })
}

fn spreads(set: &SetResults) -> String {
    by_column(set, &set.products(), |(_, value), product| {
        let spread = value(set, product)?;
        Some(format!(
            "{} · {} · {}",
            figure(spread.min),
            figure(spread.median),
            figure(spread.max)
        ))
    })
}

fn memory(set: &SetResults) -> String {
    let headings = ["", "process"].into_iter();
    let mut table = Table::new(headings.chain(Step::ALL.map(Step::title)));
    for product in set.products() {
        let by_step = Step::ALL.map(|step| set.peaks(product, step));
        let processes: BTreeSet<&String> = by_step.iter().flat_map(|peaks| peaks.keys()).collect();
        for process in processes {
            let mib = by_step
                .each_ref()
                .map(|peaks| Some(peaks.get(process)? / f64::from(1 << 20)));
            if mib.iter().flatten().all(|mib| *mib < SHOWN_MIB) {
                continue;
            }
            let cells = mib.map(|mib| mib.map_or_else(|| "–".into(), figure));
            table.row(
                [product.text().to_owned(), process.clone()]
                    .into_iter()
                    .chain(cells),
            );
        }
    }
    table.text()
}

fn limits(set: &SetResults) -> String {
    let mut table = Table::new(["limit", "median", "all", "unit"]);
    for limit in &set.limits {
        let all: Vec<String> = limit.values.iter().copied().map(figure).collect();
        table.row([
            limit.what.clone(),
            figure(limit.median),
            all.join(" · "),
            limit.unit.clone(),
        ]);
    }
    table.text()
}
