//! Tokens of the listener: made of 256 random bits, shown once, kept as a digest. What a token may ask is decided here; pure
//! but for the randomness.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use formats::ids::{parse_hex, to_hex};
use formats::keys::secret::{RandomError, random};
use jiff::Timestamp;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::catalog::state::tokens::TokenRow;

/// What every token begins with, so that it is known for one wherever it turns up.
const PREFIX: &str = "capstan_";
/// The longest name of a token.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// `/health/host/NAME`.
    Health,
    /// `/metrics`.
    Metrics,
    /// `/v1/status`.
    Status,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Health, Self::Metrics, Self::Status];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Status => "status",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is nothing that a token is good for")]
pub struct ParseScopeError {
    word: String,
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(word: &str) -> Result<Self, ParseScopeError> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == word);
        found.ok_or_else(|| ParseScopeError {
            word: word.to_owned(),
        })
    }
}

/// A token as its owner has it.
pub struct Token(Zeroizing<[u8; 32]>);

impl Token {
    /// A fresh one.
    pub fn fresh() -> Result<Self, RandomError> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// The token of a text; nothing where it is none.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let bytes = parse_hex(digits).ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// What it is handed over as.
    pub fn text(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(to_hex(&*self.0));
        Zeroizing::new(format!("{PREFIX}{}", *digits))
    }

    /// What is kept of it. It has 256 random bits, so that a fast hash is enough.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(blake3::derive_key(
            "capstan 2026-11 listener token",
            &*self.0,
        ))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

/// What is kept of a token.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// As it was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To store it.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

// Takes the same time wherever two differ.
impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TokenDigest(…)")
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No token, or none that is known or good at this time.
    Unknown,
    /// A good token, for something else, or from elsewhere.
    Forbidden,
}

/// The token that allows this, of those that are known. All of them are compared, whichever it is.
pub fn allowed<'a>(
    known: &'a [TokenRow],
    given: Option<&Token>,
    scope: Scope,
    from: IpAddr,
    now: Timestamp,
) -> Result<&'a TokenRow, Refused> {
    let digest = given.ok_or(Refused::Unknown)?.digest();
    let mut found = None;
    for row in known {
        if row.digest == digest {
            found = Some(row);
        }
    }
    let row = found.ok_or(Refused::Unknown)?;
    if row.expires.is_some_and(|expires| now >= expires) {
        return Err(Refused::Unknown);
    }
    let ranges = &row.allow_from;
    let is_near = ranges.is_empty() || ranges.iter().any(|range| range.contains(from));
    match is_near && row.scopes.contains(&scope) {
        true => Ok(row),
        false => Err(Refused::Forbidden),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Refused, Scope, Token, allowed};
    use crate::catalog::state::tokens::TokenRow;
    use crate::clock::from_nanos;

    fn row(token: &Token) -> TokenRow {
        TokenRow {
            name: "prometheus".to_owned(),
            digest: token.digest(),
            scopes: vec![Scope::Metrics],
            allow_from: vec!["10.0.0.0/8".parse().expect("a range")],
            created: Timestamp::UNIX_EPOCH,
            expires: Some(from_nanos(100)),
            last_used: None,
        }
    }

    #[test]
    fn a_token_is_good_for_its_scopes_from_its_addresses_until_it_expires() {
        let (token, other) = (
            Token::fresh().expect("randomness"),
            Token::fresh().expect("randomness"),
        );
        let known = [row(&other), row(&token)];
        let near = "10.1.2.3".parse().expect("an address");
        let far = "192.0.2.1".parse().expect("an address");
        let ask = |token, scope, from, nanos| {
            allowed(&known, token, scope, from, from_nanos(nanos)).map(|row| row.digest)
        };
        let given = Some(&token);
        assert_eq!(ask(given, Scope::Metrics, near, 99), Ok(token.digest()));
        assert_eq!(ask(given, Scope::Health, near, 99), Err(Refused::Forbidden));
        assert_eq!(ask(given, Scope::Metrics, far, 99), Err(Refused::Forbidden));
        assert_eq!(ask(given, Scope::Metrics, near, 100), Err(Refused::Unknown));
        assert_eq!(ask(None, Scope::Metrics, near, 99), Err(Refused::Unknown));
        let stranger = Token::fresh().expect("randomness");
        let asked = ask(Some(&stranger), Scope::Metrics, near, 99);
        assert_eq!(asked, Err(Refused::Unknown));
    }

    #[test]
    fn a_token_reads_back_and_shows_itself_nowhere() {
        let token = Token::fresh().expect("randomness");
        let text = token.text();
        let again = Token::read(&text).expect("a token");
        assert_eq!(again.digest(), token.digest());
        let shown = format!("{token:?} {:?}", token.digest());
        assert!(!shown.contains(&text[8..16]), "{shown}");
        assert!(Token::read(&text[1..]).is_none());
        assert!(Token::read(&format!("{}0", *text)).is_none());
    }
}
