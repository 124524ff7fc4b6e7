//! Output for people and for programs: tables, JSON, sizes, errors. Never writes a control character that
//! came from a host or a file.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::iter;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Writes one JSON value on one line.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Writes rows under headings, with spaces for borders; nothing at all without rows.
pub fn write_table(
    out: &mut dyn Write,
    columns: &[(&str, Align)],
    rows: &[Vec<String>],
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|(heading, _)| *heading));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell.as_bytes())));
    }
    for (number, (_, align)) in columns.iter().enumerate() {
        let Some(column) = table.column_mut(number) else {
            continue;
        };
        column.set_padding((0, 2));
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Bytes as text in which nothing can move the cursor or change the terminal.
///
/// Backslashes are doubled, so that two different names never look alike.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                character if hidden(character) => text.extend(character.escape_default()),
                character => text.push(character),
            }
        }
        for byte in part.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    text
}

/// Text of ours that quotes somebody else's, with its control characters made visible.
///
/// Backslashes stay, so this is for messages; names go through [`printable`].
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if hidden(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A number of bytes for people, in binary units.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = 0;
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A count for people, with a comma between thousands.
pub fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span of time for people: `4.2 s`, `3m07s`, `2h05m`.
pub fn duration_text(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        secs @ 60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        secs => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
    }
}

/// Writes an error and what it comes from, one below the other.
///
/// Only the first line begins with "error:", so that no text from elsewhere can pass for another error.
pub fn write_error(out: &mut dyn Write, error: &(dyn Error + 'static)) -> io::Result<()> {
    for (depth, cause) in chain(error).enumerate() {
        let label = if depth == 0 { "error" } else { "  caused by" };
        for (number, line) in cause.to_string().lines().enumerate() {
            match number {
                0 => writeln!(out, "{label}: {}", visible(line))?,
                _ => writeln!(out, "  {}", visible(line))?,
            }
        }
    }
    Ok(())
}

/// An error and what it comes from, in one line.
pub fn error_line(error: &(dyn Error + 'static)) -> String {
    let parts: Vec<String> = chain(error)
        .map(|cause| visible(&cause.to_string()))
        .collect();
    parts.join(": ")
}

/// An error and its sources; one that only says again what the one before said is left out.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut said = String::new();
    let next = |error: &&'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    };
    iter::successors(Some(error), next).filter(move |cause| {
        let text = cause.to_string();
        let new = !said.ends_with(&text);
        said = text;
        new
    })
}

/// Control characters, and those that reverse or hide the text around them.
fn hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use std::io;
    use std::time::Duration;

    use super::{
        Align, count_text, duration_text, error_line, printable, size_text, write_error,
        write_json, write_table,
    };

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the {what}\nerror: forged\u{1b}[2J")]
    struct Refused {
        what: &'static str,
        source: io::Error,
    }

    fn refused() -> Refused {
        Refused {
            what: "file",
            source: io::Error::other("disk gone"),
        }
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_nothing_in_it_passes_for_another() {
        let mut out = Vec::new();
        write_error(&mut out, &refused()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "error: cannot read the file\n  error: forged\\u{1b}[2J\n  caused by: disk gone\n"
        );
        assert!(error_line(&refused()).ends_with(": disk gone"));
        assert_eq!(error_line(&refused()).lines().count(), 1);
    }

    #[test]
    fn counts_and_times_are_short() {
        assert_eq!(count_text(7), "7");
        assert_eq!(count_text(1_234), "1,234");
        assert_eq!(count_text(123_456), "123,456");
        assert_eq!(count_text(1_234_567), "1,234,567");
        assert_eq!(duration_text(Duration::from_millis(4_240)), "4.2 s");
        assert_eq!(duration_text(Duration::from_secs(187)), "3m07s");
        assert_eq!(duration_text(Duration::from_secs(7_500)), "2h05m");
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable(b"caf\xc3\xa9 \xff"), "café \\xff");
        assert_eq!(printable("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        assert_ne!(printable(b"\\n"), printable(b"\n"));
    }

    #[test]
    fn sizes_are_binary_and_never_round_to_the_next_unit_wrongly() {
        assert_eq!(size_text(0), "0 B");
        assert_eq!(size_text(1023), "1023 B");
        assert_eq!(size_text(1536), "1.5 KiB");
        assert_eq!(size_text(10 << 30), "10.0 GiB");
        assert_eq!(size_text(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn tables_align_numbers_right_and_leave_no_trailing_space() {
        let mut out = Vec::new();
        let rows = vec![
            vec!["web1".to_owned(), "9".to_owned()],
            vec!["db".to_owned(), "123".to_owned()],
        ];
        write_table(
            &mut out,
            &[("host", Align::Left), ("files", Align::Right)],
            &rows,
        )
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "host  files\nweb1      9\ndb      123\n");
    }

    #[test]
    fn json_is_one_line() {
        let mut out = Vec::new();
        write_json(&mut out, &serde_json::json!({"a": "b\nc"})).unwrap();
        assert_eq!(out, b"{\"a\":\"b\\nc\"}\n");
    }
}
