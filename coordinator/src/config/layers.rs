//! The tables that a host's values come from: its own, those of its groups, and `[defaults]`. Never decides what a value
//! means.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;

use crate::config::error::{ConfigError, ErrorList, ValueError};
use crate::config::name::GroupName;
use crate::config::raw::{RawHosts, RawSettings, Text};
use crate::config::settings::{Settings, ValueReader};
use crate::config::source_text::{Location, SourceText};
use crate::config::suggestion::nearest;
use crate::config::table_keys::{Keyed, TableKeys};

/// One table, checked.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) source: &'a SourceText,
    pub(super) settings: Settings,
    pub(super) keys: Arc<TableKeys>,
}

/// The settings that one host's values come from, the strongest first, or one part of each.
#[derive(Debug)]
pub(super) struct Layers<'s, S = Settings>(Vec<&'s S>);

impl<'s, S> Layers<'s, S> {
    /// A table over those that it inherits from, the strongest of which comes first.
    pub(super) fn new(own: &'s S, inherited: impl IntoIterator<Item = &'s S>) -> Self {
        Self(std::iter::once(own).chain(inherited).collect())
    }

    /// The table that is over the others.
    pub(super) fn own(&self) -> Option<&'s S> {
        self.0.first().copied()
    }

    /// The value of the strongest table that sets it.
    pub(super) fn pick<T: Clone>(&self, value: impl Fn(&S) -> &Option<T>) -> Option<T> {
        self.0.iter().find_map(|table| value(table).clone())
    }

    /// The same part of every table.
    pub(super) fn part<P>(&self, part: impl Fn(&S) -> &P) -> Layers<'s, P> {
        Layers(self.0.iter().copied().map(part).collect())
    }

    /// Every table's value, the weakest first, for what is added up.
    pub(super) fn all<T>(&self, value: impl Fn(&S) -> &Option<T>) -> Vec<&'s T> {
        let tables = self.0.iter().rev();
        tables.filter_map(|table| value(table).as_ref()).collect()
    }

    /// Only the tables down to the strongest that sets the value, or all when none does.
    pub(super) fn down_to<T>(&self, value: impl Fn(&S) -> &Option<T>) -> Self {
        let found = self.0.iter().position(|table| value(table).is_some());
        let count = found.map_or(self.0.len(), |at| at + 1);
        Self(self.0.iter().take(count).copied().collect())
    }
}

/// The tables that hosts inherit from.
#[derive(Debug, Default)]
pub(super) struct SharedTables<'a> {
    defaults: Option<Layer<'a>>,
    groups: BTreeMap<GroupName, (Location, Layer<'a>)>,
}

impl<'a> SharedTables<'a> {
    /// Reads `[defaults]` and `[group.*]` of all files, the first of which is the main one.
    pub(super) fn read(
        main: &Path,
        files: &'a [(&'a SourceText, RawHosts)],
        errors: &mut ErrorList,
    ) -> Self {
        let mut shared = Self::default();
        for (source, raw) in files {
            if let Some(table) = &raw.defaults {
                shared.add_defaults(main, source, table, errors);
            }
            for (name, table) in &raw.group {
                shared.add_group(source, name, table, errors);
            }
        }
        shared
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Layer<'a>> {
        let groups = self.groups.values().map(|(_, layer)| layer);
        self.defaults.iter().chain(groups)
    }

    /// The tables that a host of these groups inherits from, the strongest first.
    ///
    /// A later group is stronger: its values replace those of the ones before it.
    pub(super) fn of_groups(&self, groups: &[GroupName]) -> Vec<&Layer<'a>> {
        let named = groups.iter().rev();
        let named = named.filter_map(|group| self.groups.get(group));
        named
            .map(|(_, layer)| layer)
            .chain(&self.defaults)
            .collect()
    }

    /// The groups that a host names, in its order; nothing once one is refused.
    pub(super) fn groups(
        &self,
        reader: &mut ValueReader<'_>,
        named: Option<&Spanned<Vec<Text>>>,
    ) -> Option<Vec<GroupName>> {
        let mut groups = Vec::new();
        let mut all_known = true;
        for text in named.into_iter().flat_map(Spanned::get_ref) {
            match self.groups.get_key_value(text.get_ref().as_str()) {
                Some((group, _)) if !groups.contains(group) => groups.push(group.clone()),
                Some(_) => {}
                None => {
                    reader.refuse(&text.span(), self.unknown(text.get_ref()));
                    all_known = false;
                }
            }
        }
        all_known.then_some(groups)
    }

    fn unknown(&self, name: &str) -> ValueError {
        let names = self.groups.keys().map(GroupName::as_str);
        ValueError::UnknownGroup {
            name: name.to_owned(),
            nearest: nearest(name, names).map(str::to_owned),
        }
    }

    fn add_defaults(
        &mut self,
        main: &Path,
        source: &'a SourceText,
        table: &Spanned<Keyed<RawSettings>>,
        errors: &mut ErrorList,
    ) {
        let mut reader = ValueReader::new(source, errors);
        if source.file() != main {
            let main = main.to_owned();
            reader.refuse(&table.span(), ValueError::DefaultsOutsideMain { main });
            return;
        }
        self.defaults = Some(shared_table(
            &mut reader,
            source,
            table.get_ref(),
            "defaults",
        ));
    }

    fn add_group(
        &mut self,
        source: &'a SourceText,
        name: &Text,
        table: &Keyed<RawSettings>,
        errors: &mut ErrorList,
    ) {
        let location = source.location(name.span().start);
        let mut reader = ValueReader::new(source, errors);
        let Some(group) = reader.one::<GroupName>(name) else {
            return;
        };
        let table_name = format!("group.{group}");
        if let Some((first, _)) = self.groups.get(&group) {
            let first = first.clone();
            errors.push(|| ConfigError::DuplicateTable {
                table: table_name,
                location,
                first,
            });
            return;
        }
        let layer = shared_table(&mut reader, source, table, &table_name);
        self.groups.insert(group, (location, layer));
    }
}

fn shared_table<'a>(
    reader: &mut ValueReader<'_>,
    source: &'a SourceText,
    table: &Keyed<RawSettings>,
    name: &str,
) -> Layer<'a> {
    let raw = table.table();
    let of_one_host: [(&'static str, Option<Range<usize>>); 5] = [
        ("local", raw.local.as_ref().map(Spanned::span)),
        ("address", raw.address.as_ref().map(Spanned::span)),
        ("host_key", raw.host_key.as_ref().map(Spanned::span)),
        ("repository", raw.repository.as_ref().map(Spanned::span)),
        ("groups", raw.groups.as_ref().map(Spanned::span)),
    ];
    for (key, span) in of_one_host {
        if let Some(span) = span {
            let table = name.to_owned();
            reader.refuse(&span, ValueError::NotShared { key, table });
        }
    }
    Layer {
        source,
        settings: reader.settings(raw, name).unwrap_or_default(),
        keys: Arc::new(table.keys(source, name.to_owned())),
    }
}
