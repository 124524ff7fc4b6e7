//! How a host is reached over others.

use crate::config::tests::{
    COORDINATOR, Fixture, HOSTS, assert_says, refused_host_line, refused_hosts,
};

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
