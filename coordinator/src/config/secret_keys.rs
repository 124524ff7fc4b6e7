//! The keys of coordinator.toml by which a table gives one secret: NAME, NAME_file, NAME_command, NAME_env and
//! NAME_credential. The same ways as a destination's secrets have; never fetches one.

use std::fmt;
use std::ops::Range;

use append_server::places::FileFacts;
use append_server::places::secret::{SecretKeys, SecretSource};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use toml::Spanned;
use zeroize::Zeroizing;

use crate::config::raw::Text;
use crate::config::settings::ValueReader;

/// A secret that stands in the file itself: wiped when dropped, and `Debug` does not print it.
pub(super) struct SecretText(Zeroizing<String>);

impl fmt::Debug for SecretText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SecretText(…)")
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// What a table's keys for one secret say.
#[derive(Debug)]
pub(super) struct RawSecret<'a> {
    /// NAME.
    pub(super) key: &'static str,
    pub(super) literal: Option<&'a Spanned<SecretText>>,
    pub(super) file: Option<&'a Text>,
    pub(super) command: Option<&'a Spanned<Vec<String>>>,
    pub(super) variable: Option<&'a Text>,
    pub(super) credential: Option<&'a Text>,
}

impl RawSecret<'_> {
    /// Where the first of the keys stands, if one does.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        let texts = [self.file, self.variable, self.credential];
        let literal = self.literal.map(Spanned::span);
        literal
            .or(self.command.map(Spanned::span))
            .into_iter()
            .chain(texts.into_iter().flatten().map(Spanned::span))
            .min_by_key(|span| span.start)
    }
}

/// Where a secret comes from; nothing when no key gives it, or once they are refused.
///
/// One that stands in the file itself is refused when others can read the file.
pub(super) fn read_secret(
    reader: &mut ValueReader<'_>,
    raw: &RawSecret<'_>,
) -> Option<SecretSource> {
    let span = raw.span()?;
    let directory = reader.source().directory();
    let keys = SecretKeys {
        key: raw.key,
        literal: raw.literal.map(|text| text.get_ref().0.as_str()),
        file: raw.file.map(|text| text.get_ref().as_str()),
        command: raw.command.map(|words| words.get_ref().as_slice()),
        variable: raw.variable.map(|text| text.get_ref().as_str()),
        credential: raw.credential.map(|text| text.get_ref().as_str()),
    };
    let source = keys.source(FileFacts {
        directory: &directory,
        is_private: reader.source().is_private(),
    });
    source.unwrap_or_else(|error| {
        reader.refuse(&span, error);
        None
    })
}

/// Where a secret comes from as `config show` prints it, without the secret.
pub(super) fn secret_value(source: &SecretSource) -> Value {
    match source {
        SecretSource::Literal(_) => json!("(hidden)"),
        SecretSource::File(path) => json!(format!("(file {})", path.display())),
        SecretSource::Command(words) => json!(format!("(command {})", words.join(" "))),
        SecretSource::Variable(name) => json!(format!("(environment {name})")),
        SecretSource::Credential(name) => json!(format!("(credential {name})")),
    }
}
