//! The revision follows values alone, and the record of what was applied survives and is checked.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

use crate::config::Config;
use crate::config::revision::{
    APPLIED_FILE, AppliedError, ConfigRevision, read_applied, record_applied,
};

const COORDINATOR: &str =
    "state_dir = \"state\"\n[[destination]]\nname = \"local\"\nurl = \"file:///srv/backup\"\n";
const HOSTS: &str = "[defaults]\nuser = \"root\"\nuse_agent = true\npaths = [\"/\"]\n\
    [group.db]\ntransport = \"tcp\"\n[host.a]\naddress = \"a\"\n[host.b]\naddress = \"b\"\ngroups = [\"db\"]\n";

fn load(directory: &Path, coordinator: &str, hosts: &str) -> Config {
    std::fs::create_dir_all(directory.join("state")).unwrap();
    std::fs::write(directory.join("coordinator.toml"), coordinator).unwrap();
    std::fs::write(directory.join("hosts.toml"), hosts).unwrap();
    Config::load(&directory.join("coordinator.toml")).unwrap()
}

#[test]
fn a_revision_changes_with_values_and_with_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let revision = |coordinator: &str, hosts: &str| {
        ConfigRevision::of(&load(directory.path(), coordinator, hosts)).full()
    };
    let first = revision(COORDINATOR, HOSTS);
    assert_eq!(first.len(), 64);
    let moved = "# a comment\n[host.b]\ngroups = [\"db\"]\naddress = \"b:22\"\n[group.db]\n\ntransport = \"tcp\"\n\
        [host.a]\naddress = \"a\"\nuser = \"root\"\n[defaults]\nuse_agent = true\nuser = \"root\"\npaths = [\"/\"]\n";
    assert_eq!(revision(COORDINATOR, moved), first);
    for (from, to) in [
        ("\"tcp\"", "\"unix\""),
        ("address = \"a\"", "address = \"c\""),
        ("[host.a]", "[host.c]"),
        ("user = \"root\"", "user = \"r\""),
        ("paths = [\"/\"]", "paths = [\"/etc\"]"),
    ] {
        let changed = revision(COORDINATOR, &HOSTS.replace(from, to));
        assert_ne!(changed, first, "{from} -> {to}");
    }
    let changed = revision(&COORDINATOR.replace("/srv/backup", "/srv/other"), HOSTS);
    assert_ne!(changed, first);
}

#[test]
fn what_was_applied_is_read_back_and_is_the_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = load(directory.path(), COORDINATOR, HOSTS);
    assert!(read_applied(&config.state_dir).unwrap().is_none());
    let at: Timestamp = "2026-11-29T02:00:00Z".parse().unwrap();
    let revision = record_applied(&config, at).unwrap();
    let applied = read_applied(&config.state_dir).unwrap().unwrap();
    assert_eq!(applied.revision, revision.full());
    assert_eq!(applied.applied_at, "2026-11-29T02:00:00Z");
    assert_eq!(applied.effective["host"]["b"]["transport"], "tcp");
    assert_eq!(revision, ConfigRevision::of(&config));
    assert!(revision.full().starts_with(&revision.to_string()));
    let path = config.state_dir.join(APPLIED_FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    record_applied(&config, at).unwrap();
    let files = std::fs::read_dir(&config.state_dir).unwrap().count();
    assert_eq!(files, 1, "something temporary was left");
}

#[test]
fn a_record_of_another_format_or_none_is_refused_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(APPLIED_FILE);
    std::fs::write(&path, "{\"format\": 7}").unwrap();
    let error = read_applied(directory.path()).unwrap_err();
    assert!(matches!(error, AppliedError::Format { found: 7, .. }));
    std::fs::write(&path, "not json").unwrap();
    let error = read_applied(directory.path()).unwrap_err();
    assert!(error.to_string().contains("reload the daemon"), "{error}");
}
