//! What `config check`, `show` and `example` print.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::setup::{
    ConfigCheckArgs, ConfigCommand, ConfigDiffArgs, ConfigExampleArgs, ConfigSchemaArgs,
    ConfigShowArgs, SampleFile, SchemaFile,
};
use crate::commands::config_check::{ConfigCommandError, config_command};
use crate::config::Config;
use crate::config::revision::record_applied;
use crate::exit_code::ExitCode;

const COORDINATOR: &str =
    "state_dir = \"state\"\n[[destination]]\nname = \"local\"\nurl = \"file:///srv/backup\"\n";
const HOSTS: &str = "[defaults]\nuser = \"root\"\nexclude = [\"*.tmp\"]\nlimits = { idle = \"90s\" }\n\
    [host.web1]\naddress = \"web1\"\nuse_agent = true\npaths = [\"/\"]\nexclude = [\"!keep.tmp\"]\njump = \"gate\"\n\
    [host.gate]\naddress = \"gate\"\nidentity_file = \"id\"\nmax_new = \"5GiB\"\n";

fn fixture(hosts: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("coordinator.toml"), COORDINATOR).unwrap();
    std::fs::write(directory.path().join("hosts.toml"), hosts).unwrap();
    directory
}

fn run(
    command: &ConfigCommand,
    directory: &Path,
    json: bool,
) -> (Result<ExitCode, ConfigCommandError>, String) {
    let mut out = Vec::new();
    let outcome = config_command(command, &directory.join("coordinator.toml"), json, &mut out);
    (outcome, String::from_utf8(out).unwrap())
}

fn check(no_files: bool) -> ConfigCommand {
    ConfigCommand::Check(ConfigCheckArgs { no_files })
}

#[test]
fn check_counts_and_says_ok() {
    let directory = fixture(HOSTS);
    let (outcome, text) = run(&check(true), directory.path(), false);
    outcome.unwrap();
    assert!(text.starts_with("ok: 2 hosts, 1 destination, "), "{text}");
    let (outcome, text) = run(&check(true), directory.path(), true);
    outcome.unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["ok"], &report["hosts"]), (&true.into(), &2.into()));
}

#[test]
fn check_looks_at_key_files_unless_told_not_to() {
    let directory = fixture(HOSTS);
    let (outcome, text) = run(&check(false), directory.path(), false);
    let error = outcome.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Error);
    assert!(text.is_empty());
    let text = error.to_string();
    assert!(
        text.contains("hosts.toml:13:17: host.gate.identity_file")
            && text.contains("does not exist"),
        "{text}"
    );
}

#[test]
fn check_reports_errors_to_scripts_with_file_line_and_key() {
    let directory = fixture("[host.web1]\nadress = \"x\"\n");
    let (outcome, text) = run(&check(true), directory.path(), true);
    assert!(outcome.is_err());
    let report: Value = serde_json::from_str(&text).unwrap();
    let error = &report["errors"][0];
    assert_eq!(
        (&report["ok"], &error["line"], &error["column"]),
        (&false.into(), &2.into(), &1.into())
    );
    assert_eq!(error["key"], "host.web1.adress");
    assert!(error["file"].as_str().unwrap().ends_with("hosts.toml"));
}

#[test]
fn show_prints_a_destinations_limit_as_it_is_understood() {
    let directory = fixture(HOSTS);
    let nas = "[[destination]]\nname = \"nas\"\nurl = \"sftp://b@nas/backup\"\nbandwidth = \"1.5 mib/s\"\n\
        host_key = [\"SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y\"]\n";
    let file = directory.path().join("coordinator.toml");
    std::fs::write(file, format!("{COORDINATOR}{nas}")).unwrap();
    let show = ConfigCommand::Show(ConfigShowArgs { host: None });
    let (outcome, text) = run(&show, directory.path(), false);
    outcome.unwrap();
    let shown = text.lines().filter(|line| line.starts_with("bandwidth"));
    assert_eq!(shown.collect::<Vec<_>>(), ["bandwidth = \"1536KiB/s\""]);
}

#[test]
fn show_prints_the_merged_result_with_origins() {
    let directory = fixture(HOSTS);
    let show = ConfigCommand::Show(ConfigShowArgs { host: None });
    let (outcome, text) = run(&show, directory.path(), false);
    outcome.unwrap();
    toml::from_str::<toml::Table>(&text).unwrap();
    for line in [
        "[host.web1]",
        "user = \"root\" # defaults, hosts.toml:2",
        "address = \"web1:22\" # host.web1, hosts.toml:6",
        "exclude = [\"*.tmp\", \"!keep.tmp\"] # defaults, hosts.toml:3; host.web1, hosts.toml:9",
        "one_file_system = false # built in",
        "max_new = \"5GiB\" # host.gate, hosts.toml:14",
        "url = \"file:///srv/backup\"",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line} is not in:\n{text}"
        );
    }
    let (outcome, text) = run(&show, directory.path(), true);
    outcome.unwrap();
    let shown: Value = serde_json::from_str(&text).unwrap();
    let web1 = &shown["host"]["web1"];
    let origin = &web1["origins"]["user"][0];
    assert_eq!(
        (&origin["table"], &origin["line"]),
        (&"defaults".into(), &2.into())
    );
    assert_eq!(web1["origins"]["one_file_system"], serde_json::json!([]));
    assert_eq!(web1["jump"][0]["host"], "gate");
    assert_eq!(web1["limits"]["idle"], "1m30s");
    assert_eq!(shown["destination"][0]["name"], "local");
}

#[test]
fn show_prints_every_key_of_a_destination_but_no_secret() {
    let directory = fixture(HOSTS);
    let s3 = "[[destination]]\nname = \"s3\"\nurl = \"s3://bucket\"\nprovider = \"aws\"\nregion = \"eu-central-1\"\n\
        retain = \"30d\"\naccess_key_id = \"A\"\nsecret_key = \"open sesame\"\n\
        [destination.role.prune]\naccess_key_id = \"P\"\nsecret_key = \"open sesame\"\n";
    let file = directory.path().join("coordinator.toml");
    std::fs::write(&file, format!("{COORDINATOR}{s3}")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let show = ConfigCommand::Show(ConfigShowArgs { host: None });
    for json in [false, true] {
        let (outcome, text) = run(&show, directory.path(), json);
        outcome.unwrap();
        for shown in [
            "https://s3.eu-central-1.amazonaws.com",
            "retain",
            "(hidden)",
        ] {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[test]
fn diff_tells_what_changed_since_the_configuration_was_applied() {
    let directory = fixture(HOSTS);
    let diff = |exit_code| ConfigCommand::Diff(ConfigDiffArgs { exit_code });
    let (outcome, _) = run(&diff(false), directory.path(), false);
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("no configuration was applied yet"), "{text}");

    let config = Config::load(&directory.path().join("coordinator.toml")).unwrap();
    std::fs::create_dir(&config.state_dir).unwrap();
    record_applied(&config, "2026-11-29T02:00:00Z".parse().unwrap()).unwrap();
    let (outcome, text) = run(&diff(true), directory.path(), false);
    assert_eq!(outcome.unwrap(), ExitCode::Ok);
    assert_eq!(text, "no change since 2026-11-29T02:00:00Z\n");

    let hosts = HOSTS.replace("\"5GiB\"", "\"6GiB\"");
    let new = "[host.new]\naddress = \"new\"\nuse_agent = true\npaths = [\"/\"]\n";
    std::fs::write(
        directory.path().join("hosts.toml"),
        format!("# moved\n{hosts}{new}"),
    )
    .unwrap();
    let (outcome, text) = run(&diff(true), directory.path(), false);
    assert_eq!(outcome.unwrap(), ExitCode::Error);
    assert_eq!(
        text,
        "changed since 2026-11-29T02:00:00Z:\n~ host.gate.max_new: \"5GiB\" -> \"6GiB\"\n+ host.new\n"
    );
    let (outcome, text) = run(&diff(false), directory.path(), true);
    assert_eq!(outcome.unwrap(), ExitCode::Ok);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["changes"][0]["after"], "6GiB");
    assert_ne!(report["revision"], report["applied_revision"]);
}

#[test]
fn schema_prints_a_schema_of_each_file() {
    let directory = fixture(HOSTS);
    for (file, title) in [
        (SchemaFile::Coordinator, "coordinator.toml"),
        (SchemaFile::Hosts, "hosts.toml"),
    ] {
        let schema = ConfigCommand::Schema(ConfigSchemaArgs { file });
        let (outcome, text) = run(&schema, directory.path(), false);
        outcome.unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema["title"], title);
    }
}

#[test]
fn show_of_one_host_leaves_the_rest_out_and_an_unknown_one_is_not_found() {
    let directory = fixture(HOSTS);
    let show = |name: &str| {
        ConfigCommand::Show(ConfigShowArgs {
            host: Some(name.to_owned()),
        })
    };
    let (outcome, text) = run(&show("web1"), directory.path(), false);
    outcome.unwrap();
    assert!(
        text.contains("[host.web1]")
            && !text.contains("[host.gate]")
            && !text.contains("state_dir"),
        "{text}"
    );
    let (outcome, _) = run(&show("wbe1"), directory.path(), false);
    let error = outcome.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().contains("did you mean \"web1\"?"));
}

#[test]
fn show_never_prints_a_secret() {
    let directory = fixture(HOSTS);
    let keys = format!("{COORDINATOR}[keys]\nbundle = \"b\"\nkey_file = \"k\"\n");
    std::fs::write(directory.path().join("coordinator.toml"), keys).unwrap();
    std::fs::write(directory.path().join("k"), "open sesame").unwrap();
    for json in [false, true] {
        let (outcome, text) = run(
            &ConfigCommand::Show(ConfigShowArgs { host: None }),
            directory.path(),
            json,
        );
        outcome.unwrap();
        assert!(
            text.contains("key_file") && !text.contains("sesame"),
            "{text}"
        );
    }
}

#[test]
fn example_prints_samples_that_load() {
    let directory = tempfile::tempdir().unwrap();
    for (file, name) in [
        (SampleFile::Coordinator, "coordinator.toml"),
        (SampleFile::Hosts, "hosts.toml"),
    ] {
        let (outcome, text) = run(
            &ConfigCommand::Example(ConfigExampleArgs { file }),
            directory.path(),
            false,
        );
        outcome.unwrap();
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let config = Config::load(&directory.path().join("coordinator.toml")).unwrap();
    assert!(config.hosts.is_empty());
}
