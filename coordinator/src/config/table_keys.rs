//! Which keys a table of hosts.toml sets, and on which lines: noted while the table is read, for every key alike. Never
//! looks at values.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use toml::Spanned;

use crate::config::source_text::SourceText;

/// A table as its type has it, with the keys that it sets.
#[derive(Debug)]
pub(super) struct Keyed<T> {
    table: T,
    keys: Vec<SetKey>,
}

/// A key and the byte that it begins at.
#[derive(Debug, Clone, Copy)]
struct SetKey {
    name: &'static str,
    offset: usize,
}

impl<T> Keyed<T> {
    /// The table itself.
    pub(super) fn table(&self) -> &T {
        &self.table
    }

    /// The keys of the table, whose dotted key is `name`.
    pub(super) fn keys(&self, source: &SourceText, name: String) -> TableKeys {
        let keys = self.keys.iter();
        TableKeys {
            table: name,
            file: source.shared_file(),
            lines: keys
                .map(|key| (key.name, source.location(key.offset).line))
                .collect(),
        }
    }
}

/// The keys that one table of a file sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableKeys {
    /// The table: `defaults`, `group.NAME` or `host.NAME`.
    pub table: String,
    /// The file that it stands in.
    pub file: Arc<Path>,
    lines: Vec<(&'static str, u32)>,
}

impl TableKeys {
    /// The line, counted from 1, that sets a key; nothing when the table is silent about it.
    pub fn line(&self, key: &str) -> Option<u32> {
        let found = self.lines.iter().find(|(name, _)| *name == key);
        found.map(|(_, line)| *line)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Keyed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = Vec::new();
        let table = T::deserialize(KeyNotes {
            inner: deserializer,
            fields: &[],
            keys: &mut keys,
        })?;
        Ok(Self { table, keys })
    }
}

/// Passes everything on to `inner` and notes the keys that pass by.
struct KeyNotes<'k, I> {
    inner: I,
    fields: &'static [&'static str],
    keys: &'k mut Vec<SetKey>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for KeyNotes<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let noting = KeyNotes {
            inner: visitor,
            fields,
            keys: self.keys,
        };
        self.inner.deserialize_struct(name, fields, noting)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for KeyNotes<'_, V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(out)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(KeyNotes {
            inner: map,
            fields: self.fields,
            keys: self.keys,
        })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for KeyNotes<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(KeyNotes {
            inner: seed,
            fields: self.fields,
            keys: self.keys,
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeyNotes<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        let key = Spanned::<String>::deserialize(deserializer)?;
        let written = key.get_ref().as_str();
        // An unknown key is in no list; the seed refuses it.
        if let Some(name) = self.fields.iter().find(|field| **field == written) {
            self.keys.push(SetKey {
                name,
                offset: key.span().start,
            });
        }
        let text: StrDeserializer<'_, D::Error> = written.into_deserializer();
        self.inner.deserialize(text)
    }
}
