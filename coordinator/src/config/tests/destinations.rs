//! What a destination may say, and at which ones a host is kept.

use append_server::fan_out::queue::placing::{Keeping, KeptAt};
use formats::wire::placing::Copies;

use crate::config::show::{standalone_toml, to_toml};
use crate::config::tests::{COORDINATOR, Fixture, HOSTS, assert_says, refused_coordinator};

#[test]
fn patience_with_destinations_has_a_least_and_a_most() {
    let with = |patience: &str| format!("{COORDINATOR}\n[limits]\npatience = \"{patience}\"\n");
    let config = Fixture::new(&with("90s"), HOSTS).load().unwrap();
    assert_eq!(config.limits.patience.duration().as_secs(), 90);
    for (refused, remedy) in [("2m1s", "write at most 2m"), ("0s", "write at least 1s")] {
        let text = refused_coordinator(&with(refused));
        assert_says(&text, &["limits.patience", refused, remedy]);
    }
}

#[test]
fn keys_belong_to_their_kind_of_destination() {
    for (from, to, line, remedy) in [
        (
            "file:///srv/backup",
            "s3://bucket",
            5,
            "`endpoint` is missing",
        ),
        (
            "file:///srv/backup",
            "sftp://h/x",
            5,
            "sftp://user@host:port/path",
        ),
        (
            "file:///srv/backup",
            "s3://Bucket",
            5,
            "is not where a destination can be",
        ),
        (
            "file:///srv/backup",
            "sftp://root@h/x",
            5,
            "`host_key` is missing",
        ),
        (
            "file:///srv/backup\"",
            "file:///srv/backup\"\nregion = \"eu\"",
            5,
            "`region` does not belong",
        ),
        (
            "file:///srv/backup\"",
            "file:///srv/backup\"\nbandwidth = \"1MiB/s\"",
            5,
            "`bandwidth` does not belong",
        ),
        (
            "file:///srv/backup\"",
            "root@h:/x\"\nhost_key = [\"SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y\"]\nbandwidth = \"10Mbit/s\"",
            5,
            "`bandwidth` is \"10Mbit/s\": write bytes per second, as in \"10MiB/s\"",
        ),
    ] {
        let text = refused_coordinator(&COORDINATOR.replace(from, to));
        assert_says(
            &text,
            &[&format!("coordinator.toml:{line}:"), "destination", remedy],
        );
    }
}

#[test]
fn destinations_are_checked() {
    for (from, to, line, remedy) in [
        (
            "file:///srv/backup",
            "ftp://h/x",
            5,
            "is not where a destination can be",
        ),
        (
            "file:///srv/backup",
            "/srv/backup",
            5,
            "\"file:///srv/backup\"",
        ),
        (
            "file:///srv/backup",
            "file://srv/backup",
            5,
            "absolute path",
        ),
        (
            "file:///srv/backup",
            "file:///srv/../x",
            5,
            "plain directory",
        ),
        ("file:///srv/backup", "file:///", 5, "plain directory"),
        ("\"local\"", "\"a/b\"", 4, "is not a destination's name"),
        (
            "\n\n[keys]",
            "\nrequired = false\n[keys]",
            3,
            "`required = true`",
        ),
    ] {
        let text = refused_coordinator(&COORDINATOR.replace(from, to));
        assert_says(
            &text,
            &[&format!("coordinator.toml:{line}:"), "destination", remedy],
        );
    }
    let none = "state_dir = \"state\"\n";
    assert_says(
        &refused_coordinator(none),
        &["coordinator.toml:1:", "add a [[destination]]"],
    );
    let again = "[[destination]]\nname = \"local\"\nurl = \"file:///srv//backup/\"\n";
    let text = refused_coordinator(&format!("{COORDINATOR}{again}"));
    assert_says(
        &text,
        &[
            "coordinator.toml:11:8: destination[1].name",
            "the same name as the one at",
        ],
    );
    assert_says(
        &text,
        &[
            "coordinator.toml:12:7: destination[1].url",
            "the same url",
            "coordinator.toml:4:8",
        ],
    );
}

/// One that is required and two that are not.
fn three_destinations(limits: &str) -> String {
    let mut text = COORDINATOR.to_owned();
    for name in ["nas", "s3-eu"] {
        text.push_str(&format!(
            "\n[[destination]]\nname = \"{name}\"\nurl = \"file:///srv/{name}\"\nrequired = false\n"
        ));
    }
    format!("{text}\n[limits]\n{limits}\n")
}

#[test]
fn a_host_is_kept_at_the_destinations_that_are_named_and_the_required_ones() {
    let named = |names: &[&str]| -> KeptAt {
        KeptAt::These(names.iter().map(|name| name.parse().unwrap()).collect())
    };
    for (line, kept_at) in [
        ("", KeptAt::Everywhere),
        ("destinations = []", named(&["local"])),
        (
            "destinations = [\"s3-eu\", \"s3-eu\"]",
            named(&["local", "s3-eu"]),
        ),
        (
            "destinations = [\"s3-eu\", \"local\"]",
            named(&["local", "s3-eu"]),
        ),
    ] {
        let hosts = format!("{HOSTS}{line}\n");
        let config = Fixture::new(&three_destinations(""), &hosts)
            .load()
            .unwrap();
        let host = config.host("web1").unwrap();
        let keeping = Keeping {
            kept_at,
            copies: Copies::Floor,
        };
        assert_eq!(config.keeping(host), keeping, "{line}");
        assert_eq!(config.placings()["web1"], keeping, "{line}");
        let shown = standalone_toml(&config, host);
        assert_eq!(
            shown.contains("destinations ="),
            !line.is_empty(),
            "{shown}"
        );
    }
    // A host's own list replaces what it inherits, and says where it stands.
    let hosts = HOSTS.replace("[defaults]\n", "[defaults]\ndestinations = [\"nas\"]\n");
    let config = Fixture::new(&three_destinations(""), &hosts)
        .load()
        .unwrap();
    assert_eq!(
        config.keeping(config.host("web1").unwrap()).kept_at,
        named(&["local", "nas"])
    );
    let shown = to_toml(&config, None);
    assert_says(
        &shown,
        &["destinations = [\"nas\"] # defaults, hosts.toml:2"],
    );
    let config = Fixture::new(
        &three_destinations(""),
        &format!("{hosts}destinations = []\n"),
    );
    let config = config.load().unwrap();
    assert_eq!(
        config.keeping(config.host("web1").unwrap()).kept_at,
        named(&["local"])
    );
}

#[test]
fn destinations_that_there_are_not_or_that_are_too_few_are_refused() {
    let refused =
        |limits: &str, hosts: &str| Fixture::new(&three_destinations(limits), hosts).refusal_here();
    let line = |line: &str| format!("{HOSTS}{line}\n");
    assert_says(
        &refused("", &line("destinations = [\"nas\", \"s3-us\"]")),
        &[
            "hosts.toml:11",
            "host.web1.destinations",
            "\"s3-us\"",
            "did you mean \"s3-eu\"?",
            "local, nas, s3-eu",
        ],
    );
    assert_says(
        &refused("", &line("destinations = [\"../nas\"]")),
        &["hosts.toml:11", "is not a destination's name"],
    );
    assert_says(
        &refused("min_copies = 2", &line("destinations = []")),
        &["hosts.toml:11", "leaves 1 destinations", "min_copies = 2"],
    );
    Fixture::new(
        &three_destinations("min_copies = 2"),
        &line("destinations = [\"nas\"]"),
    )
    .load()
    .unwrap();
    // Said once, where it stands, however many hosts inherit it.
    let second = HOSTS.split_once("[host.web1]").unwrap().1;
    let hosts = format!("{HOSTS}\n[host.web2]{second}");
    let shared = hosts.replace("[defaults]\n", "[defaults]\ndestinations = [\"tape\"]\n");
    let text = refused("", &shared);
    assert_says(&text, &["hosts.toml:2", "\"tape\""]);
    assert_eq!(text.matches("tape").count(), 1, "{text}");
}

#[test]
fn hosts_of_one_repository_are_kept_at_the_same_destinations() {
    let second = HOSTS.split_once("[host.web1]").unwrap().1;
    let hosts = |first: &str, other: &str| {
        format!(
            "{HOSTS}repository = \"web\"\n{first}\n[host.web2]{second}repository = \"web\"\n{other}\n"
        )
    };
    let refused = Fixture::new(
        &three_destinations(""),
        &hosts("destinations = [\"nas\"]", ""),
    );
    assert_says(
        &refused.refusal_here(),
        &[
            "hosts.toml:13",
            "host.web2",
            "web2 and web1",
            "\"web\"",
            "destinations",
        ],
    );
    // A required one need not be named.
    let agreed = hosts(
        "destinations = [\"nas\"]",
        "destinations = [\"local\", \"nas\"]",
    );
    Fixture::new(&three_destinations(""), &agreed)
        .load()
        .unwrap();
}

#[test]
fn commit_is_inherited_and_says_on_how_many_destinations_an_object_must_be() {
    let inherited = |line: &str| HOSTS.replace("[defaults]\n", &format!("[defaults]\n{line}\n"));
    for (limits, hosts, copies, expected) in [
        ("", HOSTS.to_owned(), Copies::Floor, 1),
        ("min_copies = 2", HOSTS.to_owned(), Copies::Floor, 2),
        ("", inherited("commit = \"all\""), Copies::All, 3),
        (
            "",
            inherited("commit = \"all\"\ndestinations = [\"nas\"]"),
            Copies::All,
            2,
        ),
        (
            "",
            format!("{}commit = \"any\"\n", inherited("commit = \"all\"")),
            Copies::Floor,
            1,
        ),
        ("", inherited("commit = 3"), Copies::AtLeast(3), 3),
        (
            "min_copies = 2",
            inherited("commit = 1"),
            Copies::AtLeast(1),
            2,
        ),
    ] {
        let config = Fixture::new(&three_destinations(limits), &hosts);
        let config = config.load().unwrap();
        let host = config.host("web1").unwrap();
        assert_eq!(config.keeping(host).copies, copies, "{hosts}");
        assert_eq!(config.placings()["web1"].copies, copies, "{hosts}");
        assert_eq!(config.copies_of(host).copies, expected, "{hosts}");
        let shown = standalone_toml(&config, host);
        let line = format!("commit = {}", host.commit);
        assert!(shown.contains(&line), "{shown}");
    }
    let config = Fixture::new(&three_destinations(""), &inherited("commit = 2"));
    let shown = to_toml(&config.load().unwrap(), None);
    assert_says(&shown, &["commit = 2 # defaults, hosts.toml:2"]);
}

#[test]
fn commit_that_cannot_be_is_refused_where_it_stands() {
    let refused =
        |limits: &str, hosts: &str| Fixture::new(&three_destinations(limits), hosts).refusal_here();
    let line = |line: &str| format!("{HOSTS}{line}\n");
    assert_says(
        &refused("", &line("commit = 4")),
        &[
            "hosts.toml:11",
            "host.web1.commit",
            "asks for 4 destinations",
            "host web1 is kept at 3",
            "add one to coordinator.toml",
        ],
    );
    assert_says(
        &refused("", &line("destinations = []\ncommit = 2")),
        &["hosts.toml:12", "kept at 1", "its `destinations`"],
    );
    for (wrong, text) in [
        ("\"most\"", "\"most\" is no number of destinations"),
        ("0", "0 is no number of destinations"),
        ("65", "from 1 to 64"),
        ("-1", "from 1 up"),
        ("true", "\"any\", \"all\", or a number"),
    ] {
        assert_says(
            &refused("", &line(&format!("commit = {wrong}"))),
            &["hosts.toml:11", text],
        );
    }
    // Said once, where it stands, however many hosts inherit it.
    let second = HOSTS.split_once("[host.web1]").unwrap().1;
    let hosts = format!("{HOSTS}\n[host.web2]{second}");
    let shared = hosts.replace("[defaults]\n", "[defaults]\ncommit = 4\n");
    let text = refused("", &shared);
    assert_says(&text, &["hosts.toml:2", "defaults.commit"]);
    assert_eq!(text.matches("asks for 4").count(), 1, "{text}");
}

#[test]
fn hosts_of_one_repository_ask_for_the_same_commit() {
    let second = HOSTS.split_once("[host.web1]").unwrap().1;
    let hosts = |first: &str, other: &str| {
        format!(
            "{HOSTS}repository = \"web\"\n{first}\n[host.web2]{second}repository = \"web\"\n{other}\n"
        )
    };
    let load = |first, other| Fixture::new(&three_destinations(""), &hosts(first, other));
    assert_says(
        &load("commit = \"all\"", "").refusal_here(),
        &["hosts.toml:13", "web2 and web1", "\"web\"", "`commit`"],
    );
    load("commit = 2", "commit = 2").load().unwrap();
}
