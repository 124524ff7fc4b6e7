//! One `[defaults]`, `[group.NAME]` or `[host.NAME]` table with every value checked. Never mixes two tables: `host`
//! does that.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use append_server::quantity::Span;
use formats::limits::TUNNEL_CONNECTIONS_MAX;
use toml::Spanned;

use crate::config::address::{Address, LoginUser};
use crate::config::bandwidth_settings::read_bandwidth;
use crate::config::commit_setting::{CommitSetting, read_commit};
use crate::config::cpu_limit::CpuLimit;
use crate::config::error::{ConfigError, ErrorList, ValueError};
use crate::config::exclude::{ExcludeRule, MarkerName};
use crate::config::fs_snapshot::FsSnapshot;
use crate::config::hook_settings::{Hook, read_hooks};
use crate::config::io_priority::IoPriority;
use crate::config::login_fields::{BecomeCommand, HostKeyFingerprint};
use crate::config::name::{RepositoryName, Tag};
use crate::config::path::{SourcePath, resolve_local, resolve_secret};
use crate::config::placing::{DestinationList, read_destinations};
use crate::config::prune_settings::read_keep;
use crate::config::raw::{RawHostLimits, RawJump, RawJumpLogin, RawSettings, Text, Transport};
use crate::config::safety_settings::{SafetySettings, read_safety};
use crate::config::secret_file::SecretFile;
use crate::config::source_text::SourceText;
use crate::config::stream_settings::{Stream, read_streams};
use crate::config::timing_settings::{TimingSettings, read_timing};
use crate::retention::keep::{KEEP_COUNT_MAX, Keep};
use crate::schedule::rates::Rates;

/// The most threads an agent may be told to use.
const AGENT_THREADS_MAX: u64 = 256;
/// The least that Linux gives a program of the processors.
const NICE_MAX: u64 = 19;
/// Shorter deadlines would end every run.
const DEADLINE_MIN: Span = Span::from_secs(1);

/// A table's checked values; `None` where the table is silent.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) local: Option<bool>,
    pub(super) address: Option<Address>,
    pub(super) user: Option<LoginUser>,
    pub(super) identity_file: Option<SecretFile>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) use_agent: Option<bool>,
    pub(super) host_keys: Option<Vec<HostKeyFingerprint>>,
    pub(super) jump: Option<JumpSetting>,
    pub(super) become_command: Option<BecomeCommand>,
    pub(super) paths: Option<Vec<SourcePath>>,
    pub(super) one_file_system: Option<bool>,
    pub(super) exclude: Option<Arc<[ExcludeRule]>>,
    pub(super) exclude_caches: Option<bool>,
    pub(super) exclude_if_present: Option<Arc<[MarkerName]>>,
    pub(super) fs_snapshot: Option<FsSnapshot>,
    pub(super) transport: Option<Transport>,
    pub(super) tags: Option<Vec<Tag>>,
    pub(super) destinations: Option<DestinationList>,
    pub(super) commit: Option<CommitSetting>,
    pub(super) keep: Option<Keep>,
    pub(super) keep_floor: Option<u32>,
    pub(super) safety: SafetySettings,
    pub(super) timing: TimingSettings,
    pub(super) repository: Option<RepositoryName>,
    pub(super) hooks: Option<Vec<Hook>>,
    pub(super) streams: Option<Vec<Stream>>,
    pub(super) limits: LimitSettings,
}

/// The checked values of `limits`.
#[derive(Debug, Default)]
pub(super) struct LimitSettings {
    pub(super) connect: Option<Span>,
    pub(super) idle: Option<Span>,
    pub(super) run: Option<Span>,
    pub(super) tunnel_connections: Option<u8>,
    pub(super) agent_threads: Option<u16>,
    pub(super) nice: Option<u8>,
    pub(super) io_priority: Option<IoPriority>,
    pub(super) cpu: Option<CpuLimit>,
    /// An empty list takes an inherited one away.
    pub(super) bandwidth: Option<Rates>,
}

/// A checked `jump`, and where it stands.
#[derive(Debug)]
pub(super) struct JumpSetting {
    pub(super) span: Range<usize>,
    pub(super) way: JumpWay,
}

/// What `jump` says.
#[derive(Debug)]
pub(super) enum JumpWay {
    /// No jump, whatever `[defaults]` says.
    Direct,
    /// Over a `[host.*]`.
    Host(String),
    /// Over a login written out.
    Login(Box<Settings>),
}

/// Reads values of one file, and notes what it refuses.
pub(super) struct ValueReader<'a> {
    source: &'a SourceText,
    errors: &'a mut ErrorList,
}

impl<'a> ValueReader<'a> {
    /// A reader of the values of `source`.
    pub(super) fn new(source: &'a SourceText, errors: &'a mut ErrorList) -> Self {
        Self { source, errors }
    }

    /// The file that is read.
    pub(super) fn source(&self) -> &'a SourceText {
        self.source
    }

    /// Notes that the value at `span` is refused.
    pub(super) fn refuse(&mut self, span: &Range<usize>, reason: impl Into<ValueError>) {
        let source = self.source;
        self.errors.push(|| ConfigError::Value {
            place: source.place(span),
            source: reason.into(),
        });
    }

    /// The parsed text, or nothing once it is refused.
    pub(super) fn one<T>(&mut self, text: &Text) -> Option<T>
    where
        T: FromStr,
        ValueError: From<T::Err>,
    {
        text.get_ref()
            .parse()
            .map_err(|reason: T::Err| self.refuse(&text.span(), reason))
            .ok()
    }

    /// The parsed text of a key that may be absent.
    pub(super) fn maybe<T>(&mut self, text: Option<&Text>) -> Option<T>
    where
        T: FromStr,
        ValueError: From<T::Err>,
    {
        text.and_then(|text| self.one(text))
    }

    /// The parsed texts of a list, without exact repetitions.
    pub(super) fn list<T>(&mut self, texts: &[Text]) -> Vec<T>
    where
        T: FromStr + PartialEq,
        ValueError: From<T::Err>,
    {
        let mut values = Vec::with_capacity(texts.len());
        for text in texts {
            let value = self.one(text);
            values.extend(value.filter(|value| !values.contains(value)));
        }
        values
    }

    /// A path on this machine; relative ones start at the file's directory.
    pub(super) fn local_path(&mut self, text: Option<&Text>) -> Option<PathBuf> {
        let text = text?;
        resolve_local(&self.source.directory(), text.get_ref())
            .map_err(|reason| self.refuse(&text.span(), reason))
            .ok()
    }

    /// A file on this machine that holds a secret.
    pub(super) fn secret_file(&mut self, text: Option<&Text>, key: &str) -> Option<SecretFile> {
        let text = text?;
        let path = resolve_secret(&self.source.directory(), text.get_ref());
        let path = path.map_err(|reason| self.refuse(&text.span(), reason));
        let path = path.ok()?;
        let location = self.source.location(text.span().start);
        let key = key.to_owned();
        Some(SecretFile::named_at(
            &path,
            crate::config::source_text::Place { location, key },
        ))
    }

    /// A number from 1 to `max`, or nothing once it is refused.
    pub(super) fn number(&mut self, value: Option<&Spanned<u64>>, max: u64) -> Option<u64> {
        self.number_in(value, 1..=max)
    }

    /// A number of these, or nothing once it is refused.
    pub(super) fn number_in(
        &mut self,
        value: Option<&Spanned<u64>>,
        allowed: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = value?;
        if allowed.contains(value.get_ref()) {
            return Some(*value.get_ref());
        }
        self.refuse(
            &value.span(),
            ValueError::OutOfRange {
                value: *value.get_ref(),
                min: *allowed.start(),
                max: *allowed.end(),
            },
        );
        None
    }

    /// The span, unless it is longer than that.
    pub(super) fn at_most(&mut self, span: Span, max: Span, text: Option<&Text>) -> Option<Span> {
        if span <= max {
            return Some(span);
        }
        self.refuse(
            &text?.span(),
            ValueError::TooLong {
                value: span.to_string(),
                max: max.to_string(),
            },
        );
        None
    }

    pub(super) fn deadline(&mut self, text: Option<&Text>) -> Option<Span> {
        let span: Span = self.maybe(text)?;
        if span >= DEADLINE_MIN {
            return Some(span);
        }
        self.refuse(
            &text?.span(),
            ValueError::TooShort {
                value: span.to_string(),
                min: DEADLINE_MIN.to_string(),
            },
        );
        None
    }

    /// Checks a whole table, whose dotted key is `name`; nothing when a value of it is refused.
    pub(super) fn settings(&mut self, raw: &RawSettings, name: &str) -> Option<Settings> {
        let errors_before = self.errors.count();
        let settings = Settings {
            local: raw.local.as_ref().map(|local| *local.get_ref()),
            address: self.maybe(raw.address.as_ref()),
            user: self.maybe(raw.user.as_ref()),
            identity_file: self
                .secret_file(raw.identity_file.as_ref(), &format!("{name}.identity_file")),
            certificate_file: self.local_path(raw.certificate_file.as_ref()),
            use_agent: raw.use_agent,
            host_keys: raw.host_key.as_ref().map(|keys| self.list(keys.get_ref())),
            jump: raw.jump.as_ref().map(|jump| self.jump(jump, name)),
            become_command: self.maybe(raw.r#become.as_ref()),
            paths: raw.paths.as_ref().map(|paths| self.list(paths.get_ref())),
            one_file_system: raw.one_file_system,
            exclude: raw.exclude.as_ref().map(|rules| self.rules(rules)),
            exclude_caches: raw.exclude_caches,
            exclude_if_present: raw
                .exclude_if_present
                .as_ref()
                .map(|names| self.list(names).into()),
            fs_snapshot: self.maybe(raw.fs_snapshot.as_ref()),
            transport: raw.transport,
            tags: raw.tags.as_ref().map(|tags| self.list(tags)),
            destinations: raw
                .destinations
                .as_ref()
                .map(|list| read_destinations(self, list)),
            commit: raw
                .commit
                .as_ref()
                .and_then(|commit| read_commit(self, commit)),
            keep: raw.keep.as_ref().map(|keep| read_keep(self, keep)),
            keep_floor: self
                .number(raw.keep_floor.as_ref(), KEEP_COUNT_MAX)
                .and_then(|floor| u32::try_from(floor).ok()),
            safety: read_safety(self, raw),
            timing: read_timing(self, raw),
            repository: self.maybe(raw.repository.as_ref()),
            hooks: raw.hook.as_ref().map(|hooks| read_hooks(self, hooks)),
            streams: raw
                .stream
                .as_ref()
                .map(|streams| read_streams(self, streams)),
            limits: raw
                .limits
                .as_ref()
                .map(|limits| self.limits(limits))
                .unwrap_or_default(),
        };
        (self.errors.count() == errors_before).then_some(settings)
    }

    /// Rules keep their repetitions: the last match wins, so a repeated rule can mean something.
    fn rules(&mut self, texts: &[Text]) -> Arc<[ExcludeRule]> {
        texts.iter().filter_map(|text| self.one(text)).collect()
    }

    fn limits(&mut self, raw: &RawHostLimits) -> LimitSettings {
        let most = u64::from(TUNNEL_CONNECTIONS_MAX);
        let connections = self.number(raw.tunnel_connections.as_ref(), most);
        let threads = self.number(raw.agent_threads.as_ref(), AGENT_THREADS_MAX);
        let nice = self.number(raw.nice.as_ref(), NICE_MAX);
        LimitSettings {
            connect: self.deadline(raw.connect.as_ref()),
            idle: self.deadline(raw.idle.as_ref()),
            run: self.deadline(raw.run.as_ref()),
            tunnel_connections: connections.and_then(|count| u8::try_from(count).ok()),
            agent_threads: threads.and_then(|count| u16::try_from(count).ok()),
            nice: nice.and_then(|nice| u8::try_from(nice).ok()),
            io_priority: self.maybe(raw.ionice.as_ref()),
            cpu: self.maybe(raw.cpu.as_ref()),
            bandwidth: raw
                .bandwidth
                .as_ref()
                .and_then(|bandwidth| read_bandwidth(self, bandwidth)),
        }
    }

    fn jump(&mut self, raw: &Spanned<RawJump>, name: &str) -> JumpSetting {
        let way = match raw.get_ref() {
            RawJump::Host(host) if host.is_empty() => JumpWay::Direct,
            RawJump::Host(host) => JumpWay::Host(host.clone()),
            RawJump::Login(login) => JumpWay::Login(Box::new(self.jump_login(login, name))),
        };
        JumpSetting {
            span: raw.span(),
            way,
        }
    }

    fn jump_login(&mut self, raw: &RawJumpLogin, name: &str) -> Settings {
        Settings {
            address: self.one(&raw.address),
            user: self.maybe(raw.user.as_ref()),
            identity_file: self.secret_file(
                raw.identity_file.as_ref(),
                &format!("{name}.jump.identity_file"),
            ),
            certificate_file: self.local_path(raw.certificate_file.as_ref()),
            use_agent: raw.use_agent,
            host_keys: Some(self.list(&raw.host_key)),
            ..Settings::default()
        }
    }
}
