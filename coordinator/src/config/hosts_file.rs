//! hosts.toml and hosts.d/*.toml: from their texts to resolved hosts. Never reads a host's own files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::commit_setting::CommitSetting;
use crate::config::error::{ConfigError, ErrorList, ValueError};
use crate::config::host::{Descent, Host, JUMPS_MAX, Jump, Login, merge, merge_login};
use crate::config::layers::{Layers, SharedTables};
use crate::config::name::HostName;
use crate::config::placing::KnownPlaces;
use crate::config::raw::{RawHosts, RawSettings, Text};
use crate::config::settings::{JumpSetting, JumpWay, Settings, ValueReader};
use crate::config::source_text::SourceText;
use crate::config::suggestion::nearest;
use crate::config::table_keys::Keyed;

/// The directory beside the hosts file whose `*.toml` are read too.
pub const HOSTS_DIRECTORY: &str = "hosts.d";

/// A host whose own values are checked, before the way to it is known.
struct Draft<'a> {
    source: &'a SourceText,
    name_span: Range<usize>,
    host: Host,
    own: Settings,
    inherited: Vec<&'a Settings>,
}

/// Reads the main hosts file and its hosts.d.
pub(super) fn read_hosts(
    main: &Path,
    known: Option<KnownPlaces<'_>>,
    errors: &mut ErrorList,
) -> BTreeMap<HostName, Host> {
    let mut sources = Vec::new();
    let beside = match files_beside(main) {
        Ok(files) => files,
        Err(error) => {
            errors.push(|| error);
            return BTreeMap::new();
        }
    };
    for path in std::iter::once(main.to_owned()).chain(beside) {
        match SourceText::read(&path) {
            Ok(source) => sources.push(source),
            Err(ConfigError::Read { path, source })
                if path == main && source.kind() == io::ErrorKind::NotFound =>
            {
                errors.push(|| ConfigError::NoHostsFile { path });
            }
            Err(error) => errors.push(|| error),
        }
    }
    resolve(main, &sources, known, errors)
}

/// The files of hosts.d in name order; none when there is no such directory.
pub fn files_beside(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let directory = main.with_file_name(HOSTS_DIRECTORY);
    let read_error = |source| ConfigError::Read {
        path: directory.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read_error(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(read_error)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Resolves the hosts of `sources`, the first of which is the main file when it could be read. Where destinations are not known,
/// it is not looked whether there are those that hosts name.
pub(super) fn resolve(
    main: &Path,
    sources: &[SourceText],
    known: Option<KnownPlaces<'_>>,
    errors: &mut ErrorList,
) -> BTreeMap<HostName, Host> {
    let mut files = Vec::new();
    for source in sources {
        match source.parse::<RawHosts>() {
            Ok(raw) => files.push((source, raw)),
            Err(error) => errors.push(|| error),
        }
    }
    let shared = SharedTables::read(main, &files, errors);
    // With a broken file or a broken shared table, every host would only repeat the same error.
    if errors.count() > 0 {
        return BTreeMap::new();
    }
    let drafts = read_drafts(&files, &shared, errors);
    check_shared_jumps(&shared, &drafts, errors);
    if let Some(known) = &known {
        check_destinations(known, &shared, &drafts, errors);
    }
    if errors.count() > 0 {
        return BTreeMap::new();
    }
    add_jumps(drafts, errors)
}

/// A wrong jump in a shared table is one error there, not one for each host.
fn check_shared_jumps(
    shared: &SharedTables<'_>,
    drafts: &BTreeMap<HostName, Draft<'_>>,
    errors: &mut ErrorList,
) {
    if errors.count() > 0 {
        return;
    }
    for layer in shared.all() {
        if let Some(JumpSetting {
            span,
            way: JumpWay::Host(name),
        }) = &layer.settings.jump
            && !drafts.contains_key(name.as_str())
        {
            ValueReader::new(layer.source, errors).refuse(span, unknown_jump(name, drafts));
        }
    }
}

/// A wrong list in a shared table is one error there, not one for each host.
fn check_destinations(
    known: &KnownPlaces<'_>,
    shared: &SharedTables<'_>,
    drafts: &BTreeMap<HostName, Draft<'_>>,
    errors: &mut ErrorList,
) {
    let before = errors.count();
    let of_hosts = drafts.values().map(|draft| (draft.source, &draft.own));
    let tables = shared.all().map(|layer| (layer.source, &layer.settings));
    for (source, settings) in tables.chain(of_hosts) {
        if let Some(list) = &settings.destinations {
            known.check(source, list, errors);
        }
    }
    if errors.count() > before {
        return;
    }
    let (mut first, mut refused) = (BTreeMap::new(), BTreeSet::new());
    for draft in drafts.values() {
        // What is not backed up is kept nowhere.
        if draft.host.paths.is_empty() && !draft.host.local {
            continue;
        }
        if let Some((source, commit)) = commit_of(draft, shared)
            && let Some(reason) = known.check_commit(&draft.host, commit)
            && refused.insert((source.file(), commit.span.start))
        {
            ValueReader::new(source, errors).refuse(&commit.span, reason);
        }
        if let Some(reason) = known.check_shared(&draft.host, &mut first) {
            ValueReader::new(draft.source, errors).refuse(&draft.name_span, reason);
        }
    }
}

/// The `commit` that holds for a host, and the file that it is in.
fn commit_of<'a>(
    draft: &'a Draft<'_>,
    shared: &'a SharedTables<'_>,
) -> Option<(&'a SourceText, &'a CommitSetting)> {
    let own = draft.own.commit.as_ref();
    own.map(|commit| (draft.source, commit)).or_else(|| {
        let mut over = shared.of_groups(&draft.host.groups).into_iter();
        over.find_map(|layer| Some((layer.source, layer.settings.commit.as_ref()?)))
    })
}

fn read_drafts<'a>(
    files: &'a [(&'a SourceText, RawHosts)],
    shared: &'a SharedTables<'a>,
    errors: &mut ErrorList,
) -> BTreeMap<HostName, Draft<'a>> {
    let mut drafts: BTreeMap<HostName, Draft<'a>> = BTreeMap::new();
    for (source, raw) in files {
        for (name, table) in &raw.host {
            let location = source.location(name.span().start);
            let Some(host_name) = ValueReader::new(source, errors).one::<HostName>(name) else {
                continue;
            };
            if let Some(first) = drafts.get(&host_name) {
                errors.push(|| ConfigError::DuplicateTable {
                    table: format!("host.{host_name}"),
                    location,
                    first: first.host.defined_at.clone(),
                });
                continue;
            }
            let mut reader = ValueReader::new(source, errors);
            if let Some(draft) = read_draft(&mut reader, source, (name, table), &host_name, shared)
            {
                drafts.insert(host_name, draft);
            }
        }
    }
    drafts
}

fn read_draft<'a>(
    reader: &mut ValueReader<'_>,
    source: &'a SourceText,
    (name, table): (&Text, &Keyed<RawSettings>),
    host_name: &HostName,
    shared: &'a SharedTables<'a>,
) -> Option<Draft<'a>> {
    let table_name = format!("host.{host_name}");
    let groups = shared.groups(reader, table.table().groups.as_ref());
    let own = reader.settings(table.table(), &table_name)?;
    let groups = groups?;
    let over = shared.of_groups(&groups);
    let own_keys = Arc::new(table.keys(source, table_name));
    let shared_keys = over.iter().map(|layer| Arc::clone(&layer.keys));
    let descent = Descent {
        defined_at: source.location(name.span().start),
        groups,
        tables: std::iter::once(own_keys).chain(shared_keys).collect(),
    };
    let inherited: Vec<&Settings> = over.iter().map(|layer| &layer.settings).collect();
    let merged = merge(
        host_name,
        descent,
        &Layers::new(&own, inherited.iter().copied()),
    );
    match merged {
        Ok(host) => Some(Draft {
            source,
            name_span: name.span(),
            host,
            own,
            inherited,
        }),
        Err(reason) => {
            reader.refuse(&name.span(), reason);
            None
        }
    }
}

/// Finds the way to each host, and refuses hosts that nothing is to be done with.
fn add_jumps(
    mut drafts: BTreeMap<HostName, Draft<'_>>,
    errors: &mut ErrorList,
) -> BTreeMap<HostName, Host> {
    let mut jump_hosts = BTreeSet::new();
    let mut ways = BTreeMap::new();
    for (name, draft) in &drafts {
        match way_to(draft, &drafts) {
            Ok(way) => {
                jump_hosts.extend(way.iter().filter_map(|jump| jump.host.clone()));
                ways.insert(name.clone(), way);
            }
            Err((span, reason)) => {
                ValueReader::new(draft.source, errors).refuse(&span, reason);
            }
        }
    }
    for (name, draft) in &drafts {
        let has_something = !draft.host.paths.is_empty() || draft.host.local;
        if !has_something && !jump_hosts.contains(name) {
            let reason = ValueError::Missing {
                key: "paths",
                example: "paths = [\"/\"]",
                inheritable: true,
            };
            ValueReader::new(draft.source, errors).refuse(&draft.name_span, reason);
        }
    }
    let mut hosts = BTreeMap::new();
    for (name, way) in ways {
        if let Some(mut draft) = drafts.remove(&name) {
            draft.host.jumps = way;
            hosts.insert(name, draft.host);
        }
    }
    hosts
}

/// The hops to a host, the first hop first.
fn way_to(
    draft: &Draft<'_>,
    drafts: &BTreeMap<HostName, Draft<'_>>,
) -> Result<Vec<Jump>, (Range<usize>, ValueError)> {
    let own_span = draft.own.jump.as_ref().map(|jump| jump.span.clone());
    let span = own_span.unwrap_or_else(|| draft.name_span.clone());
    let mut way = Vec::new();
    if draft.host.local {
        return Ok(way);
    }
    let mut route = vec![draft.host.name.to_string()];
    let mut at = draft;
    while let Some(setting) = jump_of(at) {
        if way.len() == JUMPS_MAX {
            return Err((span, ValueError::JumpTooLong { max: JUMPS_MAX }));
        }
        match &setting.way {
            JumpWay::Direct => break,
            JumpWay::Login(login) => {
                let login = inline_login(login, &at.host.login).map_err(|reason| (span, reason))?;
                way.push(Jump { host: None, login });
                break;
            }
            JumpWay::Host(name) => {
                let Some(next) = drafts.get(name.as_str()) else {
                    return Err((span, unknown_jump(name, drafts)));
                };
                if next.host.local {
                    let name = name.clone();
                    return Err((span, ValueError::LocalJump { name }));
                }
                let circle = route.contains(name);
                route.push(name.clone());
                if circle {
                    return Err((span, ValueError::JumpCircle { route }));
                }
                way.push(Jump {
                    host: Some(next.host.name.clone()),
                    login: next.host.login.clone(),
                });
                at = next;
            }
        }
    }
    way.reverse();
    Ok(way)
}

/// A host's own `jump`, or the inherited one, unless that names the host itself: the jump host of all
/// the others inherits it too and is reached directly.
fn jump_of<'a>(draft: &'a Draft<'_>) -> Option<&'a JumpSetting> {
    let mut shared = draft.inherited.iter();
    let inherited = shared
        .find_map(|table| table.jump.as_ref())
        .filter(|setting| match &setting.way {
            JumpWay::Host(name) => name != draft.host.name.as_str(),
            JumpWay::Direct | JumpWay::Login(_) => true,
        });
    draft.own.jump.as_ref().or(inherited)
}

/// A hop that is written out takes what it does not say from the host it leads to.
fn inline_login(own: &Settings, host: &Login) -> Result<Login, ValueError> {
    let inherited = Settings {
        user: Some(host.user.clone()),
        identity_file: host.identity_file.clone(),
        certificate_file: host.certificate_file.clone(),
        use_agent: Some(host.use_agent),
        ..Settings::default()
    };
    merge_login(&Layers::new(own, [&inherited]))
}

fn unknown_jump(name: &str, drafts: &BTreeMap<HostName, Draft<'_>>) -> ValueError {
    let names = drafts.keys().map(HostName::as_str);
    ValueError::UnknownJump {
        name: name.to_owned(),
        nearest: nearest(name, names).map(str::to_owned),
    }
}
