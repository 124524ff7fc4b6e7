//! `anomaly`, `coverage`, `coverage_ignore`, `keep_deleted`, `quota`, `max_snapshot` and `max_new` of hosts.toml: from their text to checked
//! values.

use std::fmt;

use append_server::quantity::Size;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::config::error::ValueError;
use crate::config::exclude::ExcludeRule;
use crate::config::layers::Layers;
use crate::config::path::SourcePath;
use crate::config::raw::{RawSettings, Text};
use crate::config::settings::ValueReader;
use crate::safety::anomaly::AnomalyLimits;
use crate::safety::coverage::Coverage;
use crate::safety::kept::beginning;
use crate::safety::quota::Quota;

/// A number of files or runs that nobody means.
const COUNT_MAX: u64 = 1 << 40;

/// `anomaly`: "off", or a table.
#[derive(Debug)]
pub(super) enum RawAnomaly {
    Word(String),
    Limits(Box<RawAnomalyLimits>),
}

/// `anomaly = { … }`. Shares are percent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAnomalyLimits {
    pub(super) runs: Option<Spanned<u64>>,
    pub(super) files: Option<Spanned<u64>>,
    pub(super) bytes: Option<Text>,
    pub(super) gone: Option<Spanned<u64>>,
    pub(super) changed: Option<Spanned<u64>>,
    pub(super) new: Option<Spanned<u64>>,
    pub(super) incompressible: Option<Spanned<u64>>,
    pub(super) ending: Option<Spanned<u64>>,
    pub(super) left: Option<Spanned<u64>>,
}

/// `quota` and its like: a size, which is the hard limit, or a table of both limits.
#[derive(Debug)]
pub(super) enum RawQuota {
    Hard(String),
    Both(Box<RawLimits>),
}

/// `quota = { soft = "…", hard = "…" }`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) soft: Option<Text>,
    pub(super) hard: Option<Text>,
}

/// `coverage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawCoverage {
    Off,
    Warn,
    Fail,
}

// Derived code for an untagged enum would lose the places of the values.
impl<'de> Deserialize<'de> for RawAnomaly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;
        impl<'de> Visitor<'de> for WordOrTable {
            type Value = RawAnomaly;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("\"off\", or a table such as { gone = 60 }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawAnomaly, E> {
                Ok(RawAnomaly::Word(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawAnomaly, A::Error> {
                RawAnomalyLimits::deserialize(MapAccessDeserializer::new(map))
                    .map(|limits| RawAnomaly::Limits(Box::new(limits)))
            }
        }
        deserializer.deserialize_any(WordOrTable)
    }
}

impl<'de> Deserialize<'de> for RawQuota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeOrTable;
        impl<'de> Visitor<'de> for SizeOrTable {
            type Value = RawQuota;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a size, or a table such as { soft = \"800GiB\", hard = \"1TiB\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawQuota, E> {
                Ok(RawQuota::Hard(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawQuota, A::Error> {
                RawLimits::deserialize(MapAccessDeserializer::new(map))
                    .map(|limits| RawQuota::Both(Box::new(limits)))
            }
        }
        deserializer.deserialize_any(SizeOrTable)
    }
}

/// The checked values of one table; `None` where it is silent.
#[derive(Debug, Default)]
pub(super) struct SafetySettings {
    pub(super) anomaly: Option<Option<AnomalyLimits>>,
    pub(super) coverage: Option<Coverage>,
    pub(super) coverage_ignore: Option<Vec<Vec<u8>>>,
    pub(super) keep_deleted: Option<Vec<ExcludeRule>>,
    pub(super) quota: Option<Quota>,
    pub(super) max_snapshot: Option<Quota>,
    pub(super) max_new: Option<Quota>,
}

/// What a host's runs are guarded by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Safety {
    /// When a run is suspicious; nothing for never.
    pub anomaly: Option<AnomalyLimits>,
    /// What becomes of what no path covers.
    pub coverage: Coverage,
    /// What may be missing, without a slash in front.
    pub coverage_ignore: Vec<Vec<u8>>,
    /// What stays in later snapshots after it is gone from the host.
    pub keep_deleted: Vec<ExcludeRule>,
    /// Bytes of all packs of its repository.
    pub quota: Quota,
    /// Bytes of the files of one snapshot.
    pub max_snapshot: Quota,
    /// New bytes that one run may store.
    pub max_new: Quota,
}

pub(super) fn read_safety(reader: &mut ValueReader<'_>, raw: &RawSettings) -> SafetySettings {
    let ignored = raw.coverage_ignore.as_ref().map(|texts| {
        let paths: Vec<SourcePath> = reader.list(texts);
        let bytes = paths.iter().map(|path| path.as_bytes());
        bytes
            .map(|path| path.strip_prefix(b"/").unwrap_or(path).to_vec())
            .collect()
    });
    SafetySettings {
        anomaly: raw.anomaly.as_ref().and_then(|raw| anomaly(reader, raw)),
        coverage: raw.coverage.map(|word| match word {
            RawCoverage::Off => Coverage::Off,
            RawCoverage::Warn => Coverage::Warn,
            RawCoverage::Fail => Coverage::Fail,
        }),
        coverage_ignore: ignored,
        keep_deleted: raw
            .keep_deleted
            .as_ref()
            .map(|texts| kept_rules(reader, texts)),
        quota: raw.quota.as_ref().and_then(|raw| quota(reader, raw)),
        max_snapshot: raw.max_snapshot.as_ref().and_then(|raw| quota(reader, raw)),
        max_new: raw.max_new.as_ref().and_then(|raw| quota(reader, raw)),
    }
}

fn anomaly(
    reader: &mut ValueReader<'_>,
    raw: &Spanned<RawAnomaly>,
) -> Option<Option<AnomalyLimits>> {
    let limits = match raw.get_ref() {
        RawAnomaly::Word(word) if word == "off" => return Some(None),
        RawAnomaly::Word(word) => {
            let word = word.clone();
            reader.refuse(&raw.span(), ValueError::UnknownAnomaly { word });
            return None;
        }
        RawAnomaly::Limits(limits) => limits,
    };
    let built_in = AnomalyLimits::default();
    let mut number = |value: &Option<Spanned<u64>>, max, otherwise| {
        reader.number(value.as_ref(), max).unwrap_or(otherwise)
    };
    Some(Some(AnomalyLimits {
        runs: number(
            &limits.runs,
            u64::from(crate::catalog::state::figures::RUNS_COMPARED),
            built_in.runs,
        ),
        files: number(&limits.files, COUNT_MAX, built_in.files),
        gone: number(&limits.gone, 100, built_in.gone),
        changed: number(&limits.changed, 100, built_in.changed),
        new: number(&limits.new, 100, built_in.new),
        incompressible: number(&limits.incompressible, 100, built_in.incompressible),
        ending: number(&limits.ending, 100, built_in.ending),
        left: number(&limits.left, 100, built_in.left),
        bytes: reader
            .maybe(limits.bytes.as_ref())
            .unwrap_or(built_in.bytes),
    }))
}

/// Rules in the manner of `exclude`, each below a directory that it names: what is kept anywhere would keep every directory there
/// ever was.
fn kept_rules(reader: &mut ValueReader<'_>, texts: &[Text]) -> Vec<ExcludeRule> {
    let mut rules = Vec::with_capacity(texts.len());
    for text in texts {
        let Some(rule) = reader.one::<ExcludeRule>(text) else {
            continue;
        };
        if beginning(rule.glob()).is_empty() {
            let written = text.get_ref().clone();
            reader.refuse(&text.span(), ValueError::KeptAnywhere { text: written });
        }
        rules.push(rule);
    }
    rules
}

fn quota(reader: &mut ValueReader<'_>, raw: &Spanned<RawQuota>) -> Option<Quota> {
    match raw.get_ref() {
        RawQuota::Hard(text) => match text.parse::<Size>() {
            Ok(size) => Some(Quota {
                soft: None,
                hard: Some(size),
            }),
            Err(reason) => {
                reader.refuse(&raw.span(), reason);
                None
            }
        },
        RawQuota::Both(limits) => {
            let quota = Quota {
                soft: reader.maybe(limits.soft.as_ref()),
                hard: reader.maybe(limits.hard.as_ref()),
            };
            if let (Some(soft), Some(hard)) = (quota.soft, quota.hard)
                && soft.bytes() > hard.bytes()
            {
                reader.refuse(&raw.span(), ValueError::SoftAboveHard);
                return None;
            }
            Some(quota)
        }
    }
}

/// The values that a host's tables give.
pub(super) fn merge_safety(layers: &Layers<'_, SafetySettings>) -> Safety {
    let anomaly = layers.pick(|table| &table.anomaly);
    Safety {
        anomaly: anomaly.unwrap_or(Some(AnomalyLimits::default())),
        coverage: layers.pick(|table| &table.coverage).unwrap_or_default(),
        coverage_ignore: layers
            .pick(|table| &table.coverage_ignore)
            .unwrap_or_default(),
        keep_deleted: layers.pick(|table| &table.keep_deleted).unwrap_or_default(),
        quota: layers.pick(|table| &table.quota).unwrap_or_default(),
        max_snapshot: layers.pick(|table| &table.max_snapshot).unwrap_or_default(),
        max_new: layers.pick(|table| &table.max_new).unwrap_or_default(),
    }
}

/// The values as `config show` prints them.
pub(super) fn safety_rows(safety: &Safety) -> Vec<(&'static str, Value)> {
    let ignored = safety.coverage_ignore.iter();
    let ignored = ignored.map(|path| json!(format!("/{}", String::from_utf8_lossy(path))));
    let mut rows = vec![
        ("anomaly", anomaly_value(safety.anomaly.as_ref())),
        ("coverage", json!(safety.coverage.as_str())),
        ("coverage_ignore", Value::Array(ignored.collect())),
        (
            "keep_deleted",
            safety
                .keep_deleted
                .iter()
                .map(|rule| json!(rule.as_str()))
                .collect(),
        ),
    ];
    let quotas = [
        ("quota", safety.quota),
        ("max_snapshot", safety.max_snapshot),
        ("max_new", safety.max_new),
    ];
    let set = quotas.into_iter().filter(|(_, quota)| !quota.is_empty());
    rows.extend(set.map(|(key, quota)| (key, quota_value(quota))));
    rows
}

fn anomaly_value(limits: Option<&AnomalyLimits>) -> Value {
    let Some(limits) = limits else {
        return json!("off");
    };
    json!({
        "runs": limits.runs,
        "files": limits.files,
        "bytes": limits.bytes.to_string(),
        "gone": limits.gone,
        "changed": limits.changed,
        "new": limits.new,
        "incompressible": limits.incompressible,
        "ending": limits.ending,
        "left": limits.left,
    })
}

fn quota_value(quota: Quota) -> Value {
    let limits = [("soft", quota.soft), ("hard", quota.hard)];
    match (quota.soft, quota.hard) {
        (None, Some(hard)) => json!(hard.to_string()),
        _ => Value::Object(Map::from_iter(limits.into_iter().filter_map(
            |(name, size)| Some((name.to_owned(), json!(size?.to_string()))),
        ))),
    }
}

#[cfg(test)]
mod tests {
    use append_server::quantity::Size;

    use super::{SafetySettings, merge_safety, safety_rows};
    use crate::config::layers::Layers;
    use crate::safety::anomaly::AnomalyLimits;
    use crate::safety::coverage::Coverage;
    use crate::safety::quota::Quota;

    #[test]
    fn a_hosts_own_value_replaces_the_default_one_and_off_is_a_value() {
        let limits = AnomalyLimits {
            gone: 70,
            ..AnomalyLimits::default()
        };
        let defaults = SafetySettings {
            anomaly: Some(Some(limits)),
            coverage: Some(Coverage::Warn),
            ..SafetySettings::default()
        };
        let own = SafetySettings {
            anomaly: Some(None),
            ..SafetySettings::default()
        };
        let merged = merge_safety(&Layers::new(&own, [&defaults]));
        assert_eq!(merged.anomaly, None);
        assert_eq!(merged.coverage, Coverage::Warn);
        let silent = SafetySettings::default();
        assert_eq!(
            merge_safety(&Layers::new(&silent, [&defaults])).anomaly,
            Some(limits)
        );
        let built_in = merge_safety(&Layers::new(&silent, []));
        assert_eq!(built_in.anomaly, Some(AnomalyLimits::default()));
        assert_eq!(built_in.coverage, Coverage::Off);
    }

    #[test]
    fn a_hard_limit_alone_is_shown_as_a_size() {
        let quota = |soft, hard| Quota { soft, hard };
        let size = Some(Size::from_bytes(1 << 30));
        let own = SafetySettings {
            quota: Some(quota(None, size)),
            max_new: Some(quota(size, None)),
            ..SafetySettings::default()
        };
        let shown = safety_rows(&merge_safety(&Layers::new(&own, [])));
        let shown: Vec<String> = shown
            .iter()
            .skip(4)
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        assert_eq!(shown, ["quota \"1GiB\"", "max_new {\"soft\":\"1GiB\"}"]);
    }
}
