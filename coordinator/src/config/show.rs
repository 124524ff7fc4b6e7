//! The merged configuration as `config show` prints it, with where each value comes from. Never prints
//! a secret: of those the configuration holds only the paths.

use std::path::Path;

use append_server::places::{Place, PlaceKind};
use serde_json::{Map, Value, json};
use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table};

use crate::config::Config;
use crate::config::bandwidth_settings::bandwidth_value;
use crate::config::coordinator_file::{AppendServer, Unlock};
use crate::config::hook_settings::Hook;
use crate::config::host::{Host, HostLimits, Jump, Login};
use crate::config::notify_settings::{Endpoint, NotifySettings, Target, Way};
use crate::config::origin::{origin_json, origin_note};
use crate::config::prune_settings::PruneSettings;
use crate::config::safety_settings::safety_rows;
use crate::config::scan_settings::ScanSettings;
use crate::config::secret_keys::secret_value;
use crate::config::stream_settings::Stream;
use crate::retention::keep::Keep;
use crate::schedule::timing::Timing;

/// The keys that the operator's files set or leave to a default, in the order of the sample.
type Rows = Vec<(&'static str, Value)>;

/// The merged configuration as one JSON object, with where each value of a host comes from.
pub fn to_json(config: &Config, only: Option<&Host>) -> Value {
    let mut shown = effective(config, only);
    for host in chosen(config, only) {
        let table = shown
            .pointer_mut(&format!("/host/{}", host.name))
            .and_then(Value::as_object_mut);
        if let Some(table) = table {
            let origins = table
                .keys()
                .map(|key| (key.clone(), origin_json(host, key)))
                .collect();
            table.insert("origins".to_owned(), Value::Object(origins));
            table.insert("defined_at".to_owned(), json!(host.defined_at.to_string()));
        }
    }
    shown
}

/// Every effective value and nothing else.
pub fn effective(config: &Config, only: Option<&Host>) -> Value {
    let hosts = chosen(config, only).into_iter().map(|host| {
        let rows = host_rows(host).into_iter().map(owned).collect();
        (host.name.to_string(), Value::Object(rows))
    });
    let mut top: Map<String, Value> = Map::new();
    top.insert("host".to_owned(), Value::Object(hosts.collect()));
    if only.is_some() {
        return Value::Object(top);
    }
    top.extend(top_rows(config).into_iter().map(owned));
    let tables = table_rows(config).into_iter();
    top.extend(tables.map(|(name, rows)| (name.to_owned(), rows.into_iter().map(owned).collect())));
    let destinations = destination_keys(config).into_iter().map(Value::Object);
    top.insert(
        "destination".to_owned(),
        Value::Array(destinations.collect()),
    );
    Value::Object(top)
}

/// The merged configuration as TOML, with the origin of each value of a host behind it.
pub fn to_toml(config: &Config, only: Option<&Host>) -> String {
    let mut document = DocumentMut::new();
    if only.is_none() {
        for (key, value) in top_rows(config) {
            insert(&mut document, key, &value);
        }
        let mut tables = ArrayOfTables::new();
        for keys in destination_keys(config) {
            let mut table = Table::new();
            for (key, value) in &keys {
                insert(&mut table, key, value);
            }
            tables.push(table);
        }
        document.insert("destination", Item::ArrayOfTables(tables));
        for (name, rows) in table_rows(config) {
            document.insert(name, Item::Table(table_of(rows)));
        }
    }
    let mut hosts = Table::new();
    hosts.set_implicit(true);
    for host in chosen(config, only) {
        let mut table = Table::new();
        for (key, value) in host_rows(host) {
            insert(&mut table, key, &value);
            let note = format!(" # {}", origin_note(&config.hosts_file, host, key));
            if let Some(value) = table.get_mut(key).and_then(Item::as_value_mut) {
                value.decor_mut().set_suffix(note);
            }
        }
        table
            .decor_mut()
            .set_prefix(format!("\n# {}\n", host.defined_at));
        hosts.insert(host.name.as_str(), Item::Table(table));
    }
    document.insert("host", Item::Table(hosts));
    document.to_string()
}

/// A hosts.toml with every value of one host and of the named hosts it is reached over: read alone, it gives the same host.
pub fn standalone_toml(config: &Config, host: &Host) -> String {
    let on_the_way = host.jumps.iter().filter_map(|jump| jump.host.as_ref());
    let on_the_way = on_the_way.filter_map(|name| config.hosts.get(name));
    let mut hosts = Table::new();
    hosts.set_implicit(true);
    for host in std::iter::once(host).chain(on_the_way) {
        let rows = host_rows(host).into_iter();
        // What the groups say is in the values already.
        let rows = rows.filter(|(key, _)| !["jump", "groups"].contains(key));
        let mut table = table_of(rows.collect());
        if let Some(jump) = host.jumps.last() {
            let way = match &jump.host {
                Some(name) => json!(name.as_str()),
                None => jump_value(jump),
            };
            insert(&mut table, "jump", &way);
        }
        hosts.insert(host.name.as_str(), Item::Table(table));
    }
    let mut document = DocumentMut::new();
    document.insert("host", Item::Table(hosts));
    document.to_string()
}

fn chosen<'a>(config: &'a Config, only: Option<&'a Host>) -> Vec<&'a Host> {
    match only {
        Some(host) => vec![host],
        None => config.hosts.values().collect(),
    }
}

fn top_rows(config: &Config) -> Rows {
    vec![
        ("state_dir", path_value(&config.state_dir)),
        ("hosts", path_value(&config.hosts_file)),
    ]
}

/// What each destination's table says, without secrets, and the values that it leaves to a default.
fn destination_keys(config: &Config) -> Vec<Map<String, Value>> {
    let places = config.destinations.iter().zip(&config.destination_keys);
    let shown = places.map(|(place, given)| {
        let mut keys = given.clone();
        keys.extend(destination_rows(place).into_iter().map(owned));
        if let Some(keep) = config.destination_keep.get(&place.name) {
            keys.insert("keep".to_owned(), keep_value(keep));
        }
        keys.entry("delete_after").or_insert_with(|| json!("0s"));
        keys
    });
    shown.collect()
}

fn destination_rows(destination: &Place) -> Rows {
    let mut rows = vec![
        ("name", json!(destination.name.to_string())),
        ("url", json!(destination.url)),
        ("required", json!(destination.required)),
        ("allow_delete", json!(destination.removal.allow_delete)),
    ];
    if let Some(bandwidth) = destination.bandwidth() {
        rows.push(("bandwidth", json!(bandwidth.to_string())));
    }
    if let PlaceKind::S3(bucket) = &destination.kind {
        rows.push(("endpoint", json!(bucket.endpoint())));
        rows.push(("region", json!(bucket.region())));
    }
    rows
}

fn table_rows(config: &Config) -> Vec<(&'static str, Rows)> {
    let unlock = match &config.keys.unlock {
        Unlock::KeyFile(file) => Some(("key_file", path_value(file.path()))),
        Unlock::Key(source) => Some(("key", secret_value(source))),
        Unlock::PasswordFile(file) => Some(("password_file", path_value(file.path()))),
        Unlock::Password(source) => Some(("password", secret_value(source))),
        Unlock::Prompt => None,
    };
    let socket_dir = match &config.append_server {
        AppendServer::Embedded => None,
        AppendServer::External { socket_dir } => Some(path_value(socket_dir)),
    };
    let mut keys = present(vec![
        (
            "user",
            config.keys.user.as_ref().map(|user| json!(user.as_str())),
        ),
        ("bundle", config.keys.bundle.as_deref().map(path_value)),
    ]);
    keys.extend(unlock);
    let limits = vec![
        ("spool", json!(config.limits.spool.to_string())),
        ("reserve", json!(config.limits.reserve.to_string())),
        ("patience", json!(config.limits.patience.to_string())),
        ("min_copies", json!(config.limits.min_copies)),
        ("max_parallel", json!(config.limits.max_parallel)),
    ];
    let agents = present(vec![(
        "directory",
        config.agents_dir.as_deref().map(path_value),
    )]);
    let log = vec![
        ("level", json!(config.log.level.as_str())),
        ("format", json!(config.log.format.as_str())),
    ];
    vec![
        ("keys", keys),
        ("limits", limits),
        ("prune", prune_rows(&config.prune)),
        ("scan", scan_rows(&config.scan)),
        ("agents", agents),
        ("append_server", present(vec![("socket_dir", socket_dir)])),
        ("log", log),
        (
            "listener",
            present(vec![(
                "address",
                config
                    .listener
                    .as_ref()
                    .map(|address| json!(address.to_string())),
            )]),
        ),
        ("notify", notify_rows(&config.notify)),
    ]
}

fn host_rows(host: &Host) -> Rows {
    let mut rows = match host.local {
        true => vec![("local", json!(true))],
        false => login_rows(&host.login),
    };
    if !host.jumps.is_empty() {
        rows.push((
            "jump",
            Value::Array(host.jumps.iter().map(jump_value).collect()),
        ));
    }
    rows.extend([
        ("become", json!(host.become_command.to_string())),
        ("paths", texts(host.paths_given().map(|path| path.as_str()))),
        ("one_file_system", json!(host.one_file_system)),
        (
            "exclude",
            texts(host.exclude.iter().map(|rule| rule.as_str())),
        ),
        ("exclude_caches", json!(host.exclude_caches)),
        (
            "exclude_if_present",
            texts(host.exclude_if_present.iter().map(|name| name.as_str())),
        ),
        ("fs_snapshot", json!(host.fs_snapshot.as_str())),
        ("transport", json!(host.transport.as_str())),
        ("tags", texts(host.tags.iter().map(|tag| tag.as_str()))),
        (
            "groups",
            texts(host.groups.iter().map(|group| group.as_str())),
        ),
    ]);
    if let Some(names) = &host.destinations {
        let names = names.iter().map(|name| json!(name.to_string()));
        rows.push(("destinations", Value::Array(names.collect())));
    }
    rows.push(("commit", json!(host.commit)));
    if let Some(keep) = &host.keep {
        rows.push(("keep", keep_value(keep)));
    }
    rows.push(("keep_floor", json!(host.keep_floor)));
    rows.extend(safety_rows(&host.safety));
    rows.extend(timing_rows(&host.timing));
    rows.push(("repository", json!(host.repository.as_str())));
    if !host.hooks.is_empty() {
        let hooks = host.hooks.iter().map(hook_value);
        rows.push(("hook", Value::Array(hooks.collect())));
    }
    if !host.streams.is_empty() {
        let streams = host.streams.iter().map(stream_value);
        rows.push(("stream", Value::Array(streams.collect())));
    }
    rows.push(("limits", limits_value(&host.limits)));
    rows
}

fn timing_rows(timing: &Timing) -> Rows {
    let text = |value: Option<String>| value.map(|text| json!(text));
    present(vec![
        (
            "schedule",
            text(timing.calendar.as_ref().map(ToString::to_string)),
        ),
        ("timezone", Some(json!(timing.zone.to_string()))),
        ("jitter", Some(json!(timing.jitter.to_string()))),
        (
            "window",
            text(timing.window.map(|window| window.to_string())),
        ),
        ("catch_up", Some(json!(timing.catch_up.as_str()))),
        ("retries", Some(json!(timing.retries))),
        ("retry_delay", Some(json!(timing.retry_delay.to_string()))),
        (
            "concurrency_key",
            text(timing.concurrency_key.as_ref().map(ToString::to_string)),
        ),
        ("sla", text(timing.sla.map(|sla| sla.to_string()))),
    ])
}

fn login_rows(login: &Login) -> Rows {
    let mut rows = vec![
        ("address", json!(login.address.to_string())),
        ("user", json!(login.user.as_str())),
    ];
    if let Some(file) = &login.identity_file {
        rows.push(("identity_file", path_value(file.path())));
    }
    if let Some(path) = &login.certificate_file {
        rows.push(("certificate_file", path_value(path)));
    }
    rows.push(("use_agent", json!(login.use_agent)));
    rows.push((
        "host_key",
        Value::Array(
            login
                .host_keys
                .iter()
                .map(|key| json!(key.to_string()))
                .collect(),
        ),
    ));
    rows
}

fn jump_value(jump: &Jump) -> Value {
    let mut shown: Map<String, Value> = login_rows(&jump.login).into_iter().map(owned).collect();
    if let Some(host) = &jump.host {
        shown.insert("host".to_owned(), json!(host.as_str()));
    }
    Value::Object(shown)
}

fn hook_value(hook: &Hook) -> Value {
    json!({
        "on": hook.on.as_str(),
        "run": hook.command,
        "timeout": hook.timeout.to_string(),
        "on_failure": hook.on_failure.as_str(),
    })
}

fn stream_value(stream: &Stream) -> Value {
    json!({
        "name": stream.name.as_str(),
        "run": stream.command,
        "timeout": stream.timeout.to_string(),
        "max_size": stream.size_max.to_string(),
        "min_percent": stream.percent_min,
        "ends_with": stream.ends_with,
        "allow_empty": stream.allow_empty,
        "on_failure": stream.on_failure.as_str(),
    })
}

fn keep_value(keep: &Keep) -> Value {
    let counts = [
        ("last", keep.last),
        ("hourly", keep.hourly),
        ("daily", keep.daily),
        ("weekly", keep.weekly),
        ("monthly", keep.monthly),
        ("yearly", keep.yearly),
    ];
    let counts = counts
        .into_iter()
        .filter_map(|(name, count)| Some((name.to_owned(), json!(count?))));
    let within = keep
        .within
        .map(|within| ("within".to_owned(), json!(within.to_string())));
    Value::Object(counts.chain(within).collect())
}

fn prune_rows(prune: &PruneSettings) -> Rows {
    let schedule = prune.schedule.as_ref();
    let schedule = schedule.map(|calendar| ("schedule", json!(calendar.to_string())));
    let mut rows: Rows = schedule.into_iter().collect();
    rows.extend([
        ("grace", json!(prune.grace.to_string())),
        ("delete_max", json!(prune.delete_max.to_string())),
        ("repack_above", json!(prune.repack_above)),
        ("repack_max", json!(prune.repack_max.to_string())),
        (
            "abort_uploads_after",
            json!(prune.abort_uploads_after.to_string()),
        ),
        ("timezone", json!(prune.timezone.to_string())),
    ]);
    rows
}

fn scan_rows(scan: &ScanSettings) -> Rows {
    let schedule = scan.schedule.as_ref().map(ToString::to_string);
    present(vec![
        ("schedule", schedule.map(|text| json!(text))),
        ("timezone", Some(json!(scan.timezone.to_string()))),
        ("percent", scan.percent.map(|percent| json!(percent))),
        ("verify", Some(json!(scan.verify))),
        ("repair", Some(json!(scan.repair))),
        ("extend_locks", Some(json!(scan.extend_locks))),
        ("budget", scan.budget.map(|size| json!(size.to_string()))),
    ])
}

fn notify_rows(notify: &NotifySettings) -> Rows {
    let digest = notify
        .digest
        .map(|at| json!(at.strftime("%H:%M").to_string()));
    let targets = notify.targets.iter().map(target_value);
    present(vec![
        ("digest", digest),
        ("timezone", Some(json!(notify.timezone.to_string()))),
        ("target", Some(Value::Array(targets.collect()))),
    ])
}

/// A target without its secret, and a URL without what may be one.
fn target_value(target: &Target) -> Value {
    let url = |endpoint: &Endpoint| json!(endpoint.shown());
    let way = match &target.way {
        Way::Mail(mail) => vec![
            ("server", json!(format!("{}:{}", mail.server, mail.port))),
            ("security", json!(mail.security.as_str())),
            ("from", json!(mail.from)),
            ("to", texts(mail.to.iter().map(String::as_str))),
        ],
        Way::Webhook(endpoint) | Way::Ntfy(endpoint) | Way::Gotify(endpoint) => {
            vec![("url", url(endpoint))]
        }
        Way::Command { run, timeout } => vec![
            ("run", texts(run.iter().map(String::as_str))),
            ("timeout", json!(timeout.to_string())),
        ],
        Way::Ping { endpoint, every } => {
            vec![("url", url(endpoint)), ("every", json!(every.to_string()))]
        }
    };
    let all = [
        ("name", json!(target.name)),
        ("kind", json!(target.way.kind())),
        ("digest", json!(target.digest)),
        ("alerts", json!(target.alerts)),
    ];
    Value::Object(all.into_iter().chain(way).map(owned).collect())
}

fn limits_value(limits: &HostLimits) -> Value {
    let mut shown = Map::new();
    shown.insert("connect".to_owned(), json!(limits.connect.to_string()));
    shown.insert("idle".to_owned(), json!(limits.idle.to_string()));
    shown.insert("run".to_owned(), json!(limits.run.to_string()));
    shown.insert(
        "tunnel_connections".to_owned(),
        json!(limits.tunnel_connections),
    );
    if let Some(threads) = limits.agent_threads {
        shown.insert("agent_threads".to_owned(), json!(threads));
    }
    if limits.nice > 0 {
        shown.insert("nice".to_owned(), json!(limits.nice));
    }
    if let Some(priority) = limits.io_priority {
        shown.insert("ionice".to_owned(), json!(priority.to_string()));
    }
    if limits.cpu.percent().is_some() {
        shown.insert("cpu".to_owned(), json!(limits.cpu.to_string()));
    }
    if let Some(rates) = &limits.bandwidth {
        shown.insert("bandwidth".to_owned(), bandwidth_value(rates));
    }
    Value::Object(shown)
}

fn present(rows: Vec<(&'static str, Option<Value>)>) -> Rows {
    rows.into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    Value::Array(texts.map(|text| json!(text)).collect())
}

/// Paths come from UTF-8 files, so nothing is lost; a directory given by `--config` may be different.
fn path_value(path: &Path) -> Value {
    json!(path.to_string_lossy())
}

fn owned((key, value): (&'static str, Value)) -> (String, Value) {
    (key.to_owned(), value)
}

fn table_of(rows: Rows) -> Table {
    let mut table = Table::new();
    for (key, value) in rows {
        insert(&mut table, key, &value);
    }
    table
}

fn insert(table: &mut Table, key: &str, value: &Value) {
    if let Some(value) = toml_value(value) {
        table.insert(key, Item::Value(value));
    }
}

/// The same value in TOML, which has no null.
fn toml_value(value: &Value) -> Option<toml_edit::Value> {
    match value {
        Value::Null => None,
        Value::Bool(flag) => Some((*flag).into()),
        Value::Number(number) => number.as_i64().map(toml_edit::Value::from),
        Value::String(text) => Some(text.as_str().into()),
        Value::Array(values) => Some(values.iter().filter_map(toml_value).collect()),
        Value::Object(map) => {
            let rows = map
                .iter()
                .filter_map(|(key, value)| Some((key.as_str(), toml_value(value)?)));
            Some(rows.collect::<InlineTable>().into())
        }
    }
}
