//! `[[host.NAME.stream]]` of hosts.toml: commands on the host whose output is kept as a file of each snapshot, from their text
//! to checked values. A preset is nothing but a command that is known to work; what it stands for is shown by `config show`.

use std::fmt;
use std::str::FromStr;

use append_server::quantity::{Size, Span};
use formats::limits::{
    STREAM_ENDING_BYTES_MAX, STREAM_NAME_BYTES_MAX, STREAM_WORD_BYTES_MAX, STREAM_WORDS_MAX,
    STREAMS_MAX,
};
use formats::listing::entry::check_path;
use formats::wire::streams::names_fit;
use serde::Deserialize;
use toml::Spanned;

use crate::config::error::ValueError;
use crate::config::hook_settings::read_command;
use crate::config::login_fields::BecomeCommand;
use crate::config::raw::Text;
use crate::config::settings::ValueReader;

/// The most bytes of all commands of a host: they travel in one message.
const COMMANDS_BYTES_MAX: usize = 256 << 10;
/// How long a stream may take that does not say so.
const TIMEOUT_DEFAULT: Span = Span::from_secs(12 * 3600);
/// The longest it may be told to take: as long as a whole run by default.
const TIMEOUT_MAX: Span = Span::from_secs(7 * 24 * 3600);
/// How much a stream may give that does not say so.
const SIZE_MAX_DEFAULT: Size = Size::from_bytes(4 << 40);
/// How much smaller than usual it may be without a warning.
const PERCENT_MIN_DEFAULT: u8 = 50;

/// `stream`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStream {
    pub(super) name: Text,
    pub(super) preset: Option<Spanned<Preset>>,
    pub(super) database: Option<Text>,
    pub(super) args: Option<Vec<Text>>,
    pub(super) run: Option<Spanned<Vec<Text>>>,
    pub(super) through: Option<Text>,
    pub(super) timeout: Option<Text>,
    pub(super) max_size: Option<Text>,
    pub(super) min_percent: Option<Spanned<u64>>,
    pub(super) ends_with: Option<Text>,
    pub(super) allow_empty: Option<bool>,
    pub(super) on_failure: Option<StreamFailure>,
}

/// A kind of database whose dump command is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Preset {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
    /// SQLite.
    Sqlite,
    /// MongoDB.
    Mongodb,
}

/// What a stream's failure does to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamFailure {
    /// The run fails, and nothing is committed.
    #[default]
    Fail,
    /// The snapshot is committed without its content, with warnings.
    Warn,
}

impl StreamFailure {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Warn => "warn",
        }
    }
}

/// A stream's name: its path below the directory of streams.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamName(String);

impl StreamName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Why a text is no stream's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of a stream: write a relative path, such as \"pg/users.sql\"")]
pub struct StreamNameError {
    /// The refused text.
    text: String,
}

impl FromStr for StreamName {
    type Err = StreamNameError;

    fn from_str(text: &str) -> Result<Self, StreamNameError> {
        let short = !text.is_empty() && text.len() as u64 <= STREAM_NAME_BYTES_MAX;
        match short && check_path(text.as_bytes()).is_ok() && !text.chars().any(char::is_control) {
            true => Ok(Self(text.to_owned())),
            false => Err(StreamNameError {
                text: text.to_owned(),
            }),
        }
    }
}

/// A command whose output is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Where it is kept.
    pub name: StreamName,
    /// The program and its arguments; no shell sees them.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Span,
    /// The most it may give.
    pub size_max: Size,
    /// With less than so many percent of what is usual, the run ends with warnings; with 0, every size is right.
    pub percent_min: u8,
    /// What its output must end with, white space aside.
    pub ends_with: String,
    /// Whether nothing is a good output.
    pub allow_empty: bool,
    /// What its failure does.
    pub on_failure: StreamFailure,
}

/// The streams of one table, by name.
pub(super) fn read_streams(
    reader: &mut ValueReader<'_>,
    raw: &Spanned<Vec<Spanned<RawStream>>>,
) -> Vec<Stream> {
    if raw.get_ref().len() as u64 > STREAMS_MAX {
        let max = usize::try_from(STREAMS_MAX).unwrap_or(usize::MAX);
        reader.refuse(&raw.span(), ValueError::TooMany { max });
        return Vec::new();
    }
    let streams = raw.get_ref().iter();
    let mut streams: Vec<Stream> = streams
        .filter_map(|stream| read_stream(reader, stream.get_ref()))
        .collect();
    streams.sort_by(|a, b| a.name.cmp(&b.name));
    let words = streams.iter().flat_map(|stream| &stream.command);
    if words.map(String::len).sum::<usize>() > COMMANDS_BYTES_MAX {
        let max = COMMANDS_BYTES_MAX;
        reader.refuse(&raw.span(), ValueError::CommandsTooLong { max });
    }
    if !names_fit(streams.iter().map(|stream| stream.name.as_str().as_bytes())) {
        reader.refuse(&raw.span(), ValueError::StreamNamesClash);
    }
    streams
}

fn read_stream(reader: &mut ValueReader<'_>, raw: &RawStream) -> Option<Stream> {
    let command = match (&raw.preset, &raw.run) {
        (Some(preset), None) => expand(reader, raw, preset)?,
        (None, Some(run)) if raw.database.is_none() && raw.args.is_none() => {
            read_command(reader, run)?
        }
        _ => {
            reader.refuse(&raw.name.span(), ValueError::PresetOrRun);
            return None;
        }
    };
    let through: Option<BecomeCommand> = reader.maybe(raw.through.as_ref());
    let mut words = through
        .map(|through| through.words().to_vec())
        .unwrap_or_default();
    words.extend(command);
    let long = |word: &String| word.len() as u64 > STREAM_WORD_BYTES_MAX;
    if words.len() as u64 > STREAM_WORDS_MAX || words.iter().any(long) {
        reader.refuse(&raw.name.span(), ValueError::NoCommand);
        return None;
    }
    let timeout = match &raw.timeout {
        Some(text) => reader
            .deadline(Some(text))
            .and_then(|span| reader.at_most(span, TIMEOUT_MAX, Some(text)))?,
        None => TIMEOUT_DEFAULT,
    };
    let size_max = match &raw.max_size {
        Some(text) => reader.one(text)?,
        None => SIZE_MAX_DEFAULT,
    };
    Some(Stream {
        name: reader.one(&raw.name)?,
        command: words,
        timeout,
        size_max,
        percent_min: match &raw.min_percent {
            Some(percent) => {
                let percent = reader.number_in(Some(percent), 0..=100)?;
                u8::try_from(percent).unwrap_or(PERCENT_MIN_DEFAULT)
            }
            None => PERCENT_MIN_DEFAULT,
        },
        ends_with: read_ending(reader, raw)?,
        allow_empty: raw.allow_empty.unwrap_or(false),
        on_failure: raw.on_failure.unwrap_or_default(),
    })
}

/// What a preset's output ends with, where its program does not tell by its exit code that it failed.
fn read_ending(reader: &mut ValueReader<'_>, raw: &RawStream) -> Option<String> {
    let preset = raw.preset.as_ref().map(Spanned::get_ref);
    let Some(text) = &raw.ends_with else {
        return Some(match preset {
            Some(Preset::Sqlite) => "COMMIT;".to_owned(),
            _ => String::new(),
        });
    };
    let ending = text.get_ref().trim_end();
    if ending.len() as u64 <= STREAM_ENDING_BYTES_MAX {
        return Some(ending.to_owned());
    }
    let max = usize::try_from(STREAM_ENDING_BYTES_MAX).unwrap_or(usize::MAX);
    reader.refuse(&text.span(), ValueError::EndingTooLong { max });
    None
}

/// The command that a preset stands for.
fn expand(
    reader: &mut ValueReader<'_>,
    raw: &RawStream,
    preset: &Spanned<Preset>,
) -> Option<Vec<String>> {
    let database = raw.database.as_ref().map(|text| text.get_ref().as_str());
    let odd = |name: &str| name.is_empty() || name.starts_with('-') || name.contains('\0');
    let missing = database.is_none() && *preset.get_ref() == Preset::Sqlite;
    if missing || database.is_some_and(odd) {
        reader.refuse(&preset.span(), ValueError::NoDatabase);
        return None;
    }
    let (program, options): (&str, Vec<String>) = match (preset.get_ref(), database) {
        (Preset::Postgres, Some(name)) => (
            "pg_dump",
            vec!["--no-password".to_owned(), format!("--dbname={name}")],
        ),
        (Preset::Postgres, None) => ("pg_dumpall", vec!["--no-password".to_owned()]),
        (Preset::Mysql, name) => ("mysqldump", mysql_options(name)),
        (Preset::Sqlite, name) => ("sqlite3", sqlite_options(name.unwrap_or_default())),
        (Preset::Mongodb, name) => {
            let database = name.map(|name| format!("--db={name}"));
            let options = [Some("--archive".to_owned()), database];
            ("mongodump", options.into_iter().flatten().collect())
        }
    };
    let mut words = vec![program.to_owned()];
    // In front: some of MySQL's count only there.
    let args = raw.args.iter().flatten();
    words.extend(args.map(|word| word.get_ref().clone()));
    words.extend(options);
    if words.iter().any(|word| word.contains('\0')) {
        reader.refuse(&preset.span(), ValueError::NoCommand);
        return None;
    }
    Some(words)
}

/// One consistent state of what InnoDB holds, with all that is stored beside the tables; bytes as hexadecimal, so that no
/// character set changes them.
fn mysql_options(database: Option<&str>) -> Vec<String> {
    let common = [
        "--single-transaction",
        "--quick",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
        "--skip-dump-date",
    ];
    let which = database.unwrap_or("--all-databases");
    let words = common.into_iter().chain([which]);
    words.map(str::to_owned).collect()
}

/// Waits for who writes, and never makes a database of a path that has none.
fn sqlite_options(file: &str) -> Vec<String> {
    let words = [
        "-readonly",
        "-bail",
        "-cmd",
        ".timeout 60000",
        file,
        ".dump",
    ];
    words.map(str::to_owned).to_vec()
}
