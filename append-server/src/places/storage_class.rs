//! `storage_class`: which class of the provider each kind of object is put in. Only classes that a provider is known to have,
//! and none whose objects must be thawed before they can be read: everything here is read back.

use std::collections::BTreeMap;

use formats::object::ObjectKind;
use serde::Deserialize;

use crate::destination::s3::options::{Provider, StorageClasses};
use crate::places::table::{DestinationTable, KeyError};

/// Classes whose objects can be read only hours after somebody asked for it.
const COLD: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];
/// Amazon's other classes, which services like it spell alike.
const AMAZONS: [&str; 6] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "REDUCED_REDUNDANCY",
];
/// The longest name of a class that an operator made.
const NAME_BYTES_MAX: usize = 64;

/// What may stand behind `storage_class`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "write a class of data packs, or one for each kind, as in { packs = \"STANDARD_IA\", meta = \"STANDARD\" }"
)]
pub enum StorageClassKey {
    /// Of data packs.
    OfPacks(String),
    /// By kind of object.
    ByKind(BTreeMap<String, String>),
}

/// The classes that a table asks for.
pub(super) fn storage_classes(
    table: &DestinationTable,
    provider: Option<&Provider>,
) -> Result<StorageClasses, KeyError> {
    let mut classes = StorageClasses::default();
    let checked = |key, class: &str| check(key, class, provider).map(|()| class.to_owned());
    if let Some(class) = &table.storage_class_meta {
        if matches!(table.storage_class, Some(StorageClassKey::ByKind(_))) {
            return Err(KeyError {
                key: "storage_class_meta",
                problem: "says again what `storage_class` says by kind: keep one of them"
                    .to_owned(),
            });
        }
        let class = checked("storage_class_meta", class)?;
        for kind in ObjectKind::ALL {
            if kind != ObjectKind::Pack {
                classes.set(kind, class.clone());
            }
        }
    }
    match &table.storage_class {
        None => {}
        Some(StorageClassKey::OfPacks(class)) => {
            classes.set(ObjectKind::Pack, checked("storage_class", class)?);
        }
        Some(StorageClassKey::ByKind(by_kind)) => {
            for (word, class) in by_kind {
                let class = checked("storage_class", class)?;
                classes.set(kind(word)?, class);
            }
        }
    }
    Ok(classes)
}

fn kind(word: &str) -> Result<ObjectKind, KeyError> {
    let known = ObjectKind::ALL
        .into_iter()
        .find(|kind| kind.folder() == word);
    known.ok_or_else(|| KeyError {
        key: "storage_class",
        problem: format!(
            "has {word:?}, which is no kind of object: there are {}",
            ObjectKind::ALL.map(ObjectKind::folder).join(", ")
        ),
    })
}

/// The classes that a provider has, as far as is known; nothing where an operator makes them.
fn classes_of(provider: Option<&Provider>) -> Option<&'static [&'static str]> {
    match provider.map(|provider| provider.name) {
        Some("ceph") => None,
        Some("b2" | "exoscale" | "garage") => Some(&["STANDARD"]),
        Some("r2") => Some(&["STANDARD", "STANDARD_IA"]),
        Some("scaleway") => Some(&["STANDARD", "ONEZONE_IA"]),
        Some("minio") => Some(&["STANDARD", "REDUCED_REDUNDANCY"]),
        _ => Some(&AMAZONS),
    }
}

fn check(key: &'static str, class: &str, provider: Option<&Provider>) -> Result<(), KeyError> {
    let wrong = |problem: String| Err(KeyError { key, problem });
    if COLD.contains(&class.to_ascii_uppercase().as_str()) {
        return wrong(format!(
            "has {class:?}, whose objects must be thawed before they can be read: runs read back what they store, scans read \
             it again, and a restore would wait for hours; use one that is read at once, such as \"GLACIER_IR\" or \
             \"STANDARD_IA\""
        ));
    }
    match classes_of(provider) {
        Some(known) if known.contains(&class) => Ok(()),
        Some(known) => {
            let of = provider.map_or("a service without `provider`", |provider| provider.name);
            wrong(format!(
                "has {class:?}: known of {of} are {}",
                known.join(", ")
            ))
        }
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if (1..=NAME_BYTES_MAX).contains(&class.len()) && class.bytes().all(plain) {
                return Ok(());
            }
            wrong(format!(
                "has {class:?}: a class is named by letters, digits, \"-\" and \"_\""
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use formats::object::ObjectKind;

    use super::storage_classes;
    use crate::destination::s3::options::{PROVIDERS, StorageClasses};
    use crate::places::table::{DestinationTable, KeyError};

    fn read(provider: &str, keys: &str) -> Result<StorageClasses, KeyError> {
        let text = format!("name = \"s3\"\nurl = \"s3://bucket\"\n{keys}\n");
        let table: DestinationTable = toml::from_str(&text).unwrap();
        let provider = PROVIDERS.iter().find(|known| known.name == provider);
        storage_classes(&table, provider)
    }

    #[test]
    fn each_kind_has_the_class_that_is_asked_for() {
        let by_kind = read(
            "aws",
            "storage_class = { packs = \"STANDARD_IA\", log = \"STANDARD\" }",
        )
        .unwrap();
        assert_eq!(by_kind.of(ObjectKind::Pack), Some("STANDARD_IA"));
        assert_eq!(by_kind.of(ObjectKind::Log), Some("STANDARD"));
        assert_eq!(by_kind.of(ObjectKind::Meta), None);
        let short = "storage_class = \"ONEZONE_IA\"\nstorage_class_meta = \"GLACIER_IR\"";
        let short = read("", short).unwrap();
        assert_eq!(short.of(ObjectKind::Pack), Some("ONEZONE_IA"));
        assert_eq!(short.of(ObjectKind::Config), Some("GLACIER_IR"));
        assert_eq!(read("r2", "").unwrap(), StorageClasses::default());
        let own = read("ceph", "storage_class = \"slow_disks\"").unwrap();
        assert_eq!(own.of(ObjectKind::Pack), Some("slow_disks"));
    }

    #[test]
    fn what_would_be_frozen_or_is_unknown_is_refused_with_the_reason() {
        for (provider, keys, words) in [
            ("aws", "storage_class = \"GLACIER\"", "thawed"),
            (
                "aws",
                "storage_class = { log = \"DEEP_ARCHIVE\" }",
                "thawed",
            ),
            ("ceph", "storage_class = { packs = \"glacier\" }", "thawed"),
            ("aws", "storage_class_meta = \"GLACIER\"", "thawed"),
            ("aws", "storage_class = \"STANDARD-IA\"", "STANDARD_IA"),
            ("b2", "storage_class = \"STANDARD_IA\"", "known of b2"),
            ("ceph", "storage_class = \"two words\"", "letters"),
            ("aws", "storage_class = { pack = \"STANDARD\" }", "packs"),
            (
                "aws",
                "storage_class = { packs = \"STANDARD\" }\nstorage_class_meta = \"STANDARD\"",
                "keep one",
            ),
        ] {
            let error = read(provider, keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }

    #[test]
    fn another_shape_is_named() {
        let text = "name = \"s3\"\nurl = \"s3://bucket\"\nstorage_class = 3\n";
        let error = toml::from_str::<DestinationTable>(text).unwrap_err();
        assert!(error.to_string().contains("packs"), "{error}");
    }
}
