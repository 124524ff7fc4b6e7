//! A configuration file's text, and the way from a byte in it back to file, line, column and key.
//! Never interprets values.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::config::error::ConfigError;
use crate::config::suggestion;
use crate::terminal::visible;

/// The largest configuration file: some 100,000 hosts fit.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// One place in a configuration file, both numbers counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: Arc<Path>,
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = visible(&self.file.to_string_lossy());
        write!(out, "{file}:{}:{}", self.line, self.column)
    }
}

/// A key in a configuration file, such as `host.web1.user`, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub location: Location,
    /// The dotted key; empty when the text could not be read as TOML.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(out)?;
        if self.key.is_empty() {
            return Ok(());
        }
        write!(out, ": {}", visible(&self.key))
    }
}

/// The text of one file, with its line starts.
#[derive(Debug)]
pub struct SourceText {
    file: Arc<Path>,
    text: String,
    line_starts: Vec<usize>,
    is_private: bool,
}

impl SourceText {
    /// Reads a file that nobody but its owner and group may write.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read_error = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        // Without O_NONBLOCK a FIFO in the file's place would block for ever.
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        check_file(path, &metadata)?;
        let bytes = read_bounded(&mut file).map_err(read_error)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
            });
        }
        let text = String::from_utf8(bytes).map_err(|source| {
            let valid = source.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&source.as_bytes()[..valid]).into_owned();
            ConfigError::NotUtf8 {
                location: Self::new(path, before).location(valid),
            }
        })?;
        Ok(Self {
            is_private: metadata.mode() & 0o077 == 0,
            ..Self::new(path, text)
        })
    }

    /// Takes a text as if it had been read from `path`.
    pub fn new(path: &Path, text: String) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(newlines.map(|(at, _)| at + 1))
            .collect();
        Self {
            file: Arc::from(path),
            text,
            line_starts,
            is_private: false,
        }
    }

    /// Whether nobody but its owner may read the file, so that a secret may stand in it.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// The file's path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The file's path, for what outlives the text.
    pub fn shared_file(&self) -> Arc<Path> {
        Arc::clone(&self.file)
    }

    /// The directory that relative paths in the file start from.
    pub fn directory(&self) -> PathBuf {
        self.file.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Reads the text as TOML of the given shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|source| {
            let span = source.span().unwrap_or(0..0);
            ConfigError::Toml {
                place: self.place(&span),
                complaint: visible(&suggestion::explain(source.message())),
                source: Box::new(source),
            }
        })
    }

    /// The location of a byte.
    pub fn location(&self, offset: usize) -> Location {
        let line = self
            .line_starts
            .partition_point(|start| *start <= offset)
            .max(1);
        let start = self.line_starts[line - 1];
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        let column = String::from_utf8_lossy(before).chars().count() + 1;
        Location {
            file: Arc::clone(&self.file),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }

    /// The location of a byte and the key it belongs to.
    ///
    /// Reads the whole text again, so it is for errors alone.
    pub fn place(&self, span: &Range<usize>) -> Place {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        let mut best = None;
        search_table(table.get_ref(), "", span.start, &mut best);
        Place {
            location: self.location(span.start),
            key: best.map(|found: Found| found.key).unwrap_or_default(),
        }
    }
}

/// The narrowest key or value seen so far that holds the byte looked for.
struct Found {
    key: String,
    bytes: usize,
}

fn search_table(table: &DeTable<'_>, prefix: &str, offset: usize, best: &mut Option<Found>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        consider(&key, &name.span(), offset, best);
        consider(&key, &value.span(), offset, best);
        search_value(value.get_ref(), &key, offset, best);
    }
}

fn search_value(value: &DeValue<'_>, key: &str, offset: usize, best: &mut Option<Found>) {
    match value {
        DeValue::Table(table) => search_table(table, key, offset, best),
        DeValue::Array(array) => {
            for (number, item) in array.iter().enumerate() {
                let key = format!("{key}[{number}]");
                consider(&key, &item.span(), offset, best);
                search_value(item.get_ref(), &key, offset, best);
            }
        }
        _ => {}
    }
}

fn consider(key: &str, span: &Range<usize>, offset: usize, best: &mut Option<Found>) {
    let narrower = best.as_ref().is_none_or(|found| span.len() <= found.bytes);
    if span.contains(&offset) && narrower {
        *best = Some(Found {
            key: key.to_owned(),
            bytes: span.len(),
        });
    }
}

/// Whoever can write the file can have commands run on every host.
fn check_file(path: &Path, metadata: &std::fs::Metadata) -> Result<(), ConfigError> {
    if !metadata.is_file() {
        return Err(ConfigError::NotAFile {
            path: path.to_owned(),
        });
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(ConfigError::WorldWritable {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
        });
    }
    Ok(())
}

fn read_bounded(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
