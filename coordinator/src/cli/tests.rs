//! The command line: the fixed forms parse, and slips are usage errors.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use clap::{CommandFactory, Parser};

use crate::catalog::selector::Selector;
use crate::cli::restore::Overwrite;
use crate::cli::{CONFIG_FILE_DEFAULT, Cli, Command};
use crate::exit_code::ExitCode;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

/// As README and the samples have them.
const DOCUMENTED: &[&str] = &[
    "coordinator init --dir DIR",
    "coordinator -c DIR/coordinator.toml host trust web1 --yes",
    "coordinator -c DIR/coordinator.toml host trust web1",
    "coordinator host test web1 -vv",
    "coordinator host ls --tag prod --tag db",
    "coordinator config check",
    "coordinator config show web1 --json",
    "coordinator config example hosts",
    "coordinator config diff --exit-code",
    "coordinator config schema hosts",
    "coordinator run web1 --full-read",
    "coordinator run @prod db1 --now --outside-window",
    "coordinator run --all",
    "coordinator -c DIR/coordinator.toml daemon",
    "coordinator reload",
    "coordinator cancel web1",
    "coordinator status web1 --json",
    "coordinator status web* @db",
    "coordinator run web* --now",
    "coordinator prune web* --yes",
    "coordinator verify web* latest",
    "coordinator history web1 --count 5",
    "coordinator host explain web1",
    "coordinator -c DIR/coordinator.toml snapshots web1 --json",
    "coordinator snapshots",
    "coordinator show web1 latest",
    "coordinator ls web1 latest~2 /etc -l",
    "coordinator cat web1 1f3a9c04 /etc/fstab",
    "coordinator diff web1 latest~1",
    "coordinator diff web1 2026-11-19 latest /etc /srv --json",
    "coordinator diff web1 latest~3 /etc --stat",
    "coordinator changes web1",
    "coordinator changes web1 latest~1 /etc",
    "coordinator export web1 latest --format tar",
    "coordinator export web1 latest /etc /srv --destination nas",
    "coordinator restore web1 latest --to OUT /etc /srv",
    "coordinator restore web1 latest /etc --to OUT -n --overwrite if-newer --exclude *.o --exclude-file f",
    "coordinator rescue --kit kit.txt --destination /mnt/carved --list",
    "coordinator rescue --kit kit.txt --destination s3://b/p --set region=x --to OUT --overwrite if-changed",
    "coordinator verify web1",
    "coordinator verify web1 before:2026-11-20",
    "coordinator destination policy s3-eu --role ingest --json",
    "coordinator destination policy s3-eu --role prune --flavour minio",
    "coordinator destination policy s3-eu --role restore --principal arn:aws:iam:::user/r",
    "coordinator destination policy nas --role maintain --chroot /srv/sftp",
    "coordinator destination test s3-eu --role prune --set access_key_id=A --set secret_key_file=f",
    "coordinator hold ls web1 --all",
    "coordinator hold add web1 --kind legal --reason case",
    "coordinator hold release web1 7",
    "coordinator audit log --since 7d --host web1 --what run-ended --json",
    "coordinator audit log --since 2026-11-20",
    "coordinator audit verify",
    "coordinator token add prometheus --scope metrics,health --allow-from 10.0.0.0/8 --expires 90d",
    "coordinator token ls --json",
    "coordinator token rm prometheus",
    "coordinator notify test ops",
    "coordinator key export-kit kit.txt",
    "coordinator key verify-kit kit.txt",
    "coordinator key derive vault --role restore --out vault.key",
    "coordinator key derive vault --role verify --kit kit.txt --json",
    "coordinator recover --dir DIR --kit kit.txt --destination file:///b",
    "coordinator recover --dir DIR --user vault --key-file vault.key --destination file:///b",
    "coordinator key derive ingest --role ingest",
    "coordinator doctor --json",
    "coordinator demo --path /usr/share --keep",
    "coordinator completions bash",
    "coordinator man DIR",
];

#[test]
fn the_documented_forms_parse() {
    for line in DOCUMENTED {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn slips_are_usage_errors() {
    for line in [
        "coordinator",
        "coordinator runn web1",
        "coordinator rescue --kit kit.txt --destination /mnt/carved",
        "coordinator rescue --kit kit.txt --destination /mnt/carved --list --to OUT",
        "coordinator rescue --kit kit.txt --destination /mnt/carved --to OUT --repository web1",
        "coordinator run",
        "coordinator run web1 --full-raed",
        "coordinator run web1 --all",
        "coordinator cancel",
        "coordinator export web1",
        "coordinator export web1 latest --format cpio",
        "coordinator diff web1",
        "coordinator diff web1 latest~1 newest",
        "coordinator diff web1 latest~2 latest~1 latest",
        "coordinator diff web1 latest~2 /etc latest~1",
        "coordinator restore web1 latest",
        "coordinator restore web1 newest --to OUT",
        "coordinator restore web1 latest --to OUT --overwrite perhaps",
        "coordinator restore web1 latest --to OUT --no-owner --numeric-ids",
        "coordinator destination policy s3-eu",
        "coordinator destination policy s3-eu --role admin",
        "coordinator destination policy s3-eu --role restore --principal *",
        "coordinator destination policy s3-eu --role restore --principal arn:aws:iam::1:user/*",
        "coordinator audit log --since yesterday",
        "coordinator token add Prometheus --scope metrics",
        "coordinator token add prometheus",
        "coordinator token add prometheus --scope all",
        "coordinator token add prometheus --scope metrics --allow-from 10.0.0.1/8",
        "coordinator audit verify --witness 7:abc",
        "coordinator run web1 -v -q",
        "coordinator key derive vault",
        "coordinator key derive Vault --role restore",
        "coordinator key derive vault --role write",
        "coordinator recover --dir DIR --destination file:///b",
        "coordinator recover --dir DIR --user vault --destination file:///b",
        "coordinator recover --dir DIR --kit k --key-file f --destination file:///b",
        "coordinator recover --dir DIR --kit k --user vault --key-file f --destination file:///b",
        "coordinator hold add web1",
        "coordinator hold add web1 --kind anomaly --reason x",
        "coordinator init",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(
            error.exit_code(),
            i32::from(ExitCode::Usage.number()),
            "{line}"
        );
    }
}

#[test]
fn restore_options_reach_its_struct() {
    let cli = parse(
        "coordinator restore web1 latest~1 --to OUT /etc --overwrite never --include a --include b",
    )
    .unwrap();
    let Command::Restore(args) = cli.command else {
        unreachable!()
    };
    assert_eq!(args.snapshot, Selector::Latest { back: 1 });
    assert_eq!(args.overwrite, Some(Overwrite::Never));
    assert_eq!(args.paths, ["/etc"]);
    assert_eq!(args.what.include, ["a", "b"]);
    assert!(!args.dry_run);
}

#[test]
fn every_command_has_help_and_the_default_configuration_is_told() {
    let mut command = Cli::command();
    let help = command.render_long_help().to_string();
    assert!(
        help.contains(CONFIG_FILE_DEFAULT) && help.contains("COORDINATOR_CONFIG"),
        "{help}"
    );
    for number in ExitCode::ALL.map(ExitCode::number) {
        assert!(
            help.contains(&number.to_string()),
            "exit code {number} is not documented"
        );
    }
    for sub in command.get_subcommands() {
        assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
    }
}

#[test]
fn snapshot_names_parse_and_print_back() {
    for text in [
        "latest",
        "latest~12",
        "1f3a",
        "2026-11-20",
        "before:2026-11-20",
    ] {
        assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "latest~",
        "latest~-1",
        "latest~+1",
        "1f3",
        "xyz1",
        "2026-13-01",
        "2026-11-20T10",
        "before:",
        "../etc",
    ] {
        assert!(text.parse::<Selector>().is_err(), "{text}");
    }
}

#[test]
fn completions_and_man_pages_are_written() {
    let mut script = Vec::new();
    super::documents::write_completions(clap_complete::Shell::Bash, &mut script).unwrap();
    assert!(String::from_utf8(script).unwrap().contains("snapshots"));
    let directory = tempfile::tempdir().unwrap();
    super::documents::write_man_pages(directory.path()).unwrap();
    let page = std::fs::read_to_string(directory.path().join("coordinator-restore.1")).unwrap();
    assert!(page.contains("overwrite"));
}

#[test]
fn what_needs_keys_that_open_is_told_from_what_keys_that_only_add_do() {
    let opens = |line: &str| parse(line).unwrap().command.opens();
    for line in [
        "coordinator show web1 latest",
        "coordinator ls web1 latest",
        "coordinator cat web1 latest /etc/hosts",
        "coordinator diff web1 latest",
        "coordinator restore web1 latest --to OUT",
        "coordinator export web1 latest",
        "coordinator verify web1",
        "coordinator prune web1 --dry-run",
        "coordinator forget web1 latest",
        "coordinator undelete web1",
        "coordinator pin add web1 latest",
        "coordinator scan --full --verify",
        "coordinator key derive vault --role restore",
    ] {
        assert!(opens(line), "{line}");
    }
    for line in [
        "coordinator run web1",
        "coordinator daemon",
        "coordinator status",
        "coordinator history web1",
        "coordinator snapshots",
        "coordinator scan --full",
        "coordinator scan --repair",
        "coordinator lease take web1",
        "coordinator audit reconcile web1",
        "coordinator destination ls",
        "coordinator doctor",
        "coordinator pin ls",
        "coordinator hold ls",
    ] {
        assert!(!opens(line), "{line}");
    }
}

#[test]
fn what_needs_keys_that_sign_is_told_from_what_reads() {
    let writes = |line: &str| parse(line).unwrap().command.writes();
    for line in [
        "coordinator run web1",
        "coordinator daemon",
        "coordinator prune web1 --yes",
        "coordinator forget web1 latest",
        "coordinator undelete web1",
        "coordinator pin add web1 latest",
        "coordinator pin rm web1 latest",
        "coordinator hold add web1 --reason x",
        "coordinator hold release web1",
        "coordinator lease take --all",
        "coordinator audit reconcile web1",
        "coordinator host accept-identity web1",
        "coordinator scan --full --repair",
        "coordinator scan --extend-locks",
        "coordinator destination sync nas",
        "coordinator destination create nas",
        "coordinator key derive vault --role restore",
    ] {
        assert!(writes(line), "{line}");
    }
    for line in [
        "coordinator prune web1 --dry-run",
        "coordinator prune web1 --simulate 2y",
        "coordinator pin ls",
        "coordinator hold ls",
        "coordinator lease ls",
        "coordinator audit head",
        "coordinator host trust web1",
        "coordinator scan --full --verify",
        "coordinator destination ls",
        "coordinator key verify-kit kit.txt",
        "coordinator snapshots",
        "coordinator restore web1 latest --to OUT",
        "coordinator verify web1",
    ] {
        assert!(!writes(line), "{line}");
    }
}
