//! Where keys and passwords come from, and who else may read them.

use std::os::unix::fs::MetadataExt;

use crate::config::coordinator_file::Unlock;
use crate::config::tests::{COORDINATOR, Fixture, HOSTS, assert_says, refused_coordinator};

#[test]
fn keys_have_one_way_to_be_unlocked_and_a_bundle() {
    let text = refused_coordinator(&format!("{COORDINATOR}password_file = \"p\"\n"));
    assert_says(
        &text,
        &["coordinator.toml:10:17: keys.password_file", "keep one"],
    );
    let text = refused_coordinator(&COORDINATOR.replace("bundle = \"keys/daemon.bundle\"\n", ""));
    assert_says(
        &text,
        &["coordinator.toml:8:12: keys.key_file", "needs `bundle`"],
    );
}

#[test]
fn the_password_comes_from_one_place_and_stands_in_a_private_file_only() {
    let with = |line: &str| COORDINATOR.replace("key_file = \"keys/daemon.key\"", line);
    for (line, shown) in [
        (
            "password_command = [\"pass\", \"show\"]",
            "Command([\"pass\", \"show\"])",
        ),
        ("password_env = \"P\"", "Variable(\"P\")"),
        ("password_credential = \"p\"", "Credential(\"p\")"),
        ("password = \"open sesame\"", "Literal"),
    ] {
        let config = Fixture::new(&with(line), HOSTS).load().unwrap();
        let Unlock::Password(source) = config.keys.unlock else {
            unreachable!("{line}")
        };
        assert_eq!(format!("{source:?}"), shown);
    }
    let config = Fixture::new(&with("key_credential = \"k\""), HOSTS)
        .load()
        .unwrap();
    assert!(matches!(config.keys.unlock, Unlock::Key(_)));
    for (line, at, remedy) in [
        (
            "key_credential = \"k\"\npassword_env = \"P\"",
            "10:16",
            "keep one",
        ),
        ("key_credential = \"a/b\"", "9:18", "no file name"),
        ("password_command = []", "9:20", "without a program"),
        (
            "password_env = \"P\"\npassword_command = [\"p\"]",
            "9:16",
            "more than one way: keep one of password, password_file",
        ),
    ] {
        let text = refused_coordinator(&with(line));
        assert_says(&text, &[&format!("coordinator.toml:{at}: keys."), remedy]);
    }
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    fixture.write(
        "coordinator.toml",
        &with("password = \"open sesame\""),
        0o640,
    );
    let text = fixture.refusal_here();
    assert_says(
        &text,
        &["coordinator.toml:9:12: keys.password", "chmod 600"],
    );
    assert!(!text.contains("sesame"));
}

#[test]
fn a_missing_key_file_is_named_with_the_line_that_names_it() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    std::fs::remove_file(fixture.path("keys/daemon.key")).unwrap();
    let text = fixture.refusal_here();
    assert_eq!(
        text,
        "coordinator.toml:9:12: keys.key_file: keys/daemon.key: secret file does not exist: create it, or correct the path"
    );
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    std::fs::remove_file(fixture.path("keys/id")).unwrap();
    assert_says(
        &fixture.refusal_here(),
        &[
            "hosts.toml:8:17: host.web1.identity_file: keys/id",
            "does not exist",
        ],
    );
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_chmod_that_helps() {
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        let fixture = Fixture::new(COORDINATOR, HOSTS);
        fixture.write("keys/daemon.key", "key", mode);
        let text = fixture.refusal();
        let path = fixture.path("keys/daemon.key");
        let remedy = format!("(mode {mode:04o}): run `chmod 600 {}`", path.display());
        assert_says(&text, &["coordinator.toml:9:12: keys.key_file", &remedy]);
        let mode_after = std::fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(mode_after, mode, "the tool must not repair what it refuses");
    }
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    fixture.write("keys/id", "key", 0o644);
    assert_says(
        &fixture.refusal_here(),
        &[
            "hosts.toml:8:17: host.web1.identity_file",
            "run `chmod 600 ",
        ],
    );
}

#[test]
fn a_password_file_that_others_can_read_is_refused() {
    let fixture = Fixture::new(&COORDINATOR.replace("key_file", "password_file"), HOSTS);
    fixture.write("keys/daemon.key", "key", 0o644);
    assert_says(
        &fixture.refusal_here(),
        &[
            "coordinator.toml:9:17: keys.password_file",
            "run `chmod 600 ",
        ],
    );
}

#[test]
fn reading_a_secret_makes_the_same_checks_and_debug_prints_nothing_of_it() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    fixture.write("keys/daemon.key", "open sesame\n", 0o600);
    let Unlock::KeyFile(file) = fixture.load().unwrap().keys.unlock else {
        unreachable!()
    };
    let secret = file.read().unwrap();
    assert_eq!(secret.expose_line(), b"open sesame");
    assert!(!format!("{secret:?}").contains("sesame"));
    fixture.write("keys/daemon.key", "open sesame\n", 0o644);
    assert_says(
        &file.read().unwrap_err().to_string(),
        &["keys.key_file", "chmod 600"],
    );
    fixture.write("keys/daemon.key", "", 0o600);
    assert_says(
        &file.read().unwrap_err().to_string(),
        &["keys.key_file", "is empty"],
    );
    std::fs::remove_file(file.path()).unwrap();
    std::fs::create_dir(file.path()).unwrap();
    assert_says(
        &file.read().unwrap_err().to_string(),
        &["is not a regular file"],
    );
}
