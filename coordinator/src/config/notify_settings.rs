//! `[notify]` of coordinator.toml: who is told of what, and how.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use append_server::places::FileFacts;
use append_server::places::secret::{SecretKeys, SecretSource};
use append_server::places::table::KeyError;
use append_server::quantity::Span;
use jiff::civil::Time;
use serde::Deserialize;
use toml::Spanned;

use crate::config::prune_settings::{Zone, read_zone};
use crate::config::raw::Text;
use crate::config::settings::ValueReader;

/// The most targets.
const TARGETS_MAX: usize = 16;
/// How long a command may take: unless told otherwise, and at most.
const COMMAND_DEADLINE: Span = Span::from_secs(30);
const COMMAND_DEADLINE_MAX: Span = Span::from_secs(300);
/// From dead-man ping to dead-man ping.
const PING_EVERY: Span = Span::from_secs(300);

/// `[notify]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNotify {
    pub(super) digest: Option<Text>,
    pub(super) timezone: Option<Text>,
    #[serde(default)]
    pub(super) target: Vec<Spanned<RawTarget>>,
}

/// One `[[notify.target]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    name: Text,
    kind: RawKind,
    digest: Option<bool>,
    alerts: Option<bool>,
    url: Option<Text>,
    server: Option<Text>,
    security: Option<Security>,
    from: Option<Text>,
    to: Option<Vec<Text>>,
    user: Option<Text>,
    run: Option<Vec<Text>>,
    timeout: Option<Text>,
    every: Option<Text>,
    secret: Option<String>,
    secret_file: Option<String>,
    secret_command: Option<Vec<String>>,
    secret_env: Option<String>,
    secret_credential: Option<String>,
}

/// The kinds of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    Mail,
    Webhook,
    Ntfy,
    Gotify,
    Command,
    Ping,
}

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// In clear at first, then TLS, or not at all.
    Starttls,
    /// TLS from the beginning.
    Tls,
    /// In clear: for a server of this machine alone.
    None,
}

impl Security {
    /// Its word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Tls => "tls",
            Self::None => "none",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// Who is told of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotifySettings {
    /// When the daily digest goes out; never where there is none.
    pub digest: Option<Time>,
    /// Whose days and hours are meant.
    pub timezone: Zone,
    /// Everybody who is told.
    pub targets: Vec<Target>,
}

/// One who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is called.
    pub name: String,
    /// Whether it gets the daily digest.
    pub digest: bool,
    /// Whether it gets alerts.
    pub alerts: bool,
    /// How it is told.
    pub way: Way,
}

/// How somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A mail.
    Mail(Mail),
    /// A `POST` with JSON.
    Webhook(Endpoint),
    /// A topic of ntfy.
    Ntfy(Endpoint),
    /// An application of Gotify.
    Gotify(Endpoint),
    /// A program of this machine, with JSON on its standard input.
    Command {
        /// Its words.
        run: Vec<String>,
        /// How long it may take.
        timeout: Span,
    },
    /// A dead-man switch, which raises an alarm when it is not called.
    Ping {
        /// What is called.
        endpoint: Endpoint,
        /// How often.
        every: Span,
    },
}

impl Way {
    /// The kind's word in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail",
            Self::Webhook(_) => "webhook",
            Self::Ntfy(_) => "ntfy",
            Self::Gotify(_) => "gotify",
            Self::Command { .. } => "command",
            Self::Ping { .. } => "ping",
        }
    }
}

/// A mail's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The server's name.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub security: Security,
    /// Who sends.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// Who logs in, and with what.
    pub login: Option<(String, SecretSource)>,
}

/// A URL, and the secret that goes with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where `{secret}` in it stands for the secret; else the secret is sent as a token.
    pub url: String,
    /// The secret.
    pub secret: Option<SecretSource>,
}

impl Endpoint {
    /// The URL without what may be a secret in it.
    pub fn shown(&self) -> String {
        let authority = self.url.splitn(4, '/').take(3).collect::<Vec<_>>();
        format!("{}/…", authority.join("/"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Endpoint({})", self.shown())
    }
}

/// Why a target is refused.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not a name.
    #[error("{name:?} is no target's name: use 1 to 64 of a-z 0-9 . _ -, and each name once")]
    Name {
        /// What was written.
        name: String,
    },
    /// A key that this kind needs.
    #[error("a target of kind {kind} needs `{key}`: add {example}")]
    Missing {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
        /// How it could be written.
        example: &'static str,
    },
    /// A key that this kind does not have.
    #[error("`{key}` means nothing to a target of kind {kind}: remove it")]
    Unused {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// No URL.
    #[error(
        "{url:?} is no URL to post to: write https://HOST/PATH, or http:// for this machine and its network"
    )]
    Url {
        /// What was written.
        url: String,
    },
    /// No mail address.
    #[error("{address:?} is no mail address: write NAME@DOMAIN")]
    Address {
        /// What was written.
        address: String,
    },
    /// A server that is none.
    #[error("{server:?} is no mail server: write HOST or HOST:PORT")]
    Server {
        /// What was written.
        server: String,
    },
    /// A password in clear over the network.
    #[error(
        "security = \"none\" is for a server of this machine alone: use \"starttls\" or \"tls\" with {server}"
    )]
    Clear {
        /// The server.
        server: String,
    },
    /// More time than a program needs to pass a message on.
    #[error(
        "timeout = \"{timeout}\" is too long: a program has at most {max} for a message; let it pass on what takes longer, and end"
    )]
    TooLong {
        /// What was written.
        timeout: Span,
        /// The most.
        max: Span,
    },
    /// No time of day.
    #[error("{text:?} is no time of day: write it as in \"07:30\"")]
    Time {
        /// What was written.
        text: String,
    },
    /// More than anybody needs.
    #[error("there are more than {max} targets")]
    TooMany {
        /// The most.
        max: usize,
    },
    /// The secret.
    #[error(transparent)]
    Secret(#[from] KeyError),
}

pub(super) fn read_notify(
    reader: &mut ValueReader<'_>,
    raw: &RawNotify,
    file: FileFacts<'_>,
) -> NotifySettings {
    let mut targets: Vec<Target> = Vec::new();
    for table in &raw.target {
        let raw = table.get_ref();
        let span = raw.name.span();
        let name = raw.name.get_ref();
        if !is_name(name) || targets.iter().any(|target| target.name == *name) {
            let name = name.clone();
            reader.refuse(&span, TargetError::Name { name });
            continue;
        }
        if targets.len() == TARGETS_MAX {
            reader.refuse(&span, TargetError::TooMany { max: TARGETS_MAX });
            break;
        }
        match read_way(reader, raw, file) {
            Ok(way) => targets.push(Target {
                name: name.clone(),
                // A switch tells of nothing in words.
                digest: raw.digest.unwrap_or(true) && raw.kind != RawKind::Ping,
                alerts: raw.alerts.unwrap_or(true) && raw.kind != RawKind::Ping,
                way,
            }),
            Err(error) => reader.refuse(&span, error),
        }
    }
    let timezone = raw.timezone.as_ref();
    NotifySettings {
        digest: raw.digest.as_ref().and_then(|text| read_time(reader, text)),
        timezone: timezone
            .and_then(|text| read_zone(reader, text))
            .unwrap_or_default(),
        targets,
    }
}

fn read_time(reader: &mut ValueReader<'_>, text: &Text) -> Option<Time> {
    let parsed = text.get_ref().split_once(':').and_then(|(hour, minute)| {
        let number = |digits: &str| -> Option<i8> {
            let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain)
        };
        Time::new(number(hour)?, number(minute)?, 0, 0).ok()
    });
    if parsed.is_none() {
        let written = text.get_ref().clone();
        reader.refuse(&text.span(), TargetError::Time { text: written });
    }
    parsed
}

fn is_name(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

impl RawKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
            Self::Ntfy => "ntfy",
            Self::Gotify => "gotify",
            Self::Command => "command",
            Self::Ping => "ping",
        }
    }

    /// The keys that it has besides those of every kind.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Mail => &["server", "security", "from", "to", "user", "secret"],
            Self::Webhook | Self::Ntfy | Self::Gotify => &["url", "secret"],
            Self::Command => &["run", "timeout"],
            Self::Ping => &["url", "every", "secret"],
        }
    }
}

fn read_way(
    reader: &mut ValueReader<'_>,
    raw: &RawTarget,
    file: FileFacts<'_>,
) -> Result<Way, TargetError> {
    let kind = raw.kind.as_str();
    let secret = SecretKeys {
        key: "secret",
        literal: raw.secret.as_deref(),
        file: raw.secret_file.as_deref(),
        command: raw.secret_command.as_deref(),
        variable: raw.secret_env.as_deref(),
        credential: raw.secret_credential.as_deref(),
    };
    let given = [
        ("url", raw.url.is_some()),
        ("server", raw.server.is_some()),
        ("security", raw.security.is_some()),
        ("from", raw.from.is_some()),
        ("to", raw.to.is_some()),
        ("user", raw.user.is_some()),
        ("run", raw.run.is_some()),
        ("timeout", raw.timeout.is_some()),
        ("every", raw.every.is_some()),
        ("secret", secret.is_given()),
    ];
    let unused =
        |(key, is_given): &(&'static str, bool)| *is_given && !raw.kind.keys().contains(key);
    if let Some(&(key, _)) = given.iter().find(|key| unused(key)) {
        return Err(TargetError::Unused { kind, key });
    }
    let secret = secret.source(file)?;
    let endpoint = |secret| read_endpoint(raw, kind, secret);
    Ok(match raw.kind {
        RawKind::Mail => Way::Mail(read_mail(raw, secret)?),
        RawKind::Webhook => Way::Webhook(endpoint(secret)?),
        RawKind::Ntfy => Way::Ntfy(endpoint(secret)?),
        RawKind::Gotify => Way::Gotify(endpoint(secret)?),
        RawKind::Command => Way::Command {
            run: read_command(raw, kind)?,
            timeout: command_deadline(reader, raw.timeout.as_ref())?,
        },
        RawKind::Ping => Way::Ping {
            endpoint: endpoint(secret)?,
            every: reader.deadline(raw.every.as_ref()).unwrap_or(PING_EVERY),
        },
    })
}

fn command_deadline(
    reader: &mut ValueReader<'_>,
    text: Option<&Text>,
) -> Result<Span, TargetError> {
    let (timeout, max) = (
        reader.deadline(text).unwrap_or(COMMAND_DEADLINE),
        COMMAND_DEADLINE_MAX,
    );
    match timeout <= max {
        true => Ok(timeout),
        false => Err(TargetError::TooLong { timeout, max }),
    }
}

fn read_command(raw: &RawTarget, kind: &'static str) -> Result<Vec<String>, TargetError> {
    let words = raw.run.iter().flatten();
    let words: Vec<String> = words.map(|word| word.get_ref().clone()).collect();
    match words.first().is_some_and(|program| !program.is_empty()) {
        true => Ok(words),
        false => Err(TargetError::Missing {
            kind,
            key: "run",
            example: "run = [\"/usr/local/bin/alert\"]",
        }),
    }
}

fn read_endpoint(
    raw: &RawTarget,
    kind: &'static str,
    secret: Option<SecretSource>,
) -> Result<Endpoint, TargetError> {
    let url = raw.url.as_ref().ok_or(TargetError::Missing {
        kind,
        key: "url",
        example: "url = \"https://…\"",
    })?;
    let url = url.get_ref().clone();
    // With any secret in its place it must be a URL.
    let parsed = url.replace("{secret}", "x").parse::<http::Uri>();
    let is_good = parsed.is_ok_and(|uri| {
        let has_path = kind != "ntfy" || uri.path().len() > 1;
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && has_path
    });
    match is_good {
        true => Ok(Endpoint { url, secret }),
        false => Err(TargetError::Url { url }),
    }
}

fn read_mail(raw: &RawTarget, secret: Option<SecretSource>) -> Result<Mail, TargetError> {
    let kind = "mail";
    let missing = |key, example| TargetError::Missing { kind, key, example };
    let server = raw.server.as_ref().map(Text::get_ref);
    let server = server.ok_or(missing("server", "server = \"mail.example.com:587\""))?;
    let security = raw.security.unwrap_or(Security::Starttls);
    let (host, port) = split_server(server, security.port()).ok_or_else(|| {
        let server = server.clone();
        TargetError::Server { server }
    })?;
    if security == Security::None && !is_this_machine(&host) {
        let server = server.clone();
        return Err(TargetError::Clear { server });
    }
    let from = raw.from.as_ref().map(Text::get_ref);
    let from = from.ok_or(missing("from", "from = \"capstan@example.com\""))?;
    let to: Vec<&String> = raw.to.iter().flatten().map(Text::get_ref).collect();
    if to.is_empty() {
        return Err(missing("to", "to = [\"admin@example.com\"]"));
    }
    if let Some(address) = std::iter::once(from)
        .chain(to.iter().copied())
        .find(|address| address.parse::<lettre::Address>().is_err())
    {
        let address = address.clone();
        return Err(TargetError::Address { address });
    }
    let login = match (&raw.user, secret) {
        (Some(user), Some(secret)) => Some((user.get_ref().clone(), secret)),
        (None, None) => None,
        (Some(_), None) => return Err(missing("secret", "secret_file = \"mail.password\"")),
        (None, Some(_)) => return Err(missing("user", "user = \"capstan\"")),
    };
    Ok(Mail {
        server: host,
        port,
        security,
        from: from.clone(),
        to: to.into_iter().cloned().collect(),
        login,
    })
}

fn split_server(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) if !host.contains(':') || host.ends_with(']') => {
            (host, digits.parse().ok()?)
        }
        _ => (text, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    let is_good = !host.is_empty() && host.bytes().all(plain);
    is_good.then(|| (host.to_owned(), port))
}

fn is_this_machine(host: &str) -> bool {
    let is_v4 = host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    let is_v6 = host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback());
    host == "localhost" || is_v4 || is_v6
}
