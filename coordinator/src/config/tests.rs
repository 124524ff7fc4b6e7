//! Loads whole configurations from directories: what is refused, in which words, and what comes out.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use append_server::fan_out::queue::placing::{Keeping, KeptAt};
use append_server::quantity::Size;
use formats::wire::placing::Copies;
use tempfile::TempDir;

use crate::config::Config;
use crate::config::coordinator_file::{AppendServer, Unlock};
use crate::config::error::ERRORS_MAX;
use crate::config::fs_snapshot::FsSnapshot;
use crate::config::hook_settings::{HookEvent, HookFailure};
use crate::config::hosts_file::resolve;
use crate::config::raw::Transport;
use crate::config::show::{standalone_toml, to_toml};
use crate::config::source_text::SourceText;
use crate::schedule::rates::Rates;

const COORDINATOR: &str = "\
state_dir = \"state\"

[[destination]]
name = \"local\"
url = \"file:///srv/backup\"

[keys]
bundle = \"keys/daemon.bundle\"
key_file = \"keys/daemon.key\"
";

const HOSTS: &str = "\
[defaults]
exclude = [\"/var/cache/**\", \"*.tmp\"]
exclude_caches = true

[host.web1]
address = \"127.0.0.1:2222\"
user = \"root\"
identity_file = \"keys/id\"
host_key = [\"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"]
paths = [\"/etc\", \"/srv\"]
";

/// A configuration directory with sound secrets.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new(coordinator: &str, hosts: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let fixture = Self { directory };
        fixture.write("coordinator.toml", coordinator, 0o600);
        fixture.write("hosts.toml", hosts, 0o600);
        fixture.write("keys/daemon.key", "key\n", 0o600);
        fixture.write("keys/id", "key\n", 0o600);
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<Config, crate::config::error::ConfigErrors> {
        Config::load(&self.path("coordinator.toml"))
    }

    /// The text of the refusal by load or by the check of secrets, after which nothing has changed.
    fn refusal(&self) -> String {
        let before = tree(self.directory.path());
        let outcome = self.load().and_then(|config| config.check_files());
        let text = outcome.unwrap_err().to_string();
        assert_eq!(
            tree(self.directory.path()),
            before,
            "a refusal changed something"
        );
        text
    }

    /// The refusal, relative to the directory.
    fn refusal_here(&self) -> String {
        let prefix = format!("{}/", self.directory.path().display());
        self.refusal().replace(&prefix, "")
    }
}

/// Every path below, with its mode, time and contents.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let contents = if metadata.is_file() {
            std::fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path, (metadata.mode(), metadata.mtime_nsec(), contents));
    }
    found
}

/// The refusal of a hosts.toml.
fn refused_hosts(hosts: &str) -> String {
    Fixture::new(COORDINATOR, hosts).refusal_here()
}

/// The refusal of a sound hosts.toml with `line` added to its only host, on line 11.
fn refused_host_line(line: &str) -> String {
    refused_hosts(&format!("{HOSTS}{line}\n"))
}

/// The refusal of a coordinator.toml.
fn refused_coordinator(coordinator: &str) -> String {
    Fixture::new(coordinator, HOSTS).refusal_here()
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

#[test]
fn sound_files_resolve_over_defaults_and_built_in_values() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    let config = fixture.load().unwrap();
    assert_eq!(config.state_dir, fixture.path("state"));
    assert_eq!(config.destinations[0].url, "file:///srv/backup");
    assert!(config.destinations[0].required);
    assert_eq!(config.append_server, AppendServer::Embedded);
    assert!(
        matches!(&config.keys.unlock, Unlock::KeyFile(file) if file.path() == fixture.path("keys/daemon.key"))
    );
    config.check_files().unwrap();

    let host = config.host("web1").unwrap();
    assert_eq!(host.login.address.host(), "127.0.0.1");
    assert_eq!(host.login.address.port(), 2222);
    assert_eq!(host.login.host_keys.len(), 1);
    assert_eq!(host.defined_at.line, 5);
    assert_eq!(host.repository.as_str(), "web1");
    assert_eq!(host.transport, Transport::Auto);
    assert!(host.exclude_caches && !host.one_file_system && host.jumps.is_empty());
    let paths: Vec<&[u8]> = host.paths.iter().map(|path| path.as_bytes()).collect();
    assert_eq!(paths, [&b"/etc"[..], b"/srv"]);
}

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
fn a_hosts_rules_follow_the_defaults_and_other_values_replace_them() {
    let hosts = format!("{HOSTS}exclude = [\"!/var/cache/keep/**\"]\nexclude_caches = false\n");
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    let host = config.host("web1").unwrap();
    let rules: Vec<&str> = host.exclude.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(rules, ["/var/cache/**", "*.tmp", "!/var/cache/keep/**"]);
    assert!(!host.exclude_caches);
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_nearest_known_one() {
    let text = refused_hosts(&HOSTS.replace("address", "adress"));
    assert_eq!(
        text,
        "hosts.toml:6:1: host.web1.adress: unknown key `adress`: did you mean `address`?"
    );
    let text = refused_host_line("colour = \"red\"");
    assert_says(
        &text,
        &[
            "hosts.toml:11:1: host.web1.colour",
            "unknown key `colour`: known here: address, user",
        ],
    );
    let text = refused_coordinator(&COORDINATOR.replace("state_dir", "statedir"));
    assert_says(
        &text,
        &[
            "coordinator.toml:1:1: statedir",
            "did you mean `state_dir`?",
        ],
    );
    let text = refused_coordinator(&COORDINATOR.replace("key_file", "keyfile"));
    assert_says(
        &text,
        &[
            "coordinator.toml:9:1: keys.keyfile",
            "did you mean `key_file`?",
        ],
    );
    let text = refused_hosts("[hosts.web1]\naddress = \"a\"\n");
    assert_says(&text, &["hosts.toml:1:2: hosts", "did you mean `host`?"]);
    let text = refused_host_line("limits = { idel = \"5m\" }");
    assert_says(
        &text,
        &[
            "hosts.toml:11:12: host.web1.limits.idel",
            "did you mean `idle`?",
        ],
    );
    let text = refused_host_line("jump = { address = \"a\", usr = \"b\" }");
    assert_says(
        &text,
        &[
            "hosts.toml:11:25: host.web1.jump.usr",
            "did you mean `user`?",
        ],
    );
}

#[test]
fn a_wrong_type_or_word_is_named_with_its_key() {
    let text = refused_host_line("one_file_system = \"yes\"");
    assert_says(
        &text,
        &[
            "hosts.toml:11:19: host.web1.one_file_system",
            "expected a boolean",
        ],
    );
    let text = refused_host_line("transport = \"tpc\"");
    assert_says(
        &text,
        &[
            "hosts.toml:11:13: host.web1.transport",
            "unknown value `tpc`: did you mean `tcp`?",
        ],
    );
    let text = refused_host_line("jump = 5");
    assert_says(
        &text,
        &[
            "hosts.toml:11:8: host.web1.jump",
            "the name of a host, or a table",
        ],
    );
    let text = refused_coordinator(
        &COORDINATOR.replace("state_dir = \"state\"\n", "hosts = \"hosts.toml\"\n"),
    );
    assert_says(
        &text,
        &["coordinator.toml:1:1", "missing key `state_dir`: add it"],
    );
    let text = refused_host_line("tags = [\"a\"");
    assert_says(&text, &["hosts.toml:1"]);
}

#[test]
fn a_host_name_twice_in_a_file_is_an_error_with_its_line() {
    let text = refused_hosts(&format!("{HOSTS}\n[host.web1]\naddress = \"b\"\n"));
    assert_says(
        &text,
        &["hosts.toml:12:", "web1", "written twice", "rename"],
    );
}

#[test]
fn a_host_name_in_two_files_is_an_error_that_names_both() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    fixture.write(
        "hosts.d/more.toml",
        "[host.db1]\n[host.web1]\naddress = \"b\"\n",
        0o600,
    );
    let text = fixture.refusal_here();
    assert_says(
        &text,
        &[
            "hosts.d/more.toml:2:7: host.web1",
            "already defined at hosts.toml:5:7",
            "rename",
        ],
    );
}

#[test]
fn hosts_d_is_merged_in_and_other_files_there_are_not() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    let db1 = "[host.db1]\naddress = \"[2001:db8::7]\"\nuser = \"root\"\nuse_agent = true\npaths = [\"/\"]\n";
    fixture.write("hosts.d/db.toml", db1, 0o600);
    fixture.write("hosts.d/.hidden.toml", "not toml", 0o600);
    fixture.write("hosts.d/db.toml~", "not toml", 0o600);
    let config = fixture.load().unwrap();
    assert_eq!(config.hosts.len(), 2);
    let db1 = config.host("db1").unwrap();
    assert_eq!(db1.login.address.to_string(), "[2001:db8::7]:22");
    assert!(db1.exclude_caches, "defaults reach hosts.d too");
    assert_eq!(&*db1.defined_at.file, fixture.path("hosts.d/db.toml"));
}

#[test]
fn defaults_stand_in_the_main_file_only() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    fixture.write("hosts.d/more.toml", "\n[defaults]\nuser = \"x\"\n", 0o600);
    assert_says(
        &fixture.refusal_here(),
        &["hosts.d/more.toml:2:", "move it to hosts.toml"],
    );
}

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

#[test]
fn path_like_host_names_are_refused() {
    for (name, remedy) in [
        ("\"../etc\"", "is not a path"),
        ("\"a/b\"", "is not a path"),
        ("\"a..b\"", "is not a path"),
        ("\"\"", "empty"),
        ("\".hidden\"", "start it with a-z or 0-9"),
        ("\"-oProxyCommand\"", "use only a-z"),
        ("\"Web\"", "use only a-z"),
        ("\"a\\u0000b\"", "use only a-z"),
        ("\"a\\u001bb\"", "use only a-z"),
        ("\"a b\"", "use only a-z"),
    ] {
        let text = refused_hosts(&HOSTS.replace("web1", name));
        assert_says(&text, &["hosts.toml:5:7: host", remedy]);
        assert!(
            !text.contains(['\0', '\u{1b}']),
            "{text:?} passes control characters on"
        );
    }
    let long = "a".repeat(64);
    assert_says(
        &refused_hosts(&HOSTS.replace("web1", &long)),
        &["hosts.toml:5:7", "shorten it to 63"],
    );
}

#[test]
fn addresses_and_users_that_could_be_options_are_refused() {
    for (from, to, line, remedy) in [
        (
            "127.0.0.1:2222",
            "-oProxyCommand=sh",
            6,
            "could be taken for an option",
        ),
        (
            "127.0.0.1:2222",
            "root@-oProxyCommand=sh",
            6,
            "write it under `user`",
        ),
        ("127.0.0.1:2222", "a b", 6, "use a DNS name"),
        ("127.0.0.1:2222", "a\\nb", 6, "use a DNS name"),
        ("127.0.0.1:2222", "a:0", 6, "from 1 to 65535"),
        ("127.0.0.1:2222", "a:ssh", 6, "from 1 to 65535"),
        ("127.0.0.1:2222", "::1", 6, "write \"[::1]\""),
        (
            "\"root\"",
            "\"-oProxyCommand=sh\"",
            7,
            "could be taken for an option",
        ),
        ("\"root\"", "\"a b\"", 7, "not a login name"),
        ("\"root\"", "\"\"", 7, "not a login name"),
    ] {
        let text = refused_hosts(&HOSTS.replace(from, to));
        assert_says(
            &text,
            &[&format!("hosts.toml:{line}:"), "host.web1.", remedy],
        );
    }
}

#[test]
fn a_bad_glob_is_named_with_file_line_and_remedy() {
    let text = refused_hosts(&HOSTS.replace("*.tmp", "cache[0-9"));
    assert_says(
        &text,
        &[
            "hosts.toml:2:29: defaults.exclude[1]",
            "bad glob \"cache[0-9\"",
            "escape",
        ],
    );
    let text = refused_host_line("exclude = [\n  \"fine\",\n  \"{a,b\",\n]");
    assert_says(
        &text,
        &[
            "hosts.toml:13:3: host.web1.exclude[1]",
            "bad glob \"{a,b\"",
            "escape",
        ],
    );
    let text = refused_host_line("exclude = [\"!\"]");
    assert_says(
        &text,
        &["hosts.toml:11:12: host.web1.exclude[0]", "write a glob"],
    );
    let text = refused_host_line("exclude_if_present = [\"a/b\"]");
    assert_says(
        &text,
        &[
            "hosts.toml:11:23: host.web1.exclude_if_present[0]",
            "bare name",
        ],
    );
}

#[test]
fn paths_are_absolute_plain_and_without_parents() {
    for (path, remedy) in [
        ("etc", "start it with \\\"/\\\""),
        ("/srv/../etc", "holds \"..\""),
        ("/home/*", "shape it with `exclude`"),
        ("", "empty"),
    ] {
        let text = refused_hosts(&HOSTS.replace("\"/srv\"", &format!("\"{path}\"")));
        assert_says(
            &text,
            &[
                "hosts.toml:10:18: host.web1.paths[1]",
                &remedy.replace("\\\"", "\""),
            ],
        );
    }
}

#[test]
fn a_host_must_say_how_to_reach_it_and_what_to_keep() {
    for (line, missing) in [
        (
            "address = \"127.0.0.1:2222\"\n",
            "`address` is missing: add `address = ",
        ),
        (
            "user = \"root\"\n",
            "`user` is missing: add `user = \"backup\"` here or under [defaults]",
        ),
        (
            "identity_file = \"keys/id\"\n",
            "no way to log in: set `identity_file",
        ),
        (
            "paths = [\"/etc\", \"/srv\"]\n",
            "`paths` is missing: add `paths = [\"/\"]`",
        ),
    ] {
        assert_says(
            &refused_hosts(&HOSTS.replace(line, "")),
            &["hosts.toml:5:7: host.web1: ", missing],
        );
    }
    let text = refused_hosts(&HOSTS.replace("identity_file", "certificate_file"));
    assert_says(
        &text,
        &["hosts.toml:5:7: host.web1", "needs the key it certifies"],
    );
}

#[test]
fn what_belongs_to_one_host_cannot_be_a_default() {
    for line in ["address = \"a\"", "host_key = []", "repository = \"a\""] {
        let text = refused_hosts(&HOSTS.replace("[defaults]", &format!("[defaults]\n{line}")));
        assert_says(
            &text,
            &["hosts.toml:2:", "defaults.", "cannot be shared: move it"],
        );
    }
}

#[test]
fn other_values_are_refused_with_a_way_to_write_them() {
    for (line, remedy) in [
        ("host_key2 = 1", "did you mean `host_key`?"),
        ("max_new = \"50\"", "write \"50GiB\""),
        ("limits = { idle = \"5\" }", "write \"90s\""),
        ("limits = { connect = \"0s\" }", "at least 1s"),
        ("limits = { tunnel_connections = 9 }", "from 1 to 8"),
        ("limits = { nice = 20 }", "from 1 to 19"),
        ("fs_snapshot = \"zfs\"", "use a hook"),
        ("fs_snapshot = \"ext4\"", "write \"btrfs\", \"lvm\""),
        ("limits = { ionice = \"realtime\" }", "write \"idle\""),
        ("limits = { ionice = \"best-effort:8\" }", "write \"idle\""),
        ("limits = { cpu = \"0%\" }", "from \"1%\""),
        ("limits = { cpu = \"half\" }", "as in \"50%\""),
        ("limits = { bandwidth = \"10Mbit/s\" }", "\"10MiB/s\""),
        ("limits = { bandwidth = 10 }", "a list of tables"),
        (
            "limits = { bandwidth = [{ rate = \"1MiB\" }] }",
            "\"10MiB/s\"",
        ),
        (
            "limits = { bandwidth = [{ rate = \"1MiB/s\", until = \"18:00\" }] }",
            "until",
        ),
        (
            "limits = { bandwidth = [{ from = \"8\", to = \"18:00\", rate = \"1MiB/s\" }] }",
            "two different times",
        ),
        (
            "limits = { bandwidth = [{ from = \"08:00\", rate = \"1MiB/s\" }] }",
            "write both",
        ),
        (
            "limits = { bandwidth = [{ rate = \"1MiB/s\" }, { rate = \"2MiB/s\" }] }",
            "never applies",
        ),
        ("become = \"sudo -n; rm\"", "no shell runs it"),
        ("become = \"$(id)\"", "no shell runs it"),
        ("become = \"-n\"", "not a program"),
        ("become = \"PATH=/tmp sudo\"", "not a program"),
        ("tags = [\"a b\"]", "use only a-z"),
        ("repository = \"../x\"", "not a path"),
        ("certificate_file = \"../x\"", "holds \"..\""),
    ] {
        assert_says(
            &refused_host_line(line),
            &["hosts.toml:11:", "host.web1", remedy],
        );
    }
    let text = refused_hosts(&HOSTS.replace("SHA256:A", "MD5:A"));
    assert_says(
        &text,
        &[
            "hosts.toml:9:13: host.web1.host_key[0]",
            "ssh-keygen -lf",
            "host trust",
        ],
    );
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

#[test]
fn configuration_files_that_everybody_can_write_are_refused() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    fixture.write("hosts.toml", HOSTS, 0o666);
    assert_says(
        &fixture.refusal_here(),
        &["hosts.toml", "mode 0666", "chmod o-w"],
    );
}

#[test]
fn missing_and_odd_files_are_refused_with_a_remedy() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    std::fs::remove_file(fixture.path("hosts.toml")).unwrap();
    assert_says(
        &fixture.refusal_here(),
        &[
            "hosts.toml",
            "there is no hosts file",
            "coordinator config example hosts >",
        ],
    );
    std::fs::remove_file(fixture.path("coordinator.toml")).unwrap();
    assert_says(
        &fixture.refusal_here(),
        &["coordinator.toml", "coordinator init --dir DIR", "--config"],
    );
    std::fs::create_dir(fixture.path("coordinator.toml")).unwrap();
    assert_says(
        &fixture.refusal_here(),
        &["coordinator.toml", "is not a regular file"],
    );
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    std::fs::write(fixture.path("hosts.toml"), b"# \xc3\xa9\n# \xff\n").unwrap();
    assert_says(&fixture.refusal_here(), &["hosts.toml:2:3", "not UTF-8"]);
}

#[test]
fn line_ends_of_windows_are_read_and_a_mark_at_the_beginning_too() {
    let fixture = Fixture::new(COORDINATOR, &HOSTS.replace('\n', "\r\n"));
    assert_eq!(
        fixture
            .load()
            .unwrap()
            .host("web1")
            .unwrap()
            .defined_at
            .line,
        5
    );
    let fixture = Fixture::new(COORDINATOR, &format!("\u{feff}{HOSTS}"));
    assert!(fixture.load().unwrap().hosts.contains_key("web1"));
    let broken = format!("\u{feff}{}", HOSTS.replace("address", "adress"));
    assert_says(
        &refused_hosts(&broken),
        &["hosts.toml:6:1: host.web1.adress"],
    );
}

#[test]
fn lists_that_leave_nothing_to_do_are_refused() {
    assert_says(
        &refused_hosts(&HOSTS.replace("[\"/etc\", \"/srv\"]", "[]")),
        &["hosts.toml:5:7: host.web1", "`paths` is missing"],
    );
    let tags = format!("{HOSTS}tags = []\ngroups = []\nexclude = []\n");
    let config = Fixture::new(COORDINATOR, &tags).load().unwrap();
    assert_eq!(config.host("web1").unwrap().exclude.len(), 2);
}

#[test]
fn a_file_past_the_bound_is_refused_before_it_is_read_as_toml() {
    let fixture = Fixture::new(COORDINATOR, HOSTS);
    let file = std::fs::File::create(fixture.path("hosts.toml")).unwrap();
    file.set_len(crate::config::source_text::FILE_BYTES_MAX + 1)
        .unwrap();
    let text = fixture.load().unwrap_err().to_string();
    assert_says(
        &text,
        &["hosts.toml: is larger than 64 MiB: split it over hosts.d"],
    );
}

#[test]
fn all_errors_of_a_file_are_shown_at_once_up_to_a_bound() {
    let hosts: String = (0..100)
        .map(|number| format!("[host.h{number}]\naddress = \"-x\"\n"))
        .collect();
    let fixture = Fixture::new(COORDINATOR, &hosts);
    let errors = fixture.load().unwrap_err();
    assert_eq!(errors.errors().len(), ERRORS_MAX);
    assert_eq!(errors.left_off(), 100 - ERRORS_MAX);
    assert!(errors.to_string().ends_with("and 80 more"));
}

const JUMPS: &str = "\
[defaults]
user = \"root\"
use_agent = true
paths = [\"/\"]
[host.a]
address = \"a\"
jump = \"b\"
[host.b]
address = \"b\"
jump = \"c\"
[host.c]
address = \"c\"
user = \"jump\"
paths = []
";

#[test]
fn jumps_resolve_in_the_order_of_connecting_and_hosts_only_jumped_over_need_no_paths() {
    let config = Fixture::new(COORDINATOR, JUMPS).load().unwrap();
    let jumps = &config.host("a").unwrap().jumps;
    let hosts: Vec<&str> = jumps.iter().map(|jump| jump.login.address.host()).collect();
    assert_eq!(hosts, ["c", "b"]);
    assert_eq!(jumps[0].login.user.as_str(), "jump");
    assert_eq!(jumps[0].host.as_ref().unwrap().as_str(), "c");
    assert!(config.host("c").unwrap().paths.is_empty());
}

#[test]
fn a_jump_that_is_written_out_takes_the_rest_from_its_host() {
    let table = "[host.web1.jump]\naddress = \"gate:2222\"\nuser = \"jump\"\nhost_key = [\"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"]\n";
    let config = Fixture::new(COORDINATOR, &format!("{HOSTS}{table}"))
        .load()
        .unwrap();
    let host = config.host("web1").unwrap();
    assert_eq!(host.jumps.len(), 1);
    let login = &host.jumps[0].login;
    assert_eq!((login.user.as_str(), login.address.port()), ("jump", 2222));
    assert_eq!(login.identity_file, host.login.identity_file);
    assert_eq!(login.host_keys.len(), 1);
    assert_eq!(host.jumps[0].host, None);
}

#[test]
fn jumps_to_nowhere_and_in_circles_are_refused() {
    let text = refused_hosts(&JUMPS.replace("jump = \"c\"", "jump = \"a\""));
    assert_says(
        &text,
        &[
            "hosts.toml:7:8: host.a.jump",
            "a -> b -> a",
            "hosts.toml:10:8: host.b.jump",
        ],
    );
    let text = refused_hosts(&JUMPS.replace("jump = \"b\"", "jump = \"a\""));
    assert_says(&text, &["hosts.toml:7:8: host.a.jump", "a -> a"]);
    let text = refused_host_line("jump = \"root@gate:22\"");
    assert_says(
        &text,
        &["hosts.toml:11:8: host.web1.jump", "write jump = { address"],
    );
    let text = refused_host_line("jump = \"web2\"");
    assert_says(
        &text,
        &["hosts.toml:11:8: host.web1.jump", "did you mean \"web1\"?"],
    );
    let text = refused_hosts(&HOSTS.replace("[defaults]", "[defaults]\njump = \"gate\""));
    assert_says(&text, &["hosts.toml:2:8: defaults.jump", "not a host"]);
}

#[test]
fn an_inherited_jump_does_not_apply_to_the_jump_host_itself() {
    let hosts = JUMPS
        .replace("jump = \"b\"\n", "")
        .replace("jump = \"c\"\n", "");
    let hosts = hosts.replace("use_agent", "jump = \"c\"\nuse_agent");
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    assert_eq!(config.host("a").unwrap().jumps.len(), 1);
    assert!(config.host("c").unwrap().jumps.is_empty());
    let direct = hosts.replace("address = \"a\"", "address = \"a\"\njump = \"\"");
    let config = Fixture::new(COORDINATOR, &direct).load().unwrap();
    assert!(config.host("a").unwrap().jumps.is_empty());
}

#[test]
fn a_hosts_own_key_does_not_inherit_the_certificate_of_another() {
    let hosts = HOSTS.replace(
        "[defaults]",
        "[defaults]\nidentity_file = \"d\"\ncertificate_file = \"d-cert.pub\"",
    );
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    assert_eq!(config.host("web1").unwrap().login.certificate_file, None);
}

#[test]
fn an_unknown_host_is_told_with_the_nearest_name() {
    let config = Fixture::new(COORDINATOR, HOSTS).load().unwrap();
    assert_says(
        &config.host("web2").unwrap_err().to_string(),
        &["no host \"web2\"", "did you mean \"web1\"?"],
    );
    assert_says(
        &config.host("x").unwrap_err().to_string(),
        &["`coordinator host ls`"],
    );
}

#[test]
fn a_hundred_thousand_hosts_resolve() {
    use std::fmt::Write;
    let mut hosts = String::from(
        "[defaults]\nuser = \"root\"\nuse_agent = true\npaths = [\"/\"]\nexclude = [\"*.tmp\"]\n",
    );
    for number in 0..100_000 {
        writeln!(
            hosts,
            "[host.h{number}]\naddress = \"h{number}.example.com\""
        )
        .unwrap();
    }
    let main = Path::new("hosts.toml");
    let mut errors = crate::config::error::ErrorList::default();
    let sources = [SourceText::new(main, hosts)];
    let resolved = resolve(main, &sources, None, &mut errors);
    assert_eq!((resolved.len(), errors.count()), (100_000, 0));
    assert_eq!(resolved["h99999"].defined_at.line, 5 + 2 * 99_999 + 1);
}

#[test]
fn the_remaining_values_reach_the_host() {
    let hosts = format!(
        "{HOSTS}become = \"sudo  -n\"\nmax_new = \"1.5GiB\"\nrepository = \"web\"\ntags = [\"prod\", \"prod\"]\n\
         transport = \"stdio\"\nfs_snapshot = \"btrfs\"\nlimits = {{ idle = \"90s\", agent_threads = 2, nice = 5, ionice = \"best-effort:6\", cpu = \"150%\", bandwidth = \"1MiB/s\" }}\n"
    );
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    let host = config.host("web1").unwrap();
    assert_eq!(host.become_command.words(), ["sudo", "-n"]);
    assert_eq!(host.safety.max_new.hard, Some(Size::from_bytes(3 << 29)));
    assert_eq!(host.repository.as_str(), "web");
    assert_eq!(host.tags.len(), 1);
    assert_eq!(host.transport, Transport::Stdio);
    assert_eq!(host.fs_snapshot, FsSnapshot::Btrfs);
    assert_eq!(host.limits.idle.duration().as_secs(), 90);
    assert_eq!(host.limits.connect.duration().as_secs(), 30);
    assert_eq!(host.limits.agent_threads, Some(2));
    assert_eq!(host.limits.nice, 5);
    let priority = host.limits.io_priority.map(|priority| priority.options());
    assert_eq!(priority.as_deref(), Some("-c2 -n6"));
    assert_eq!(host.limits.cpu.percent(), Some(150));
    let always = Rates::always("1MiB/s".parse().unwrap());
    assert_eq!(host.limits.bandwidth, Some(always));
    let kept = standalone_toml(&config, host);
    let again = Fixture::new(COORDINATOR, &kept).load().unwrap();
    assert_eq!(again.host("web1").unwrap().limits, host.limits);
}

#[test]
fn bandwidth_may_change_by_the_hour() {
    let by_hours =
        "[{ from = \"8:00\", to = \"18:00\", rate = \"2MiB/s\" }, { rate = \"20MiB/s\" }]";
    let hosts = format!("{HOSTS}limits = {{ bandwidth = {by_hours} }}\n");
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    let host = config.host("web1").unwrap();
    let rates = host.limits.bandwidth.as_ref().unwrap().entries();
    assert_eq!(rates[0].hours.unwrap().to_string(), "08:00-18:00");
    assert_eq!(
        (rates[1].hours, rates[1].rate.bytes_per_sec()),
        (None, 20 << 20)
    );
    let kept = standalone_toml(&config, host);
    let again = Fixture::new(COORDINATOR, &kept).load().unwrap();
    assert_eq!(again.host("web1").unwrap().limits, host.limits);

    let inherited = HOSTS.replace(
        "[defaults]",
        "[defaults]\nlimits = { bandwidth = \"1MiB/s\" }",
    );
    let freed = format!("{inherited}limits = {{ bandwidth = [] }}\n");
    for (hosts, limited) in [(&inherited, true), (&freed, false)] {
        let config = Fixture::new(COORDINATOR, hosts).load().unwrap();
        let host = config.host("web1").unwrap();
        assert_eq!(host.limits.bandwidth.is_some(), limited);
    }
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

#[test]
fn hooks_reach_the_host_in_their_order_and_replace_those_of_the_defaults() {
    let hosts = HOSTS.replace(
        "[defaults]",
        "[defaults]\nhook = [{ on = \"finally\", run = [\"sync\"] }]",
    );
    let config = Fixture::new(COORDINATOR, &hosts).load().unwrap();
    let inherited = &config.host("web1").unwrap().hooks;
    assert_eq!(inherited[0].command, ["sync"]);
    assert_eq!(inherited[0].on_failure, HookFailure::Warn);
    assert_eq!(inherited[0].timeout.duration().as_secs(), 300);
    let own = "\n[[host.web1.hook]]\non = \"before-run\"\nrun = [\"a b\", \"c\\nd\"]\ntimeout = \"60s\"\n\
               [[host.web1.hook]]\non = \"failed\"\nrun = [\"x\"]\non_failure = \"ignore\"\n";
    let config = Fixture::new(COORDINATOR, &(hosts + own)).load().unwrap();
    let host = config.host("web1").unwrap();
    assert_eq!(host.hooks.len(), 2);
    assert_eq!(host.hooks[0].command, ["a b", "c\nd"]);
    assert_eq!(host.hooks[0].on, HookEvent::BeforeRun);
    assert_eq!(host.hooks[0].on_failure, HookFailure::Abort);
    assert_eq!(host.hooks[1].on_failure, HookFailure::Ignore);
    // What a snapshot keeps of its host's settings gives the same host again.
    let kept = standalone_toml(&config, host);
    let again = Fixture::new(COORDINATOR, &kept).load().unwrap();
    assert_eq!(again.host("web1").unwrap().hooks, host.hooks);
}

#[test]
fn hooks_that_cannot_be_meant_are_refused() {
    for (hook, remedy) in [
        ("{ on = \"before\", run = [\"x\"] }", "before-run"),
        ("{ on = \"failed\" }", "run"),
        ("{ on = \"failed\", run = \"x\" }", "hook"),
        (
            "{ on = \"failed\", run = [] }",
            "[\"systemctl\", \"stop\", \"x\"]",
        ),
        (
            "{ on = \"failed\", run = [\"\"] }",
            "the program and its arguments",
        ),
        ("{ on = \"failed\", run = [\"a\\u0000\"] }", "is no command"),
        (
            "{ on = \"failed\", run = [\"x\"], on_failure = \"abort\" }",
            "nothing to abort",
        ),
        (
            "{ on = \"failed\", run = [\"x\"], timeout = \"0s\" }",
            "at least 1s",
        ),
        (
            "{ on = \"failed\", run = [\"x\"], when = 1 }",
            "unknown key",
        ),
    ] {
        let text = refused_host_line(&format!("hook = [{hook}]"));
        assert_says(&text, &["hosts.toml:11:", "host.web1", remedy]);
    }
}

#[test]
fn a_program_that_is_told_has_a_bounded_time() {
    let with_timeout = |timeout: &str| {
        format!(
            "{COORDINATOR}\n[[notify.target]]\nname = \"pager\"\nkind = \"command\"\nrun = [\"page\"]\n\
             timeout = \"{timeout}\"\n"
        )
    };
    Fixture::new(&with_timeout("5m"), HOSTS).load().unwrap();
    let text = refused_coordinator(&with_timeout("301s"));
    assert_says(&text, &["coordinator.toml:", "5m1s", "at most 5m"]);
}

#[test]
fn presets_are_commands_and_streams_read_back_as_they_are_shown() {
    let streams = "stream = [
        { name = \"z\", run = [\"a b\", \"c\"], min_percent = 25, allow_empty = true, on_failure = \"warn\" },
        { name = \"pg/all\", preset = \"postgres\", through = \"runuser -u postgres --\" },
        { name = \"pg/one\", preset = \"postgres\", database = \"a\", args = [\"--host=/run\"], max_size = \"1GiB\" },
        { name = \"my\", preset = \"mysql\", args = [\"--no-defaults\"] },
        { name = \"lite\", preset = \"sqlite\", database = \"/x.db\", timeout = \"5m\" },
        { name = \"mongo\", preset = \"mongodb\", database = \"shop\", min_percent = 0 },
    ]\n";
    let config = Fixture::new(COORDINATOR, &format!("{HOSTS}{streams}"))
        .load()
        .unwrap();
    let host = config.host("web1").unwrap();
    let commands: Vec<String> = host
        .streams
        .iter()
        .map(|stream| format!("{}: {}", stream.name, stream.command.join("|")))
        .collect();
    let mysql =
        "--single-transaction|--quick|--routines|--events|--triggers|--hex-blob|--skip-dump-date";
    assert_eq!(
        commands,
        [
            "lite: sqlite3|-readonly|-bail|-cmd|.timeout 60000|/x.db|.dump".to_owned(),
            "mongo: mongodump|--archive|--db=shop".to_owned(),
            format!("my: mysqldump|--no-defaults|{mysql}|--all-databases"),
            "pg/all: runuser|-u|postgres|--|pg_dumpall|--no-password".to_owned(),
            "pg/one: pg_dump|--host=/run|--no-password|--dbname=a".to_owned(),
            "z: a b|c".to_owned(),
        ]
    );
    assert_eq!(host.streams[0].ends_with, "COMMIT;");
    let percent_min = |stream: usize| host.streams[stream].percent_min;
    assert_eq!(
        (percent_min(5), percent_min(1), percent_min(0)),
        (25, 0, 50)
    );
    let kept = standalone_toml(&config, host);
    let again = Fixture::new(COORDINATOR, &kept).load().unwrap();
    assert_eq!(again.host("web1").unwrap().streams, host.streams);
}

#[test]
fn streams_that_cannot_be_meant_are_refused() {
    for (streams, remedy) in [
        ("{ name = \"a\" }", "either `preset`"),
        (
            "{ name = \"a\", preset = \"mysql\", run = [\"x\"] }",
            "either `preset`",
        ),
        (
            "{ name = \"a\", run = [\"x\"], database = \"b\" }",
            "either `preset`",
        ),
        ("{ name = \"a\", preset = \"oracle\" }", "postgres"),
        ("{ name = \"a\", preset = \"sqlite\" }", "needs `database`"),
        (
            "{ name = \"a\", preset = \"mysql\", database = \"-x\" }",
            "cannot begin with",
        ),
        ("{ name = \"../a\", run = [\"x\"] }", "relative path"),
        ("{ name = \"/a\", run = [\"x\"] }", "relative path"),
        ("{ name = \"\", run = [\"x\"] }", "relative path"),
        ("{ name = \"a\", run = [] }", "is no command"),
        (
            "{ name = \"a\", run = [\"x\"], min_percent = 101 }",
            "from 0 to 100",
        ),
        (
            "{ name = \"a\", run = [\"x\"], timeout = \"8d\" }",
            "at most 7d",
        ),
        (
            "{ name = \"a\", run = [\"x\"], through = \"sh -c 'x'\" }",
            "no shell runs it",
        ),
        (
            "{ name = \"a\", run = [\"x\"] }, { name = \"a\", run = [\"y\"] }",
            "two streams have one name",
        ),
        (
            "{ name = \"a\", run = [\"x\"] }, { name = \"a/b\", run = [\"y\"] }",
            "below another",
        ),
    ] {
        let text = refused_host_line(&format!("stream = [{streams}]"));
        assert_says(&text, &["hosts.toml:11:", "host.web1", remedy]);
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_read_and_never_panics(at in 0..HOSTS.len(), with: char) {
        let mut text: Vec<char> = HOSTS.chars().collect();
        text[at] = with;
        let mut errors = crate::config::error::ErrorList::default();
        let main = Path::new("hosts.toml");
        resolve(main, &[SourceText::new(main, text.into_iter().collect())], None, &mut errors);
        let refused = errors.finish(()).err();
        let shown = refused.map(|errors| errors.to_string()).unwrap_or_default();
        proptest::prop_assert!(!shown.contains(|found: char| found.is_control() && found != '\n'));
    }
}
