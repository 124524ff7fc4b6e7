//! `[[host.NAME.hook]]` of hosts.toml: commands on the host around a run, from their text to checked values. Never runs one.

use append_server::quantity::Span;
use serde::Deserialize;
use toml::Spanned;

use crate::config::error::ValueError;
use crate::config::raw::Text;
use crate::config::settings::ValueReader;

/// The most hooks of one host.
const HOOKS_MAX: usize = 32;
/// The most words of one command.
const WORDS_MAX: usize = 256;
/// The most bytes of one command.
const COMMAND_BYTES_MAX: usize = 64 << 10;
/// How long a hook may take that does not say so.
const TIMEOUT_DEFAULT: Span = Span::from_secs(300);

/// `hook`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHook {
    pub(super) on: HookEvent,
    pub(super) run: Spanned<Vec<Text>>,
    pub(super) timeout: Option<Text>,
    pub(super) on_failure: Option<Spanned<HookFailure>>,
}

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookEvent {
    /// Before anything is read.
    BeforeRun,
    /// Once the snapshot is committed.
    AfterRun,
    /// Once it is clear that there will be none.
    Failed,
    /// Last, in either case.
    Finally,
}

impl HookEvent {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeRun => "before-run",
            Self::AfterRun => "after-run",
            Self::Failed => "failed",
            Self::Finally => "finally",
        }
    }
}

/// What a hook's failure does to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookFailure {
    /// The run fails before anything is read.
    Abort,
    /// The run ends with warnings.
    Warn,
    /// It is logged.
    Ignore,
}

impl HookFailure {
    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Warn => "warn",
            Self::Ignore => "ignore",
        }
    }
}

/// A command that is run on the host beside the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub on: HookEvent,
    /// The program and its arguments; no shell sees them.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Span,
    /// What its failure does.
    pub on_failure: HookFailure,
}

impl Hook {
    /// Its words as one line for people; no shell is meant to read it.
    pub fn shown(&self) -> String {
        self.command.join(" ").escape_debug().to_string()
    }
}

/// The hooks of one table, in their order.
pub(super) fn read_hooks(
    reader: &mut ValueReader<'_>,
    raw: &Spanned<Vec<Spanned<RawHook>>>,
) -> Vec<Hook> {
    if raw.get_ref().len() > HOOKS_MAX {
        reader.refuse(&raw.span(), ValueError::TooMany { max: HOOKS_MAX });
        return Vec::new();
    }
    let hooks = raw.get_ref().iter();
    hooks
        .filter_map(|hook| read_hook(reader, hook.get_ref()))
        .collect()
}

fn read_hook(reader: &mut ValueReader<'_>, raw: &RawHook) -> Option<Hook> {
    let before = raw.on == HookEvent::BeforeRun;
    let on_failure = raw.on_failure.as_ref().map(Spanned::get_ref).copied();
    if let Some(written) = &raw.on_failure
        && *written.get_ref() == HookFailure::Abort
        && !before
    {
        let event = raw.on.as_str();
        reader.refuse(&written.span(), ValueError::NothingToAbort { event });
        return None;
    }
    let timeout = match &raw.timeout {
        Some(text) => reader.deadline(Some(text))?,
        None => TIMEOUT_DEFAULT,
    };
    Some(Hook {
        on: raw.on,
        command: read_command(reader, &raw.run)?,
        timeout,
        on_failure: on_failure.unwrap_or(match before {
            true => HookFailure::Abort,
            false => HookFailure::Warn,
        }),
    })
}

/// A program and its arguments, as the system takes them.
pub(super) fn read_command(
    reader: &mut ValueReader<'_>,
    raw: &Spanned<Vec<Text>>,
) -> Option<Vec<String>> {
    let words: Vec<String> = raw
        .get_ref()
        .iter()
        .map(|word| word.get_ref().clone())
        .collect();
    let bytes: usize = words.iter().map(String::len).sum();
    let program = words.first().is_some_and(|program| !program.is_empty());
    let sound = words.iter().all(|word| !word.contains('\0'));
    if program && sound && words.len() <= WORDS_MAX && bytes <= COMMAND_BYTES_MAX {
        return Some(words);
    }
    reader.refuse(&raw.span(), ValueError::NoCommand);
    None
}
