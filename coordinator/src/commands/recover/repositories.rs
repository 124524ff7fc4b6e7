//! Finds the repositories of a destination, reads their logs, builds their caches, and gives them names again.

use std::collections::{BTreeMap, BTreeSet};

use append_server::places::Place;
use formats::ids::RepositoryId;
use formats::limits::SMALL_BODY_BYTES_MAX;
use formats::object::ObjectName;
use jiff::Timestamp;
use serde::Serialize;
use toml_edit::{DocumentMut, Item, Table};

use crate::catalog::SnapshotRow;
use crate::catalog::state::holds::HoldKind;
use crate::catalog::state::results::RunResult;
use crate::clock::utc;
use crate::commands::recover::RecoverError;
use crate::config::name::HostName;
use crate::coordinator::{Coordinator, HostRepository};
use crate::repository::RepositoryError;
use crate::repository::checked_config::{check_config, own_bundle};
use crate::repository::store::StoreError;
use crate::retention::holds::hold;
use crate::storage::ReadRange;
use crate::storage::error::StorageError;
use crate::terminal::{count_text, error_line};

/// Why every host is on hold afterwards.
const WHY_HELD: &str = "the coordinator was rebuilt by `recover`, which knows of holds and machines of before only what a copy of its state had: \
                        look at the host's last snapshots, then end this";

/// One repository; also an element of what `recover --json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Recovered {
    pub(super) repository: String,
    /// What the state calls it now; nothing for one that could not be opened.
    pub(super) name: Option<String>,
    pub(super) hosts: Vec<String>,
    pub(super) snapshots: u64,
    pub(super) last: Option<String>,
    pub(super) packs: u64,
    pub(super) problems: Vec<String>,
    /// What else there is to know.
    pub(super) notes: Vec<String>,
}

impl Recovered {
    pub(super) fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A repository that was read, before it has a name.
struct Found {
    id: RepositoryId,
    hosts: BTreeSet<String>,
    last: Option<Timestamp>,
    /// What each host's last snapshot was made of.
    sources: BTreeMap<String, Vec<String>>,
    /// Hosts' settings, as TOML, where the log has them.
    settings: BTreeMap<String, DocumentMut>,
    line: Recovered,
}

/// Reads every repository of the coordinator's one destination. Gives what was found, and a hosts.toml for it.
pub(super) async fn recover_repositories(
    coordinator: &Coordinator,
) -> Result<(Vec<Recovered>, String), RecoverError> {
    let place = coordinator
        .config
        .destinations
        .first()
        .ok_or_else(|| RecoverError::NothingThere { url: String::new() })?;
    let mut ids = place.open()?.repositories().await?;
    ids.sort_unstable();
    let url = || place.url.clone();
    if ids.is_empty() {
        return Err(RecoverError::NothingThere { url: url() });
    }
    let (mut found, mut refused, mut strangers) = (Vec::new(), Vec::new(), 0);
    for id in &ids {
        match recover_one(coordinator, *id).await? {
            Ok(one) => found.push(one),
            Err(line) => {
                strangers += usize::from(line.0);
                refused.push(line.1);
            }
        }
    }
    if strangers == ids.len() {
        let count = strangers;
        return Err(RecoverError::OtherKit { url: url(), count });
    }
    // Of two repositories of one host the newest has its name.
    found.sort_by_key(|one| std::cmp::Reverse(one.last));
    let mut taken = BTreeSet::new();
    let mut text = vec![HOSTS_HEAD.to_owned()];
    let mut written = BTreeSet::new();
    for one in &mut found {
        let name = name_of(coordinator, one, &taken);
        coordinator
            .state
            .lock()
            .await
            .rename_repository(one.id, &name)?;
        let places = &coordinator.config.destinations;
        text.extend(hosts_lines(one, &name, places, &mut written));
        one.line.name = Some(name.clone());
        taken.insert(name);
    }
    let lines = found.into_iter().map(|one| one.line).chain(refused);
    text.push(String::new());
    Ok((lines.collect(), text.join("\n")))
}

/// Reads one repository; or says why not, and whether it is only that its keys are others.
async fn recover_one(
    coordinator: &Coordinator,
    id: RepositoryId,
) -> Result<Result<Found, (bool, Recovered)>, RecoverError> {
    let hex = id.to_string();
    let refused = |is_stranger, error: &(dyn std::error::Error + 'static)| {
        let line = Recovered {
            repository: id.to_string(),
            problems: vec![error_line(error)],
            ..Recovered::default()
        };
        Ok(Err((is_stranger, line)))
    };
    let bytes_max = SMALL_BODY_BYTES_MAX as u64;
    let config = coordinator
        .storage
        .get(id, &ObjectName::Config, ReadRange::All, bytes_max);
    let config = match config.await {
        Ok(config) => config,
        Err(error @ (StorageError::Absent { .. } | StorageError::TooLong { .. })) => {
            return refused(false, &error);
        }
        // It may answer in a minute, and half of a recovery is worse than none.
        Err(error) => return Err(error.into()),
    };
    let own = match own_bundle(&coordinator.keyring, &coordinator.storage, id).await {
        Ok(own) => own,
        Err(error @ StoreError::TooLarge { .. }) => return refused(false, &error),
        Err(error) => return Err(RecoverError::Bundle(error)),
    };
    if let Err(error) = check_config(&coordinator.keyring, &hex, id, &config, own.as_deref()) {
        let is_stranger =
            matches!(error, RepositoryError::OtherKeys { .. }) || error.is_wrong_key();
        return refused(is_stranger, &error);
    }
    let mut state = coordinator.state.lock().await;
    state.remember_repository(&hex, id, coordinator.clock.now())?;
    state.mark_established(id)?;
    drop(state);
    let opened = match coordinator.find_damaged(&hex).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return refused(false, &RecoverError::NothingThere { url: hex }),
        Err(error) => return Err(error.into()),
    };
    note_results(coordinator, &opened.0).await?;
    // Keys that only read drop nothing.
    if coordinator.keyring.role().signs() {
        hold_hosts(coordinator, &opened.0).await?;
    }
    Ok(Ok(describe(coordinator, id, opened)?))
}

/// Each host's last snapshot, for its status.
async fn note_results(
    coordinator: &Coordinator,
    opened: &HostRepository,
) -> Result<(), RecoverError> {
    let rows = opened.catalog.snapshots(None)?;
    // The last one of each host stands.
    let last: BTreeMap<&str, &SnapshotRow> =
        rows.iter().map(|row| (row.host.as_str(), row)).collect();
    let mut state = coordinator.state.lock().await;
    for (host, row) in last {
        let result = RunResult {
            snapshot: row.id,
            committed: row.committed,
            good: true,
            verified: row.verified,
            totals: row.totals,
        };
        state.note_result(host, row.run, &result)?;
    }
    Ok(())
}

/// Which hosts were on hold, because of an attack or the law, was known to the lost coordinator alone.
async fn hold_hosts(
    coordinator: &Coordinator,
    opened: &HostRepository,
) -> Result<(), RecoverError> {
    let listed = opened.catalog.snapshots(None)?;
    let forgotten = opened.catalog.forgotten(None)?;
    let mut hosts: BTreeSet<&str> = listed.iter().map(|row| row.host.as_str()).collect();
    hosts.extend(forgotten.iter().map(|row| row.snapshot.host.as_str()));
    for host in hosts {
        // It may have snapshots in another repository, too.
        let is_held = !coordinator.state.lock().await.holds(Some(host))?.is_empty();
        if !is_held {
            hold(coordinator, host, HoldKind::Manual, WHY_HELD, None).await?;
        }
    }
    Ok(())
}

fn describe(
    coordinator: &Coordinator,
    id: RepositoryId,
    (opened, problems): (HostRepository, Vec<String>),
) -> Result<Found, RecoverError> {
    let rows = opened.catalog.snapshots(None)?;
    let hosts: BTreeSet<String> = rows.iter().map(|row| row.host.clone()).collect();
    let mut sources = BTreeMap::new();
    for host in &hosts {
        let last = rows.iter().rfind(|row| row.host == *host);
        if let Some(row) = last
            && let Some(snapshot) = opened.catalog.snapshot(row.id)?
        {
            let paths = snapshot.sources.iter();
            let paths = paths.map(|path| format!("/{}", String::from_utf8_lossy(path)));
            sources.insert(host.clone(), paths.collect());
        }
    }
    let mut settings = BTreeMap::new();
    for host in &hosts {
        if let Some(text) = opened.catalog.host_settings(host)?
            && let Ok(document) = text.parse::<DocumentMut>()
        {
            settings.insert(host.clone(), document);
        }
    }
    let last = rows.iter().map(|row| row.committed).max();
    let index = opened
        .repository
        .open_index(&coordinator.state_dir)
        .map_err(crate::coordinator::OpenError::from)?;
    Ok(Found {
        id,
        last,
        sources,
        settings,
        line: Recovered {
            repository: id.to_string(),
            name: None,
            hosts: hosts.iter().cloned().collect(),
            snapshots: rows.len() as u64,
            last: last.map(utc),
            packs: index.counts()?.packs,
            problems,
            notes: notes(coordinator, &opened)?,
        },
        hosts,
    })
}

/// What is kept elsewhere alone; and under which names the log knows destinations that keep less than others.
fn notes(coordinator: &Coordinator, opened: &HostRepository) -> Result<Vec<String>, RecoverError> {
    let thin = opened.catalog.thin_destinations()?;
    let places = coordinator.config.destinations.iter();
    let names: Vec<String> = places.map(|place| place.name.to_string()).collect();
    let mut elsewhere = 0;
    for row in opened.catalog.snapshots(None)? {
        let kept = coordinator.is_kept_elsewhere(opened, row.id)?;
        elsewhere += u64::from(kept.is_some());
    }
    let mut notes = Vec::new();
    if elsewhere > 0 {
        notes.push(format!(
            "{} of the snapshots are kept at other destinations only",
            count_text(elsewhere)
        ));
    }
    if !thin.is_empty() && !names.iter().any(|name| thin.contains(name)) {
        notes.push(format!(
            "destinations named {} keep less than others: if this is one of them, recover it with --set name=NAME, or what is kept \
             elsewhere only looks lost",
            thin.join(", ")
        ));
    }
    Ok(notes)
}

/// What hosts.toml calls it where there is one; its only host's name; else a name of its own.
fn name_of(coordinator: &Coordinator, found: &Found, taken: &BTreeSet<String>) -> String {
    let configured = found.hosts.iter().find_map(|host| {
        let host = coordinator.config.host(host).ok()?;
        Some(host.repository.to_string())
    });
    let only = match found.hosts.len() {
        1 => found.hosts.first().cloned(),
        _ => None,
    };
    let short: String = found.id.to_string().chars().take(8).collect();
    configured
        .or(only)
        .filter(|name| !taken.contains(name))
        .unwrap_or_else(|| format!("recovered-{short}"))
}

const HOSTS_HEAD: &str = "\
# hosts.toml, written by `coordinator recover` from the logs it found. The files of private keys are not in backups: put them
# back where `identity_file` says. Restoring needs none of this. `coordinator config example hosts` shows every key.";

/// The hosts of a repository as hosts.toml has them, line by line. A host is written once, whoever names it.
fn hosts_lines(
    found: &Found,
    name: &str,
    places: &[Place],
    written: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for host in &found.hosts {
        lines.push(String::new());
        if host.parse::<HostName>().is_err() {
            lines.push(format!("# {} is no host's name here.", quoted(host)));
            continue;
        }
        if written.contains(host) {
            lines.push(format!(
                "# {} has older snapshots in another repository: set repository = {} above to read them.",
                quoted(host),
                quoted(name)
            ));
            continue;
        }
        match found.settings.get(host) {
            Some(settings) => lines.extend(settings_lines((host, name), settings, places, written)),
            None => lines.extend(bare_lines(found, host, name)),
        }
        written.insert(host.clone());
    }
    lines
}

/// A host as its settings have it, and the hosts it is reached over.
fn settings_lines(
    (host, name): (&str, &str),
    settings: &DocumentMut,
    places: &[Place],
    written: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let hosts = settings.get("host").and_then(Item::as_table);
    for (other, item) in hosts.into_iter().flatten() {
        let Some(table) = item.as_table() else {
            continue;
        };
        if other != host && !written.insert(other.to_owned()) {
            continue;
        }
        let mut table = table.clone();
        if other == host {
            table.insert("repository", toml_edit::value(name));
        }
        lines.extend(take_unknown_destinations(&mut table, places));
        lines.extend(take_commit_of_more(&mut table, places));
        lines.push(format!("[host.{}]", toml_edit::Key::new(other)));
        lines.push(table.to_string());
    }
    lines
}

/// Takes a list out that names other destinations than there are now, which would be an error of the whole file; says what it
/// was.
fn take_unknown_destinations(table: &mut Table, places: &[Place]) -> Option<String> {
    let named = table.get("destinations")?.as_array()?;
    let is_known = |name: &toml_edit::Value| {
        let name = name.as_str().unwrap_or_default();
        places.iter().any(|place| place.name.to_string() == name)
    };
    if named.iter().all(is_known) {
        return None;
    }
    let was = format!(
        "# It was kept at destinations = {} of other names; without the key it is kept at every one.",
        named.to_string().trim()
    );
    table.remove("destinations");
    Some(was)
}

/// Takes a `commit` out that asks for more destinations than there are now, the same way.
fn take_commit_of_more(table: &mut Table, places: &[Place]) -> Option<String> {
    let copies = table.get("commit")?.as_integer()?;
    if usize::try_from(copies).is_ok_and(|copies| copies <= places.len()) {
        return None;
    }
    table.remove("commit");
    Some(format!(
        "# Its objects had to be on {copies} destinations: write commit = {copies} again once there are so many."
    ))
}

/// A host of which the log has only snapshots.
fn bare_lines(found: &Found, host: &str, name: &str) -> Vec<String> {
    let mut lines = vec![
        "# Its settings are not in the log: write its address, user and host key here before the next run.".to_owned(),
        format!("[host.{}]", toml_edit::Key::new(host)),
        format!("address = {}", quoted(host)),
        "user = \"root\"".to_owned(),
        "use_agent = true".to_owned(),
    ];
    if name != host {
        lines.push(format!("repository = {}", quoted(name)));
    }
    let sources = found.sources.get(host).map(Vec::as_slice);
    let paths = sources.unwrap_or_default().iter();
    let paths: Vec<String> = paths.map(|path| quoted(path)).collect();
    lines.push(format!("paths = [{}]", paths.join(", ")));
    lines
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::Path;

    use append_server::places::Place;
    use toml_edit::{DocumentMut, Table};

    use super::{take_commit_of_more, take_unknown_destinations};

    #[test]
    fn a_commit_stays_that_there_are_enough_destinations_for() {
        let places = ["nas", "tape"]
            .map(|name| Place::local(name.parse().unwrap(), Path::new("/srv"), false));
        for (commit, stays) in [("\"all\"", true), ("2", true), ("3", false)] {
            let text = format!("user = \"root\"\ncommit = {commit}\n");
            let mut host = text.parse::<DocumentMut>().unwrap().as_table().clone();
            let was = take_commit_of_more(&mut host, &places);
            assert_eq!(host.contains_key("commit"), stays, "{commit}");
            assert_eq!(
                was.is_some_and(|was| was.starts_with("# ")),
                !stays,
                "{commit}"
            );
        }
    }

    #[test]
    fn a_list_of_destinations_stays_where_all_of_them_are_there() {
        let place = |name: &str| Place::local(name.parse().unwrap(), Path::new("/srv"), false);
        let places = [place("nas"), place("tape")];
        let table =
            |text: &str| -> Table { text.parse::<DocumentMut>().unwrap().as_table().clone() };
        for (list, stays) in [
            ("[]", true),
            ("[\"nas\"]", true),
            ("[\"nas\", \"s3-eu\"]", false),
        ] {
            let mut host = table(&format!("user = \"root\"\ndestinations = {list}\n"));
            let was = take_unknown_destinations(&mut host, &places);
            assert_eq!(host.contains_key("destinations"), stays, "{list}");
            let told = was.is_some_and(|was| was.starts_with('#') && was.contains(list));
            assert_eq!(told, !stays, "{list}");
        }
        assert_eq!(
            take_unknown_destinations(&mut table("user = \"root\""), &places),
            None
        );
    }
}
