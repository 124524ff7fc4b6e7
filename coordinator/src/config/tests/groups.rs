//! What hosts take from their groups.

use crate::config::raw::Transport;
use crate::config::tests::{COORDINATOR, Fixture, assert_says, refused_hosts};

const GROUPS: &str = "\
[defaults]
user = \"root\"
use_agent = true
paths = [\"/\"]
exclude = [\"*.tmp\"]
max_new = \"1GiB\"
limits = { idle = \"90s\", run = \"2h\" }
[group.db]
exclude = [\"/var/lib/db/**\"]
max_new = \"2GiB\"
one_file_system = true
limits = { idle = \"3m\" }
[group.big]
max_new = \"3GiB\"
transport = \"stdio\"
[host.a]
address = \"a\"
groups = [\"db\", \"big\"]
exclude = [\"!keep.tmp\"]
limits = { connect = \"5s\" }
[host.b]
address = \"b\"
groups = [\"big\", \"db\"]
one_file_system = false
[host.c]
address = \"c\"
";

#[test]
fn a_host_takes_from_its_groups_over_defaults_and_a_later_group_is_stronger() {
    let config = Fixture::new(COORDINATOR, GROUPS).load().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| config.host(name).unwrap());
    let new_max =
        |host: &crate::config::host::Host| host.safety.max_new.hard_bytes().unwrap() >> 30;
    assert_eq!([a, b, c].map(new_max), [3, 2, 1]);
    assert!(a.one_file_system && !b.one_file_system && !c.one_file_system);
    let rules: Vec<&str> = a.exclude.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(rules, ["*.tmp", "/var/lib/db/**", "!keep.tmp"]);
    assert_eq!(c.exclude.len(), 1);
    assert_eq!(a.transport, Transport::Stdio);
    assert_eq!(a.limits.idle.to_string(), "3m");
    assert_eq!(a.limits.run.to_string(), "2h");
    assert_eq!(a.limits.connect.to_string(), "5s");
    let groups: Vec<&str> = a.groups.iter().map(|group| group.as_str()).collect();
    assert_eq!(groups, ["db", "big"]);
    assert!(c.groups.is_empty());
    assert!(a.is_labelled("db") && b.is_labelled("big") && !c.is_labelled("db"));
}

#[test]
fn groups_may_stand_in_any_file_but_only_once() {
    let fixture = Fixture::new(COORDINATOR, GROUPS);
    let more =
        "[group.web]\ntransport = \"tcp\"\n[host.w]\naddress = \"w\"\ngroups = [\"web\", \"db\"]\n";
    fixture.write("hosts.d/more.toml", more, 0o600);
    let config = fixture.load().unwrap();
    let host = config.host("w").unwrap();
    assert_eq!(host.transport, Transport::Tcp);
    assert!(host.one_file_system);
    fixture.write("hosts.d/again.toml", "\n[group.db]\n", 0o600);
    assert_says(
        &fixture.refusal_here(),
        &[
            "hosts.d/again.toml:2:8: group.db",
            "already defined at hosts.toml:8:8",
        ],
    );
}

#[test]
fn unknown_groups_are_named_with_the_nearest_and_groups_of_groups_are_refused() {
    let text = refused_hosts(&GROUPS.replace("[\"db\", \"big\"]", "[\"db\", \"bgi\", \"x\"]"));
    assert_says(
        &text,
        &[
            "hosts.toml:18:17: host.a.groups[1]: group \"bgi\" is not defined (did you mean \"big\"?)",
            "hosts.toml:18:24: host.a.groups[2]: group \"x\" is not defined: name a [group.*]",
        ],
    );
    for line in [
        "groups = [\"db\"]",
        "address = \"a\"",
        "host_key = []",
        "repository = \"r\"",
    ] {
        let text =
            refused_hosts(&GROUPS.replace("[group.big]\n", &format!("[group.big]\n{line}\n")));
        assert_says(
            &text,
            &[
                "hosts.toml:14:",
                "cannot be shared: move it from [group.big]",
            ],
        );
    }
    assert_says(
        &refused_hosts(&GROUPS.replace("[group.big]", "[group.\"../big\"]")),
        &["hosts.toml:13:8: group", "not a path"],
    );
    assert_says(
        &refused_hosts(&GROUPS.replace("transport", "trnsport")),
        &[
            "hosts.toml:15:1: group.big.trnsport",
            "did you mean `transport`?",
        ],
    );
}

#[test]
fn a_groups_jump_applies_to_its_hosts_and_not_to_the_jump_host_itself() {
    let hosts = GROUPS.replace("[group.big]\n", "[group.big]\njump = \"b\"\n");
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    assert_eq!(config.host("a").unwrap().jumps.len(), 1);
    assert!(config.host("b").unwrap().jumps.is_empty());
    let text = refused_hosts(&hosts.replace("jump = \"b\"", "jump = \"bb\""));
    assert_says(&text, &["hosts.toml:14:8: group.big.jump", "not a host"]);
}

#[test]
fn a_groups_key_does_not_take_the_certificate_of_defaults() {
    let hosts = GROUPS
        .replace(
            "[defaults]\n",
            "[defaults]\ncertificate_file = \"d-cert.pub\"\n",
        )
        .replace(
            "[group.big]\n",
            "[group.big]\nidentity_file = \"keys/id\"\n",
        );
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    assert_eq!(config.host("a").unwrap().login.certificate_file, None);
    assert!(config.host("c").unwrap().login.certificate_file.is_some());
}
