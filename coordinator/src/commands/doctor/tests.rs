//! What `doctor` finds on a real directory, well and broken.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use formats::keys::bundle::PasswordCost;
use serde_json::Value;
use tempfile::TempDir;

use crate::clock::{Clock, FixedClock, SystemClock};
use crate::commands::doctor::doctor_command;
use crate::commands::init::{AdminPassword, Elsewhere, InitOptions, InitPaths, init};
use crate::commands::key::record_proof;
use crate::config::sample::{HOSTS_TOML, InitValues, coordinator_toml};
use crate::exit_code::ExitCode;
use crate::storage::embedded::create_destination;

/// What `init` makes, with one host that is trusted.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let paths =
        InitPaths::resolve(&directory.path().join("capstan"), Elsewhere::default()).unwrap();
    let text = coordinator_toml(&InitValues {
        state_dir: Path::new("state"),
        destination: &paths.destination,
        bundle: "keys/daemon.bundle",
        key_file: "keys/daemon.key",
        socket_dir: None,
    })
    .unwrap();
    let options = InitOptions {
        paths: &paths,
        coordinator_toml: &text,
        hosts_toml: HOSTS_TOML,
        admin: AdminPassword::NoAdmin,
        password_cost: PasswordCost::SMALL,
        coordinator: "test",
        now: SystemClock.now(),
    };
    init(&options, create_destination).unwrap();
    let host = "[host.web1]\naddress = \"web1\"\nuser = \"root\"\nuse_agent = true\npaths = [\"/\"]\n\
        host_key = [\"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"]\n";
    std::fs::write(directory.path().join("capstan/hosts.toml"), host).unwrap();
    directory
}

async fn findings(
    directory: &Path,
    clock: &dyn Clock,
) -> (ExitCode, Vec<(String, String, String)>) {
    let mut out = Vec::new();
    let file = directory.join("capstan/coordinator.toml");
    let code = doctor_command(&file, clock, true, &mut out).await.unwrap();
    let found: Value = serde_json::from_slice(&out).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = found.as_array().unwrap().iter();
    let found = found.map(|found| {
        (
            text(&found["about"]),
            text(&found["verdict"]),
            text(&found["text"]),
        )
    });
    (code, found.collect())
}

#[track_caller]
fn assert_found(found: &[(String, String, String)], about: &str, verdict: &str, text: &str) {
    let hit = found
        .iter()
        .any(|(a, v, t)| a == about && v == verdict && t.contains(text));
    assert!(hit, "{about} {verdict} {text:?} is not in {found:#?}");
}

#[tokio::test]
async fn a_new_directory_works_and_what_a_person_should_do_is_told() {
    let directory = directory();
    let (code, found) = findings(directory.path(), &SystemClock).await;
    assert_eq!(code, ExitCode::Warnings, "{found:#?}");
    assert_found(&found, "configuration", "ok", "1 hosts");
    assert_found(&found, "secrets", "ok", "every key file");
    assert_found(&found, "keys", "ok", "unlocked as daemon");
    assert_found(&found, "recovery kit", "warn", "move it off");
    assert_found(&found, "recovery kit", "warn", "never proved");
    assert_found(&found, "state", "ok", "free");
    assert_found(&found, "destination local", "ok", "0 repositories");
    assert_found(&found, "destinations", "warn", "elsewhere");
    assert_found(&found, "scan", "off", "never scans");
    assert_found(&found, "hosts", "off", "without `schedule`");
    assert_found(
        &found,
        "hosts",
        "off",
        "without `keep`: every snapshot stays, and prune refuses (web1)",
    );
    assert!(
        !found
            .iter()
            .any(|(_, _, text)| text.contains("not trusted")),
        "{found:#?}"
    );
}

#[tokio::test]
async fn a_host_without_a_limit_is_a_warning_where_what_it_stores_is_locked() {
    let directory = directory();
    let without = "without a hard `max_new` or `quota`";
    let (_, found) = findings(directory.path(), &SystemClock).await;
    assert_found(&found, "hosts", "off", without);

    let file = directory.path().join("capstan/coordinator.toml");
    let locking = "\n[[destination]]\nname = \"s3\"\nurl = \"s3://bucket\"\nrequired = false\nretain = \"30d\"\n\
        endpoint = \"http://127.0.0.1:9\"\naccess_key_id = \"id\"\nsecret_key_env = \"CAPSTAN_TEST_NO_SECRET\"\n";
    let config = std::fs::read_to_string(&file).unwrap() + locking;
    std::fs::write(&file, config).unwrap();
    let (_, found) = findings(directory.path(), &SystemClock).await;
    assert_found(&found, "hosts", "warn", without);
    let hosts = directory.path().join("capstan/hosts.toml");
    let limited = std::fs::read_to_string(&hosts).unwrap() + "max_new = \"100GiB\"\n";
    std::fs::write(&hosts, limited).unwrap();
    let (_, found) = findings(directory.path(), &SystemClock).await;
    assert!(
        !found.iter().any(|(_, _, text)| text.contains(without)),
        "{found:#?}"
    );
}

#[tokio::test]
async fn what_is_broken_fails_with_its_remedy_and_ends_with_1() {
    let directory = directory();
    let state = directory.path().join("capstan/state");
    record_proof(&state, "2026-11-29T02:00:00Z".parse().unwrap()).unwrap();
    let path = |name: &str| directory.path().join("capstan").join(name);
    let open = |name: &str, mode| {
        std::fs::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    std::fs::remove_file(path("recovery-kit.txt")).unwrap();
    open("keys/daemon.key", 0o644);
    open("state", 0o755);
    std::fs::rename(path("repository"), path("gone")).unwrap();
    let (code, found) = findings(directory.path(), &SystemClock).await;
    assert_eq!(code, ExitCode::Error);
    assert_found(&found, "secrets", "fail", "chmod 600");
    assert_found(&found, "keys", "fail", "daemon.key");
    assert_found(&found, "recovery kit", "ok", "is not in");
    assert_found(
        &found,
        "recovery kit",
        "ok",
        "proved at 2026-11-29T02:00:00Z",
    );
    assert_found(&found, "state", "fail", "chmod 700");
    assert_found(&found, "destination local", "fail", "repository");
}

#[tokio::test]
async fn a_clock_behind_the_state_fails_and_a_wrong_configuration_is_all_that_is_told() {
    let directory = directory();
    std::fs::write(directory.path().join("capstan/state/state.db"), "").unwrap();
    let old = FixedClock::at("2001-01-01T00:00:00Z".parse().unwrap());
    let (code, found) = findings(directory.path(), &old).await;
    assert_eq!(code, ExitCode::Error);
    assert_found(&found, "clock", "fail", "set the clock");

    std::fs::write(
        directory.path().join("capstan/hosts.toml"),
        "[host.web1]\nadress = 1\n",
    )
    .unwrap();
    let (code, found) = findings(directory.path(), &SystemClock).await;
    assert_eq!((code, found.len()), (ExitCode::Error, 1));
    assert_found(&found, "configuration", "fail", "did you mean `address`?");
}
