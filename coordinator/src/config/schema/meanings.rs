//! What each key means, taken from the comments of a sample file, so that it is written once. Never looks at values.

use std::collections::BTreeMap;

/// The comment above each key of a sample.
#[derive(Debug, Default)]
pub(super) struct Meanings {
    texts: BTreeMap<(String, String), String>,
}

/// The dotted path of a table below another.
pub(super) fn below(path: &str, name: &str) -> String {
    // What hosts inherit is described once, wherever it may stand.
    let name = match (path, name) {
        ("", "defaults" | "group") => "host",
        _ => name,
    };
    match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    }
}

impl Meanings {
    /// Reads the comments of a sample. Keys right below one another share the comment above the first.
    pub(super) fn of(sample: &str) -> Self {
        let mut meanings = Self::default();
        let mut path = String::new();
        let mut comment = String::new();
        let mut is_used = false;
        for line in sample.lines() {
            if let Some(text) = comment_text(line) {
                if std::mem::take(&mut is_used) {
                    comment.clear();
                }
                add_line(&mut comment, text);
                continue;
            }
            let line = line.strip_prefix('#').unwrap_or(line);
            if line.starts_with('[') {
                let (above, name) = header(line);
                meanings.add(&above, name, &comment);
                path = below(&above, name);
                comment.clear();
            } else if let Some((key, _)) = line.split_once(" = ") {
                meanings.add(&path, key, &comment);
                is_used = true;
            } else {
                comment.clear();
            }
        }
        meanings
    }

    /// What a key of the table at `path` means; what the table does not say, the one above it may.
    pub(super) fn of_key(&self, path: &str, key: &str) -> Option<&str> {
        let said = |path: &str| self.texts.get(&(path.to_owned(), key.to_owned()));
        let above = || path.rsplit_once('.').and_then(|(above, _)| said(above));
        said(path).or_else(above).map(String::as_str)
    }

    fn add(&mut self, path: &str, key: &str, comment: &str) {
        if !comment.is_empty() {
            let place = (path.to_owned(), key.to_owned());
            self.texts
                .entry(place)
                .or_insert_with(|| comment.to_owned());
        }
    }
}

/// The text of a comment; "#key = value" and "#[table]" are no comments.
fn comment_text(line: &str) -> Option<&str> {
    match line.strip_prefix('#')? {
        "" => Some(""),
        rest => rest.strip_prefix(' '),
    }
}

fn add_line(comment: &mut String, text: &str) {
    if !comment.is_empty() {
        comment.push(' ');
    }
    comment.push_str(text.trim());
}

/// The table above a header's and its own name, both without the names that operators choose.
fn header(line: &str) -> (String, &str) {
    let dotted = line.trim_matches(['[', ']']);
    let mut path = String::new();
    let mut name = "";
    let mut parts = dotted.split('.');
    while let Some(part) = parts.next() {
        if !name.is_empty() {
            path = below(&path, name);
        }
        name = part;
        if ["group", "host", "role"].contains(&part) {
            parts.next();
        }
    }
    (path, name)
}
