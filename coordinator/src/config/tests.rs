//! Loads whole configurations from directories: what is refused, in which words, and what comes out.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod destinations;
mod files;
mod groups;
mod jumps;
mod secrets;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use append_server::quantity::Size;
use tempfile::TempDir;

use crate::config::Config;
use crate::config::coordinator_file::{AppendServer, Unlock};
use crate::config::fs_snapshot::FsSnapshot;
use crate::config::hook_settings::{HookEvent, HookFailure};
use crate::config::hosts_file::resolve;
use crate::config::raw::Transport;
use crate::config::show::standalone_toml;
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
