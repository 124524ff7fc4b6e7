//! Which files are read, and what makes one unreadable: its place, its mode, its length, its line ends.

use crate::config::error::ERRORS_MAX;
use crate::config::tests::{COORDINATOR, Fixture, HOSTS, assert_says, refused_hosts};

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
