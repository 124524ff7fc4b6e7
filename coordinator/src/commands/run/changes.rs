//! What changed in a run, as text and as JSON. Paths come from hosts and are escaped.

use std::io::{self, Write};

use serde::Serialize;

use crate::backup::changes::{ChangeKind, Changes};
use crate::snapshot::shown::shown_path;
use crate::terminal::count_text;

/// The changes as `run --json`, `show --json` and `history --json` have them.
#[derive(Debug, Serialize)]
pub struct ChangesJson {
    added: u64,
    changed: u64,
    metadata: u64,
    removed: u64,
    moved: u64,
    first: Vec<ChangedPathJson>,
}

#[derive(Debug, Serialize)]
struct ChangedPathJson {
    change: &'static str,
    path: String,
}

impl ChangesJson {
    /// Of a run's changes.
    pub fn of(changes: &Changes) -> Self {
        let first = changes.paths.iter().map(|(kind, path)| ChangedPathJson {
            change: kind.as_str(),
            path: shown_path(path),
        });
        Self {
            added: changes.added,
            changed: changes.changed,
            metadata: changes.metadata,
            removed: changes.removed,
            moved: changes.moved,
            first: first.collect(),
        }
    }
}

/// The counts in one line.
pub fn changes_text(changes: &Changes) -> String {
    let moved = match changes.moved {
        0 => String::new(),
        moved => format!(", of which {} only moved", count_text(moved)),
    };
    format!(
        "{} added, {} changed, {} in metadata alone, {} removed{moved}",
        count_text(changes.added),
        count_text(changes.changed),
        count_text(changes.metadata),
        count_text(changes.removed)
    )
}

/// The counts in a table's cell, with the letters of `diff`; nothing where nothing changed.
pub fn changes_cell(changes: &Changes) -> String {
    let each = ChangeKind::ALL.map(|kind| (letter(kind), changes.count(kind)));
    let some = each.into_iter().filter(|(_, count)| *count > 0);
    let cells: Vec<String> = some
        .map(|(letter, count)| format!("{letter}{}", count_text(count)))
        .collect();
    cells.join(" ")
}

/// Writes a line for each of the first paths, and how many more there are.
pub fn write_changed_paths(changes: &Changes, out: &mut dyn Write) -> io::Result<()> {
    for (kind, path) in &changes.paths {
        writeln!(out, "  {} {}", letter(*kind), shown_path(path))?;
    }
    let all: u64 = ChangeKind::ALL.map(|kind| changes.count(kind)).iter().sum();
    match all.saturating_sub(changes.paths.len() as u64) {
        0 => Ok(()),
        more => writeln!(
            out,
            "  and {} more: `coordinator diff` tells all",
            count_text(more)
        ),
    }
}

/// As `diff` has it.
fn letter(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => '+',
        ChangeKind::Changed => 'M',
        ChangeKind::Metadata => 'U',
        ChangeKind::Removed => '-',
    }
}

#[cfg(test)]
mod tests {
    use super::{ChangesJson, changes_cell, changes_text, write_changed_paths};
    use crate::backup::changes::{ChangeKind, Changes};

    #[test]
    fn changes_are_told_in_a_line_a_cell_and_a_list_without_raw_bytes_of_the_host() {
        let changes = Changes {
            added: 1_200,
            changed: 0,
            metadata: 1,
            removed: 2,
            moved: 1,
            paths: vec![
                (ChangeKind::Added, b"srv/\x1b[2J".to_vec()),
                (ChangeKind::Metadata, b"etc".to_vec()),
            ],
        };
        assert_eq!(
            changes_text(&changes),
            "1,200 added, 0 changed, 1 in metadata alone, 2 removed, of which 1 only moved"
        );
        assert_eq!(changes_cell(&changes), "+1,200 U1 -2");
        assert_eq!(changes_cell(&Changes::default()), "");
        let mut out = Vec::new();
        write_changed_paths(&changes, &mut out).expect("writes to memory");
        let text = String::from_utf8(out).expect("it is text");
        assert_eq!(
            text,
            "  + /srv/\\x1b[2J\n  U /etc\n  and 1,201 more: `coordinator diff` tells all\n"
        );
        let json = serde_json::to_value(ChangesJson::of(&changes)).expect("it is JSON");
        assert_eq!(json["first"][0]["path"], "/srv/\\x1b[2J");
        assert_eq!(
            (&json["added"], &json["first"][1]["change"]),
            (&1_200.into(), &"metadata".into())
        );
    }
}
