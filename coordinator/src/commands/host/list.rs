//! `host ls`: the configured hosts. Connects to none of them.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::host::HostLsArgs;
use crate::config::Config;
use crate::config::host::Host;
use crate::terminal::{Align, write_json, write_table};

/// Writes the hosts, all or those with one of the tags.
pub fn list_hosts(
    config: &Config,
    args: &HostLsArgs,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let wanted =
        |host: &&Host| args.tag.is_empty() || args.tag.iter().any(|tag| host.is_labelled(tag));
    let lines: Vec<HostLine> = config
        .hosts
        .values()
        .filter(wanted)
        .map(HostLine::of)
        .collect();
    if json {
        return write_json(out, &lines);
    }
    let rows: Vec<Vec<String>> = lines.iter().map(HostLine::row).collect();
    write_table(out, &COLUMNS, &rows)
}

const COLUMNS: [(&str, Align); 6] = [
    ("host", Align::Left),
    ("address", Align::Left),
    ("user", Align::Left),
    ("trusted", Align::Left),
    ("tags", Align::Left),
    ("paths", Align::Left),
];

/// One element of what `host ls --json` prints.
#[derive(Debug, Serialize)]
struct HostLine {
    host: String,
    address: String,
    user: String,
    jumps: Vec<String>,
    trusted: bool,
    tags: Vec<String>,
    repository: String,
    paths: Vec<String>,
}

impl HostLine {
    fn of(host: &Host) -> Self {
        let jumps = host.jumps.iter().map(|jump| match &jump.host {
            Some(name) => name.to_string(),
            None => jump.login.address.to_string(),
        });
        Self {
            host: host.name.to_string(),
            address: match host.local {
                true => "local".to_owned(),
                false => host.login.address.to_string(),
            },
            user: host.login.user.to_string(),
            jumps: jumps.collect(),
            trusted: host.is_trusted(),
            tags: host
                .tags
                .iter()
                .map(|tag| tag.as_str().to_owned())
                .collect(),
            repository: host.repository.to_string(),
            paths: host.paths.iter().map(ToString::to_string).collect(),
        }
    }

    fn row(&self) -> Vec<String> {
        let through: String = self
            .jumps
            .iter()
            .map(|jump| format!(" over {jump}"))
            .collect();
        vec![
            self.host.clone(),
            format!("{}{through}", self.address),
            self.user.clone(),
            if self.trusted { "yes" } else { "no" }.to_owned(),
            self.tags.join(","),
            self.paths.join(" "),
        ]
    }
}
