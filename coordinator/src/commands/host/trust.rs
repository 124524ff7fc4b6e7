//! `host trust`: shows the keys of a host and of the hosts on the way to it, and pins what the operator
//! confirms. Nothing else in the program ever trusts a key by itself, and nothing is pinned half.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use append_server::ssh::error::SshError;
use append_server::ssh::host_key::{Fingerprint, FingerprintError, ScannedKey, scan_host_key};
use append_server::ssh::target::SshTarget;
use serde::Serialize;

use crate::audit::alone;
use crate::backup::login::{LoginError, ssh_target};
use crate::clock::SystemClock;
use crate::config::host::{Host, Jump};
use crate::config::login_fields::HostKeyFingerprint;
use crate::config::name::HostName;
use crate::config::pin::{PinError, Pinned, add_host_keys};
use crate::config::{Config, UnknownHost};
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::repository::layout::StateDir;
use crate::terminal::write_json;

/// Why a host is not trusted now.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// No such host.
    #[error(transparent)]
    UnknownHost(#[from] UnknownHost),
    /// Its configuration gives no connection.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Nobody logs in to it.
    #[error(
        "{host} is the machine of the coordinator, which nobody logs in to: it has no key to trust"
    )]
    Local {
        /// The host.
        host: String,
    },
    /// `--fingerprint` is none.
    #[error("--fingerprint cannot be used")]
    Fingerprint(#[from] FingerprintError),
    /// The host cannot be asked for its keys.
    #[error(transparent)]
    Ssh(Box<SshError>),
    /// The keys could not be written.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// None of the keys is the one that was expected.
    #[error(
        "{host} shows none of the keys named by --fingerprint {expected}: somebody may be in between; nothing was pinned"
    )]
    NotTheExpected {
        /// The host.
        host: String,
        /// What was expected.
        expected: Fingerprint,
    },
    /// The host had other keys before, and nobody is there to look at the new ones.
    #[error(
        "{host} shows none of its pinned keys: somebody may be in between; if the host was installed anew, \
         compare with `ssh-keygen -lf` on it, take the old host_key out of {}, and run `coordinator host trust {host} \
         --fingerprint SHA256:…`",
        file.display()
    )]
    Changed {
        /// The host.
        host: String,
        /// Where the old keys are pinned.
        file: PathBuf,
    },
    /// There is nobody to ask.
    #[error(
        "there is no terminal to ask on: compare the fingerprints and run `coordinator host trust {host} --fingerprint \
         SHA256:…`, or with --yes on a network you trust"
    )]
    NobodyToAsk {
        /// The host.
        host: String,
    },
    /// The operator said no.
    #[error("the keys of {host} were not confirmed; nothing was pinned")]
    Refused {
        /// The host.
        host: String,
    },
    /// A jump host that is written out inside another host's table has no table of its own to pin into.
    #[error("pin the jump host of {host} by hand: add host_key = [{keys}] to [host.{host}.jump] in {}", file.display())]
    JumpWithoutName {
        /// The host it leads to.
        host: String,
        /// Its keys, quoted.
        keys: String,
        /// The file.
        file: PathBuf,
    },
    /// A terminal or stdout failed.
    #[error("cannot ask or answer")]
    Terminal(#[from] io::Error),
}

impl From<SshError> for TrustError {
    fn from(error: SshError) -> Self {
        Self::Ssh(Box::new(error))
    }
}

impl TrustError {
    /// The number to end with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::UnknownHost(_) => ExitCode::NotFound,
            Self::NotTheExpected { .. } | Self::Changed { .. } => ExitCode::HostKeyMismatch,
            Self::Ssh(error) if error.is_host_key_mismatch() => ExitCode::HostKeyMismatch,
            _ => ExitCode::Error,
        }
    }
}

/// What the operator answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The keys are right.
    Yes,
    /// They are not, or it is not known.
    No,
    /// There is no terminal.
    Nobody,
}

/// How keys become trusted.
pub enum Consent<'a> {
    /// Whatever the host shows, as `--yes` says.
    Given,
    /// Only this key.
    Only(Fingerprint),
    /// Somebody is asked.
    Ask(&'a mut (dyn FnMut(&str) -> io::Result<Answer> + Send)),
}

/// What came of it; also what `host trust --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustReport {
    /// The host.
    pub host: String,
    /// Every host on the way whose keys were looked at, itself last.
    pub trusted: Vec<TrustedHost>,
}

/// One host's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustedHost {
    /// The host.
    pub host: String,
    /// The keys that are pinned now.
    pub host_keys: Vec<String>,
    /// How many of them were not before.
    pub added: usize,
    /// The file they are pinned in.
    pub file: String,
}

/// Asks on the terminal; anything but a whole "yes" is a no.
pub fn ask_on_terminal(question: &str) -> io::Result<Answer> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(Answer::Nobody);
    }
    let mut screen = io::stderr().lock();
    write!(screen, "{question} [yes/no] ")?;
    screen.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(match line.trim() {
        "yes" => Answer::Yes,
        _ => Answer::No,
    })
}

/// Trusts a host and, before it, every host on the way that is not trusted yet.
///
/// Fingerprints are shown on `screen`, before anybody is asked.
pub async fn trust(
    config: &Config,
    name: &str,
    mut consent: Consent<'_>,
    screen: &mut (dyn Write + Send),
) -> Result<TrustReport, TrustError> {
    let mut host = config.host(name)?.clone();
    if host.local {
        let host = host.name.to_string();
        return Err(TrustError::Local { host });
    }
    let mut trusted = Vec::new();
    for hop in 0..host.jumps.len() {
        let jump = &host.jumps[hop];
        if !jump.login.host_keys.is_empty() {
            continue;
        }
        let target = hop_target(&host, hop)?;
        let place = jump_place(config, &host, jump, &target).await?;
        // A fingerprint on the command line is of the host itself, never of one on the way.
        let mut of_jump = match &mut consent {
            Consent::Given => Consent::Given,
            Consent::Only(_) => Consent::Ask(&mut ask_on_terminal),
            Consent::Ask(ask) => Consent::Ask(*ask),
        };
        let keys = trust_one(&place, &target, &mut of_jump, screen).await?;
        host.jumps[hop].login.host_keys = keys.pinned.clone();
        trusted.push(keys.told(&place));
    }
    let place = Place {
        name: host.name.clone(),
        file: host.defined_at.file.to_path_buf(),
    };
    let keys = trust_one(&place, &ssh_target(&host)?, &mut consent, screen).await?;
    trusted.push(keys.told(&place));
    Ok(TrustReport {
        host: host.name.to_string(),
        trusted,
    })
}

/// Records in the audit log what was pinned.
pub fn record(config: &Config, report: &TrustReport) {
    let added = report.trusted.iter().filter(|host| host.added > 0);
    let events = added.map(|host| {
        let fingerprint = host.host_keys.join(" ");
        Event::of_host(&host.host, What::HostTrusted { fingerprint })
    });
    alone::record(
        &StateDir::new(&config.state_dir),
        &SystemClock,
        events.collect(),
    );
}

/// Writes what came of it.
pub fn write_report(report: &TrustReport, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return write_json(out, report);
    }
    for one in &report.trusted {
        let keys = one.host_keys.join(" ");
        match one.added {
            0 => writeln!(out, "{}: already trusted: {keys}", one.host)?,
            _ => writeln!(out, "{}: pinned in {}: {keys}", one.host, one.file)?,
        }
    }
    Ok(())
}

/// Which table of which file gets the keys.
struct Place {
    name: HostName,
    file: PathBuf,
}

/// Where the keys of a jump host belong; one without a table can only be told.
async fn jump_place(
    config: &Config,
    host: &Host,
    jump: &Jump,
    target: &SshTarget,
) -> Result<Place, TrustError> {
    if let Some(own) = jump.host.as_ref().and_then(|name| config.hosts.get(name)) {
        return Ok(Place {
            name: own.name.clone(),
            file: own.defined_at.file.to_path_buf(),
        });
    }
    let shown = scan_host_key(target).await?;
    let keys: Vec<String> = shown
        .iter()
        .map(|key| format!("\"{}\"", key.fingerprint))
        .collect();
    Err(TrustError::JumpWithoutName {
        host: host.name.to_string(),
        keys: keys.join(", "),
        file: host.defined_at.file.to_path_buf(),
    })
}

/// The connection to one hop: the innermost target is the first.
fn hop_target(host: &Host, hop: usize) -> Result<SshTarget, TrustError> {
    let mut target = ssh_target(host)?;
    for _ in hop..host.jumps.len() {
        match target.jump.take() {
            Some(jump) => target = *jump,
            None => break,
        }
    }
    Ok(target)
}

/// The keys of one host that are pinned now.
struct Keys {
    pinned: Vec<HostKeyFingerprint>,
    added: usize,
}

impl Keys {
    fn told(&self, place: &Place) -> TrustedHost {
        TrustedHost {
            host: place.name.to_string(),
            host_keys: self.pinned.iter().map(ToString::to_string).collect(),
            added: self.added,
            file: place.file.display().to_string(),
        }
    }
}

async fn trust_one(
    place: &Place,
    target: &SshTarget,
    consent: &mut Consent<'_>,
    screen: &mut (dyn Write + Send),
) -> Result<Keys, TrustError> {
    let shown = scan_host_key(target).await?;
    show(target, &shown, screen)?;
    let known = |key: &&ScannedKey| target.host_keys.contains(&key.fingerprint);
    let changed = !target.host_keys.is_empty() && !shown.iter().any(|key| known(&key));
    let wanted: Vec<&ScannedKey> = match consent {
        Consent::Only(expected) => {
            let only: Vec<_> = shown
                .iter()
                .filter(|key| key.fingerprint == *expected)
                .collect();
            if only.is_empty() {
                return Err(TrustError::NotTheExpected {
                    host: target.name.clone(),
                    expected: *expected,
                });
            }
            only
        }
        Consent::Given | Consent::Ask(_) => shown.iter().collect(),
    };
    if !wanted.iter().all(known) {
        confirm(target, place, changed, consent)?;
    }
    pin(place, &wanted)
}

fn show(
    target: &SshTarget,
    shown: &[ScannedKey],
    screen: &mut (dyn Write + Send),
) -> io::Result<()> {
    writeln!(screen, "{} at {} shows:", target.name, target.address)?;
    for key in shown {
        let known = match target.host_keys.contains(&key.fingerprint) {
            true => "  (pinned)",
            false => "",
        };
        writeln!(screen, "  {:<20} {}{known}", key.algorithm, key.fingerprint)?;
    }
    Ok(())
}

fn confirm(
    target: &SshTarget,
    place: &Place,
    changed: bool,
    consent: &mut Consent<'_>,
) -> Result<(), TrustError> {
    let host = target.name.clone();
    let question = match changed {
        false => format!(
            "Compare with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on {host}. Are they right?"
        ),
        true => format!(
            "WARNING: none of these is pinned for {host} so far: somebody may be in between. Are they right?"
        ),
    };
    match consent {
        Consent::Only(_) => Ok(()),
        Consent::Given if changed => Err(TrustError::Changed {
            host,
            file: place.file.clone(),
        }),
        Consent::Given => Ok(()),
        Consent::Ask(ask) => match ask(&question)? {
            Answer::Yes => Ok(()),
            Answer::No => Err(TrustError::Refused { host }),
            Answer::Nobody => Err(TrustError::NobodyToAsk { host }),
        },
    }
}

fn pin(place: &Place, wanted: &[&ScannedKey]) -> Result<Keys, TrustError> {
    // Both are SHA-256 fingerprints in OpenSSH's form; what one prints the other reads.
    let pinned: Vec<HostKeyFingerprint> = wanted
        .iter()
        .filter_map(|key| key.fingerprint.to_string().parse().ok())
        .collect();
    let file: &Path = &place.file;
    let added = match add_host_keys(file, &place.name, &pinned)? {
        Pinned::Added(count) => count,
        Pinned::Unchanged => 0,
    };
    Ok(Keys { pinned, added })
}
