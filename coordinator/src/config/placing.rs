//! `destinations` of hosts.toml: at which of the destinations that are not required a host is kept. The required ones take every
//! host. Never reads a destination's own table.

use std::collections::BTreeMap;
use std::ops::Range;

use append_server::destination::DestinationName;
use append_server::fan_out::queue::placing::{Keeping, KeptAt};
use append_server::places::Place;
use toml::Spanned;

use crate::config::Config;
use crate::config::commit_setting::{Commit, CommitSetting};
use crate::config::error::{ErrorList, ValueError};
use crate::config::host::Host;
use crate::config::name::RepositoryName;
use crate::config::raw::Text;
use crate::config::settings::ValueReader;
use crate::config::source_text::SourceText;
use crate::config::suggestion::nearest;

/// A checked `destinations`, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct DestinationList {
    span: Range<usize>,
    names: Vec<(Range<usize>, DestinationName)>,
}

impl DestinationList {
    /// The names, each once.
    pub(super) fn names(&self) -> Vec<DestinationName> {
        let mut names: Vec<DestinationName> = Vec::with_capacity(self.names.len());
        for (_, name) in &self.names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// What coordinator.toml says of destinations.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownPlaces<'a> {
    pub(super) places: &'a [Place],
    /// On how many an object must be.
    pub(super) copies_min: u64,
}

pub(super) fn read_destinations(
    reader: &mut ValueReader<'_>,
    list: &Spanned<Vec<Text>>,
) -> DestinationList {
    let mut names = Vec::with_capacity(list.get_ref().len());
    for text in list.get_ref() {
        match text.get_ref().parse() {
            Ok(name) => names.push((text.span(), name)),
            Err(error) => reader.refuse(&text.span(), ValueError::DestinationName(error)),
        }
    }
    DestinationList {
        span: list.span(),
        names,
    }
}

impl<'a> KnownPlaces<'a> {
    /// Refuses a list that names what there is not, or leaves too few.
    pub(super) fn check(
        &self,
        source: &SourceText,
        list: &DestinationList,
        errors: &mut ErrorList,
    ) {
        let before = errors.count();
        let mut reader = ValueReader::new(source, errors);
        for (span, name) in &list.names {
            if !self.places.iter().any(|place| place.name == *name) {
                reader.refuse(span, self.unknown(name));
            }
        }
        let names = list.names();
        let kept = |place: &&Place| place.required || names.contains(&place.name);
        let left = self.places.iter().filter(kept).count();
        // Fewer than there are at all is an error of coordinator.toml, and told elsewhere.
        let is_short = left < self.places.len() && (left as u64) < self.copies_min;
        if is_short && before == errors.count() {
            let copies_min = self.copies_min;
            let reason = ValueError::KeptAtTooFew { left, copies_min };
            ValueReader::new(source, errors).refuse(&list.span, reason);
        }
    }

    fn unknown(&self, name: &DestinationName) -> ValueError {
        let known: Vec<String> = self
            .places
            .iter()
            .map(|place| place.name.to_string())
            .collect();
        let name = name.to_string();
        ValueError::UnknownDestination {
            nearest: nearest(&name, known.iter().map(String::as_str)).map(str::to_owned),
            known: known.join(", "),
            name,
        }
    }

    /// The destinations at which a host is kept, in the order of coordinator.toml.
    pub(super) fn kept(&self, host: &Host) -> Vec<&'a DestinationName> {
        let is_kept = |place: &&Place| is_kept(place, host);
        let places = self.places.iter().filter(is_kept);
        places.map(|place| &place.name).collect()
    }

    /// Why a `commit` that holds for a host is refused: it asks for more destinations than the host is kept at.
    pub(super) fn check_commit(&self, host: &Host, commit: &CommitSetting) -> Option<ValueError> {
        let Commit::AtLeast(copies) = commit.commit else {
            return None;
        };
        let left = self.kept(host).len();
        (copies > left as u64).then(|| ValueError::CommitTooMany {
            copies,
            host: host.name.to_string(),
            left,
        })
    }

    /// Refuses a host that is kept otherwise than others of its repository, the first of which is remembered.
    pub(super) fn check_shared<'h>(
        &self,
        host: &'h Host,
        first: &mut BTreeMap<&'h RepositoryName, &'h Host>,
    ) -> Option<ValueError> {
        let other = *first.entry(&host.repository).or_insert(host);
        let names = || (host.name.to_string(), other.name.to_string());
        let repository = || host.repository.to_string();
        if self.kept(other) != self.kept(host) {
            let ((host, other), repository) = (names(), repository());
            return Some(ValueError::KeptElsewhere {
                host,
                other,
                repository,
            });
        }
        (other.commit != host.commit).then(|| {
            let ((host, other), repository) = (names(), repository());
            ValueError::OtherCommit {
                host,
                other,
                repository,
            }
        })
    }
}

/// Whether a destination has a host.
pub fn is_kept(place: &Place, host: &Host) -> bool {
    let names = host.destinations.as_ref();
    place.required || names.is_none_or(|names| names.contains(&place.name))
}

impl Config {
    /// How a host's repository is kept, as the append-server is told.
    pub fn keeping(&self, host: &Host) -> Keeping {
        Keeping {
            kept_at: self.kept_at(host),
            copies: host.commit.copies(),
        }
    }

    fn kept_at(&self, host: &Host) -> KeptAt {
        if host.destinations.is_none() {
            return KeptAt::Everywhere;
        }
        let places = self.destinations.iter();
        let kept = places.filter(|place| is_kept(place, host));
        KeptAt::These(kept.map(|place| place.name.clone()).collect())
    }

    /// How each repository is kept that a host writes to, by its name.
    pub fn placings(&self) -> BTreeMap<&str, Keeping> {
        let hosts = self.hosts.values().filter(|host| !host.paths.is_empty());
        hosts
            .map(|host| (host.repository.as_str(), self.keeping(host)))
            .collect()
    }
}
