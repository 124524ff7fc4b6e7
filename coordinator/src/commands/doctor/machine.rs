//! What `doctor` finds on this machine: secrets, keys, the recovery kit, the state directory, the clock. Never asks for a
//! password.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::commands::doctor::{Finding, Verdict};
use crate::commands::init::RECOVERY_KIT;
use crate::commands::key::last_proof;
use crate::config::Config;
use crate::config::coordinator_file::Unlock;
use crate::coordinator::unlock_from;
use crate::keyring::Keyring;
use crate::repository::layout::StateDir;
use crate::terminal::{error_line, size_text};

/// Where systemd-timesyncd says that the clock was set by a server.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// How far ahead of the clock a file may have been written: file systems and clocks round.
const AHEAD_MAX: Duration = Duration::from_secs(300);

pub(super) fn look(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = secrets(config);
    findings.push(keys(config));
    findings.extend(kit(config));
    findings.extend(state(config));
    findings.push(clock(config, now));
    findings
}

fn secrets(config: &Config) -> Vec<Finding> {
    match config.check_files() {
        Ok(()) => vec![Finding::new(
            "secrets",
            Verdict::Ok,
            "every key file is there and its owner's alone",
        )],
        Err(errors) => {
            let each = errors.errors().iter();
            each.map(|error| Finding::new("secrets", Verdict::Fail, error.to_string()))
                .collect()
        }
    }
}

fn keys(config: &Config) -> Finding {
    let found = |verdict, text: String| Finding::new("keys", verdict, text);
    let Some(bundle) = &config.keys.bundle else {
        return found(
            Verdict::Fail,
            "no key bundle is configured: run `coordinator init`, or set bundle under [keys]"
                .to_owned(),
        );
    };
    if config.keys.unlock == Unlock::Prompt {
        return found(
            Verdict::Warn,
            "the password is asked for, so nothing runs unattended: set key_file under [keys]"
                .to_owned(),
        );
    }
    match Keyring::unlock(bundle, &unlock_from(&config.keys.unlock)) {
        Ok(keyring) => {
            let text = format!("unlocked as {}, role {}", keyring.user(), keyring.role());
            found(Verdict::Ok, text)
        }
        Err(error) => found(Verdict::Fail, error_line(&error)),
    }
}

/// The kit opens everything, so that it must exist and must not be here.
fn kit(config: &Config) -> Vec<Finding> {
    let directory = config.file.parent().unwrap_or(Path::new("."));
    let kit = directory.join(RECOVERY_KIT);
    let found = |verdict, text: String| Finding::new("recovery kit", verdict, text);
    let place = match kit.exists() {
        true => {
            let text = format!("{} is on this machine: move it off", kit.display());
            found(Verdict::Warn, text)
        }
        false => found(Verdict::Ok, format!("is not in {}", directory.display())),
    };
    let proof = match last_proof(&config.state_dir) {
        Some(at) => found(Verdict::Ok, format!("last proved at {at}")),
        None => found(
            Verdict::Warn,
            "was never proved here: run `coordinator key verify-kit KIT`".to_owned(),
        ),
    };
    vec![place, proof]
}

fn state(config: &Config) -> Vec<Finding> {
    let directory = &config.state_dir;
    let found = |verdict, text| Finding::new("state", verdict, text);
    let metadata = match std::fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!(
                "{} is not there; the first run makes it",
                directory.display()
            );
            return vec![found(Verdict::Warn, text)];
        }
        Err(error) => {
            let text = format!("{} cannot be looked at: {error}", directory.display());
            return vec![found(Verdict::Fail, text)];
        }
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = directory.display();
        let text = format!("{path} is open to others (mode {mode:04o}): run `chmod 700 {path}`");
        return vec![found(Verdict::Fail, text)];
    }
    vec![space(config)]
}

fn space(config: &Config) -> Finding {
    let directory = &config.state_dir;
    let found = |verdict, text| Finding::new("state", verdict, text);
    match rustix::fs::statvfs(directory) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let shown = format!("{}, {} free", directory.display(), size_text(free));
            if free < config.limits.reserve.bytes() {
                let text = format!("{shown}, less than [limits] reserve: make room there");
                return found(Verdict::Fail, text);
            }
            found(Verdict::Ok, shown)
        }
        Err(error) => {
            let text = format!("{}: free space is not known: {error}", directory.display());
            found(Verdict::Warn, text)
        }
    }
}

/// Retention and locks go by the clock.
fn clock(config: &Config, now: Timestamp) -> Finding {
    let found = |verdict, text: String| Finding::new("clock", verdict, text);
    let file = StateDir::new(&config.state_dir).state_file();
    let written = std::fs::metadata(&file).and_then(|metadata| metadata.modified());
    let written = written.ok().and_then(|at| Timestamp::try_from(at).ok());
    if let Some(written) = written
        && written > now
        && written.duration_since(now).unsigned_abs() > AHEAD_MAX
    {
        let text = format!(
            "it is {now}, and the state was written at {written}: set the clock before anything is pruned"
        );
        return found(Verdict::Fail, text);
    }
    if Path::new(SYNCHRONIZED).exists() {
        return found(Verdict::Ok, "set by a time server".to_owned());
    }
    found(
        Verdict::Off,
        "no systemd-timesyncd sets it: see to it that another service does".to_owned(),
    )
}
