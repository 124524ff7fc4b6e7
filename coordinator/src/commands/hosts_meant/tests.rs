//! Names, globs and tags.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;

use tempfile::TempDir;

use super::{hosts_meant, is_pattern};
use crate::commands::on_storage::CommandError;
use crate::config::Config;
use crate::exit_code::ExitCode;

fn config(directory: &TempDir, names: &[&str]) -> Config {
    let path = directory.path().join("coordinator.toml");
    fs::write(
        &path,
        "state_dir = \"state\"\n[[destination]]\nname = \"local\"\nurl = \"file:///srv/backup\"\n",
    )
    .unwrap();
    let mut hosts = String::from(
        "[defaults]\nuser = \"root\"\nuse_agent = true\n[host.bastion]\naddress = \"bastion\"\n",
    );
    for name in names {
        let tag = name.trim_end_matches(|end: char| end.is_ascii_digit());
        hosts += &format!(
            "[host.{name}]\naddress = \"{name}\"\npaths = [\"/\"]\ntags = [\"{tag}\"]\njump = \"bastion\"\n"
        );
    }
    fs::write(directory.path().join("hosts.toml"), hosts).unwrap();
    Config::load(&path).unwrap()
}

fn meant(config: &Config, words: &[&str]) -> Result<Vec<String>, CommandError> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let hosts = hosts_meant(&words, config)?.into_iter();
    Ok(hosts.map(|host| host.name.to_string()).collect())
}

#[test]
fn names_globs_and_tags_mean_hosts_once_each() {
    let directory = TempDir::new().unwrap();
    let config = config(&directory, &["db1", "web1", "web2", "web10"]);
    for (words, expected) in [
        (&["web*"][..], &["web1", "web10", "web2"][..]),
        (&["web?"], &["web1", "web2"]),
        (&["web[12]", "web2"], &["web1", "web2"]),
        (&["{db,web}1"], &["db1", "web1"]),
        (&["@web", "db1"], &["db1", "web1", "web10", "web2"]),
        // What only serves others is no match of a glob, but has a name.
        (&["*"], &["db1", "web1", "web10", "web2"]),
        (&["bastion"], &["bastion"]),
    ] {
        assert_eq!(meant(&config, words).unwrap(), expected, "{words:?}");
    }
    assert!(is_pattern("web*") && is_pattern("@web") && !is_pattern("web1"));
}

#[test]
fn a_glob_that_matches_nothing_tells_the_names_there_are() {
    let directory = TempDir::new().unwrap();
    let names: Vec<String> = (0..30).map(|number| format!("h{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = config(&directory, &names);
    let error = meant(&config, &["h00", "web*"]).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    let text = error.to_string();
    for part in ["\"web*\"", "there are h00, h01,", "h19 and 10 more"] {
        assert!(text.contains(part), "{text}");
    }
    for (word, code) in [
        ("h99", ExitCode::NotFound),
        ("@web", ExitCode::NotFound),
        ("h[0", ExitCode::Usage),
    ] {
        assert_eq!(meant(&config, &[word]).unwrap_err().exit_code(), code);
    }
}
