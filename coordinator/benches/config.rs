//! What a configuration of many hosts costs: to load, which every command and every reload does, and to take the revision of.

use std::fmt::Write as _;
use std::path::PathBuf;

use coordinator::config::Config;
use coordinator::config::revision::ConfigRevision;
use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;

/// Hosts: a small fleet, and more than one coordinator is meant for.
const HOSTS: [usize; 2] = [500, 10_000];

fn main() {
    divan::main();
}

#[divan::bench(args = HOSTS)]
fn load(bencher: Bencher, hosts: usize) {
    let (_directory, file) = written(hosts);
    bencher
        .counter(ItemsCount::new(hosts))
        .bench_local(|| Config::load(&file).expect("the files are sound"));
}

#[divan::bench(args = HOSTS)]
fn revision(bencher: Bencher, hosts: usize) {
    let (_directory, file) = written(hosts);
    let config = Config::load(&file).expect("the files are sound");
    bencher
        .counter(ItemsCount::new(hosts))
        .bench_local(|| ConfigRevision::of(&config));
}

fn written(hosts: usize) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("coordinator.toml");
    let coordinator =
        "state_dir = \"state\"\n[[destination]]\nname = \"local\"\nurl = \"file:///srv/backup\"\n";
    std::fs::write(&file, coordinator).expect("a file");
    let mut text = String::from(
        "[defaults]\nuser = \"root\"\nuse_agent = true\npaths = [\"/\"]\nexclude = [\"*.tmp\"]\n[group.db]\nexclude = [\"/var/lib/db/**\"]\n",
    );
    for number in 0..hosts {
        write!(
            text,
            "[host.h{number}]\naddress = \"h{number}.example.com\"\ngroups = [\"db\"]\n\
             host_key = [\"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"]\n"
        )
        .expect("a String takes everything");
    }
    std::fs::write(directory.path().join("hosts.toml"), text).expect("a file");
    (directory, file)
}
