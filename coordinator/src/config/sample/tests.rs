//! The samples are what they say: complete, valid as they are, and valid with every key uncommented.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::coordinator_file::{AppendServer, CoordinatorLimits, Log};
use crate::config::cpu_limit::CpuLimit;
use crate::config::host::HostLimits;
use crate::config::sample::{
    APPEND_SERVER_TOML, COORDINATOR_TOML, HOSTS_TOML, InitValues, coordinator_toml,
};

/// "#key" shows a key; "# text" is a comment.
fn uncommented(sample: &str) -> String {
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => {
            key
        }
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Of the ways to have a secret, which exclude each other, the file.
fn without_other_ways(sample: &str) -> String {
    let others = ["secret_key", "secret", "password"].map(|secret| {
        ["", "_command", "_env", "_credential"].map(|way| format!("{secret}{way} = "))
    });
    let kept = sample
        .lines()
        .filter(|line| !others.iter().flatten().any(|other| line.starts_with(other)))
        .filter(|line| !line.starts_with("key_credential = "));
    kept.map(|line| format!("{line}\n")).collect()
}

fn load(coordinator: &str, hosts: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("coordinator.toml"), coordinator).unwrap();
    std::fs::write(directory.path().join("hosts.toml"), hosts).unwrap();
    Config::load(&directory.path().join("coordinator.toml"))
        .unwrap_or_else(|errors| unreachable!("{errors}"))
}

#[test]
fn samples_load_as_they_are() {
    let config = load(COORDINATOR_TOML, HOSTS_TOML);
    assert!(config.hosts.is_empty());
    assert_eq!(config.destinations[0].url, "file:///srv/backup");
    toml::from_str::<toml::Table>(APPEND_SERVER_TOML).unwrap();
}

#[test]
fn samples_load_with_every_key_uncommented() {
    // The two ways to unlock exclude each other, so each is tried alone.
    let all = without_other_ways(&uncommented(COORDINATOR_TOML));
    for without in ["key_file = ", "password_file = "] {
        let kept = all.lines().filter(|line| !line.starts_with(without));
        let coordinator: String = kept.map(|line| format!("{line}\n")).collect();
        let config = load(&coordinator, &uncommented(HOSTS_TOML));
        assert_eq!(config.hosts.len(), 4);
        assert!(config.host("backup").unwrap().local);
        assert_eq!(
            config.host("db1").unwrap().jumps[0].login.address.port(),
            2222
        );
        assert_eq!(config.host("web1").unwrap().jumps.len(), 1);
    }
    toml::from_str::<toml::Table>(&uncommented(APPEND_SERVER_TOML)).unwrap();
}

#[test]
fn values_shown_as_defaults_are_the_defaults() {
    let coordinator = without_other_ways(&uncommented(COORDINATOR_TOML))
        .replace("password_file", "#password_file");
    let shown = load(&coordinator, HOSTS_TOML);
    assert_eq!(shown.limits, CoordinatorLimits::default());
    assert_eq!(shown.log, Log::default());
    assert!(shown.destinations[0].required);
    assert_eq!(shown.hosts_file.file_name().unwrap(), "hosts.toml");
    let config = load(&coordinator, &uncommented(HOSTS_TOML));
    let limits = config.host("db1").unwrap().limits.clone();
    assert_eq!(
        HostLimits {
            agent_threads: None,
            nice: 0,
            io_priority: None,
            cpu: CpuLimit::default(),
            bandwidth: None,
            ..limits
        },
        HostLimits::default()
    );
}

#[test]
fn samples_show_every_key() {
    let unknown = "zzzzzzzzzzzz = 1\n";
    for (sample, header) in [
        (COORDINATOR_TOML, ""),
        (COORDINATOR_TOML, "[keys]\n"),
        (COORDINATOR_TOML, "[limits]\n"),
        (COORDINATOR_TOML, "[scan]\n"),
        (COORDINATOR_TOML, "[agents]\n"),
        (COORDINATOR_TOML, "[append_server]\n"),
        (COORDINATOR_TOML, "[log]\n"),
        (COORDINATOR_TOML, "[listener]\n"),
        (COORDINATOR_TOML, "[notify]\n"),
        (
            COORDINATOR_TOML,
            "[[notify.target]]\nname = \"a\"\nkind = \"mail\"\n",
        ),
        (COORDINATOR_TOML, "[[destination]]\n"),
    ] {
        let probe = format!("{header}{unknown}");
        let error = toml::from_str::<crate::config::raw::RawCoordinator>(&probe).unwrap_err();
        assert_shows(sample, error.message());
    }
    for header in [
        "[defaults]\n",
        "[defaults.limits]\n",
        "[host.a.jump]\n",
        "[[host.a.hook]]\n",
        "[[host.a.stream]]\n",
    ] {
        let probe = format!("{header}{unknown}");
        let error = toml::from_str::<crate::config::raw::RawHosts>(&probe).unwrap_err();
        assert_shows(HOSTS_TOML, error.message());
    }
}

/// The reader lists the keys it knows; each has to be in the sample.
#[track_caller]
fn assert_shows(sample: &str, complaint: &str) {
    let known: Vec<&str> = complaint.split('`').skip(3).step_by(2).collect();
    assert!(!known.is_empty(), "{complaint}");
    for key in known {
        let shown = sample.lines().any(|line| {
            let line = line.trim_start_matches(['#', '[']);
            line.starts_with(&format!("{key} ="))
                || line.starts_with(&format!("{key}]"))
                || line.starts_with(&format!("{key}."))
                || line.split(['.', ']']).skip(1).any(|part| part == key)
        });
        assert!(shown, "the sample does not show `{key}`");
    }
}

#[test]
fn init_values_replace_the_samples_and_comments_stay() {
    let text = coordinator_toml(&InitValues {
        state_dir: Path::new("state"),
        destination: Path::new("/data/it's \"here\""),
        bundle: "keys/d.bundle",
        key_file: "keys/d.key",
        socket_dir: Some(Path::new("/run/it's \"there\"")),
    })
    .unwrap();
    assert_eq!(text.lines().count(), COORDINATOR_TOML.lines().count());
    assert!(text.contains("# What unlocks it"));
    let config = load(&text, HOSTS_TOML);
    assert!(config.state_dir.ends_with("state"));
    assert_eq!(config.destinations[0].url, "file:///data/it's \"here\"");
    let socket_dir = PathBuf::from("/run/it's \"there\"");
    assert_eq!(config.append_server, AppendServer::External { socket_dir });
}
