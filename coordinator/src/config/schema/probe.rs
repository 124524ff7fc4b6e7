//! Asks a type which keys it reads, by having it read a value that has every one of them. For tests alone.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// The dotted keys that a type reads, each with the kind of its value: "flag", "number", "text", "any" or the words of an
/// enum. Lists add "[]" and maps "*" to the key.
pub(super) fn keys_read<T: DeserializeOwned>() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let probe = Probe {
        path: String::new(),
        found: &mut found,
    };
    if let Err(error) = T::deserialize(probe) {
        unreachable!("the probe must satisfy every type: {error}");
    }
    found
}

struct Probe<'f> {
    path: String,
    found: &'f mut BTreeMap<String, String>,
}

impl Probe<'_> {
    fn note(&mut self, kind: &str) {
        self.found.insert(self.path.clone(), kind.to_owned());
    }

    fn inner(&mut self, suffix: &str) -> Probe<'_> {
        Probe {
            path: format!("{}{suffix}", self.path),
            found: self.found,
        }
    }
}

#[derive(Debug)]
struct ProbeError(String);

impl fmt::Display for ProbeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for ProbeError {}

impl serde::de::Error for ProbeError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self(format!("{unexpected} for {expected}"))
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = ProbeError;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ProbeError> {
        self.note("any");
        visitor.visit_str("x")
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ProbeError> {
        self.note("flag");
        visitor.visit_bool(true)
    }

    fn deserialize_i64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ProbeError> {
        self.note("number");
        visitor.visit_i64(1)
    }

    fn deserialize_u64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ProbeError> {
        self.note("number");
        visitor.visit_u64(1)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ProbeError> {
        self.note("text");
        visitor.visit_str("x")
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_seq(One {
            probe: self,
            done: false,
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_map(One {
            probe: self,
            done: false,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        if is_span(name) {
            return visitor.visit_map(Span::of(self, fields));
        }
        if !self.path.is_empty() {
            self.note("table");
        }
        visitor.visit_map(Every {
            probe: self,
            fields,
            next: 0,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.note(&variants.join("|"));
        visitor.visit_enum(Variant(variants[0]))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct identifier
        ignored_any
    }
}

/// A list or map with one element.
struct One<'f> {
    probe: Probe<'f>,
    done: bool,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = ProbeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ProbeError> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        seed.deserialize(self.probe.inner("[]")).map(Some)
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = ProbeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ProbeError> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        // A key's own kind is of no interest.
        let mut ignored = BTreeMap::new();
        let probe = Probe {
            path: "key".to_owned(),
            found: &mut ignored,
        };
        seed.deserialize(probe).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ProbeError> {
        seed.deserialize(self.probe.inner(".*"))
    }
}

/// A table with every field.
struct Every<'f> {
    probe: Probe<'f>,
    fields: &'static [&'static str],
    next: usize,
}

impl<'de> MapAccess<'de> for Every<'_> {
    type Error = ProbeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ProbeError> {
        let Some(field) = self.fields.get(self.next) else {
            return Ok(None);
        };
        seed.deserialize(FieldName(field)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ProbeError> {
        let field = self.fields[self.next];
        self.next += 1;
        let dot = if self.probe.path.is_empty() { "" } else { "." };
        seed.deserialize(self.probe.inner(&format!("{dot}{field}")))
    }
}

/// A key, which may be asked for with the place that it stands at.
struct FieldName(&'static str);

impl<'de> Deserializer<'de> for FieldName {
    type Error = ProbeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        visitor.visit_map(Span::of(self, fields))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Whether a type is not a table but a value with the place that it stands at.
fn is_span(name: &str) -> bool {
    name.ends_with("_Spanned")
}

/// The fields of such a value: where it begins, where it ends, and itself.
struct Span<D> {
    value: Option<D>,
    fields: &'static [&'static str],
    next: usize,
}

impl<D> Span<D> {
    fn of(value: D, fields: &'static [&'static str]) -> Self {
        Self {
            value: Some(value),
            fields,
            next: 0,
        }
    }
}

impl<'de, D: Deserializer<'de, Error = ProbeError>> MapAccess<'de> for Span<D> {
    type Error = ProbeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ProbeError> {
        let Some(field) = self.fields.get(self.next) else {
            return Ok(None);
        };
        seed.deserialize(BorrowedStrDeserializer::new(field))
            .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ProbeError> {
        let is_value = self.fields[self.next].ends_with("_value");
        self.next += 1;
        match self.value.take_if(|_| is_value) {
            Some(value) => seed.deserialize(value),
            None => seed.deserialize(0_usize.into_deserializer()),
        }
    }
}

struct Variant(&'static str);

impl<'de> EnumAccess<'de> for Variant {
    type Error = ProbeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), ProbeError> {
        let text: StrDeserializer<'_, ProbeError> = self.0.into_deserializer();
        Ok((seed.deserialize(text)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = ProbeError;

    fn unit_variant(self) -> Result<(), ProbeError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, ProbeError> {
        Err(serde::de::Error::custom("no such variant in configuration"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, ProbeError> {
        Err(serde::de::Error::custom("no such variant in configuration"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ProbeError> {
        Err(serde::de::Error::custom("no such variant in configuration"))
    }
}
