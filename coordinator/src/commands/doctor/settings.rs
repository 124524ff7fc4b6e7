//! What the configuration leaves off, and what that means. Pure: looks at nothing else.

use append_server::places::{Place, PlaceKind};

use crate::commands::doctor::{Finding, Verdict};
use crate::config::Config;
use crate::config::host::Host;
use crate::config::placing::is_kept;
use crate::status::hosts_backed_up;

/// How many hosts are named in one line.
const NAMES_MAX: usize = 5;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = destinations(config);
    findings.extend(hosts(config));
    if !config.hosts.values().any(|host| host.local) {
        let text =
            "no host is `local`: the coordinator's own state and configuration are in no backup";
        findings.push(Finding::new("state", Verdict::Off, text));
    }
    if config.scan.schedule.is_none() {
        let text =
            "the daemon never scans: set schedule under [scan], or run `coordinator scan` yourself";
        findings.push(Finding::new("scan", Verdict::Off, text));
    }
    if config.prune.schedule.is_none() {
        let text = "the daemon never prunes: set schedule under [prune], or run `coordinator prune` yourself";
        findings.push(Finding::new("prune", Verdict::Off, text));
    }
    if config.agents_dir.is_none() {
        findings.push(Finding::new(
            "agents",
            Verdict::Off,
            "only hosts of this program's own architecture can be backed up: see [agents]",
        ));
    }
    findings
}

fn destinations(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let places = &config.destinations;
    if places.iter().all(|place| place.local_path().is_some()) {
        findings.push(Finding::new(
            "destinations",
            Verdict::Warn,
            "every copy is on this machine: add one that is elsewhere",
        ));
    }
    for place in places {
        let about = format!("destination {}", place.name);
        if !place.removal.allow_delete {
            let text = match config.destination_keep.contains_key(&place.name) {
                true => "nothing is ever removed, whatever its keep says: allow_delete is false",
                false => "nothing is ever removed: allow_delete is false",
            };
            findings.push(Finding::new(about.clone(), Verdict::Off, text));
        }
        if matches!(place.kind, PlaceKind::S3(_)) && !place.has_lock() {
            let text = "no object lock: whoever has credentials that delete can delete backups; see retain";
            findings.push(Finding::new(about, Verdict::Off, text));
        }
    }
    findings.extend(kept_here_alone(config));
    findings
}

/// Hosts that `destinations` keeps on this machine, while others are kept elsewhere, too.
fn kept_here_alone(config: &Config) -> Option<Finding> {
    let places = &config.destinations;
    let is_elsewhere = |place: &Place| place.local_path().is_none();
    let hosts = hosts_backed_up(config).filter(|host| host.destinations.is_some());
    let alone = hosts.filter(|host| {
        let mut kept = places.iter().filter(|place| is_kept(place, host));
        !kept.any(is_elsewhere)
    });
    let named: Vec<&str> = alone.map(|host| host.name.as_str()).collect();
    let is_told = !named.is_empty() && places.iter().any(is_elsewhere);
    is_told.then(|| {
        let names = names(&named);
        let text = format!("every copy is on this machine: see `destinations` ({names})");
        Finding::new("hosts", Verdict::Warn, text)
    })
}

fn hosts(config: &Config) -> Vec<Finding> {
    let backed_up = |host: &&Host| !host.paths.is_empty();
    let hosts: Vec<&Host> = config.hosts.values().collect();
    let with_paths: Vec<&Host> = config.hosts.values().filter(backed_up).collect();
    let mut findings = Vec::new();
    if with_paths.is_empty() {
        let text = "no host is backed up: add one to the hosts file";
        findings.push(Finding::new("hosts", Verdict::Warn, text));
    }
    // What is locked has to be paid for until the lock ends, whoever sent it.
    let unlimited = match config.destinations.iter().any(Place::has_lock) {
        true => (
            Verdict::Warn,
            "without a hard `max_new` or `quota`, and a destination locks what is stored: a hacked host can run up its cost",
        ),
        false => (
            Verdict::Off,
            "without a hard `max_new` or `quota`: it may store as much as it likes",
        ),
    };
    type Lacks = fn(&Host) -> bool;
    let looks: [(&[&Host], Lacks, Verdict, &str); 6] = [
        (
            &hosts,
            |host| !host.is_trusted(),
            Verdict::Warn,
            "not trusted yet, so not backed up: run `coordinator host trust NAME`",
        ),
        (
            &with_paths,
            |host| host.timing.calendar.is_none(),
            Verdict::Off,
            "without `schedule`: backed up only when a person runs it",
        ),
        (
            &with_paths,
            |host| host.timing.calendar.is_some() && host.timing.sla.is_none(),
            Verdict::Off,
            "without `sla`: never called late",
        ),
        (
            &with_paths,
            |host| host.safety.anomaly.is_none(),
            Verdict::Off,
            "with anomaly = \"off\": no run is ever held as suspicious",
        ),
        (
            &with_paths,
            |host| host.keep.is_none(),
            Verdict::Off,
            "without `keep`: every snapshot stays, and prune refuses",
        ),
        (
            &with_paths,
            |host| host.safety.max_new.hard.is_none() && host.safety.quota.hard.is_none(),
            unlimited.0,
            unlimited.1,
        ),
    ];
    for (hosts, lacks, verdict, text) in looks {
        let named: Vec<&str> = hosts
            .iter()
            .filter(|host| lacks(host))
            .map(|host| host.name.as_str())
            .collect();
        if !named.is_empty() {
            let text = format!("{text} ({})", names(&named));
            findings.push(Finding::new("hosts", verdict, text));
        }
    }
    findings
}

fn names(named: &[&str]) -> String {
    let shown = named[..named.len().min(NAMES_MAX)].join(", ");
    match named.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
