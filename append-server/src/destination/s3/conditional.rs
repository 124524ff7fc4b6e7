//! Whether a service enforces conditional writes (`If-None-Match: *`, RFC 9110 §13.1.2): found out by real puts, for
//! some services ignore the header and overwrite. Never takes ignored for enforced.

use std::error::Error;
use std::fmt;

use aws_sdk_s3::primitives::ByteStream;
use formats::wire::upload::destinations::{self, TriedWrites};
use sha2::{Digest as _, Sha256};

use crate::destination::DestinationError;
use crate::destination::s3::failure::S3Failure;
use crate::destination::s3::options::{Checksums, ConditionalPolicy};
use crate::destination::s3::{Inner, within_deadline};
use crate::fan_out::probes::Probe;
use crate::limits::S3_REQUEST_DEADLINE;

/// The object that is put for it, beside the repositories. It stays: the credentials that put may not remove.
pub(super) const PROBE: &str = "capstan-conditional-write-probe";

/// What a service does with a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// A second put of a name fails.
    Enforced,
    /// It succeeds, as if nothing had been asked.
    Ignored,
    /// The service does not take the header at all.
    Refused,
    /// Not tried.
    Off,
}

impl fmt::Display for ConditionalWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforced => "enforced",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Off => "off",
        })
    }
}

impl ConditionalWrites {
    /// Whether puts carry the condition.
    pub(super) fn is_used(self) -> bool {
        self == Self::Enforced
    }

    /// What real puts showed, if there were any.
    fn tried(self) -> Option<TriedWrites> {
        match self {
            Self::Enforced => Some(TriedWrites::Enforced),
            Self::Ignored => Some(TriedWrites::Ignored),
            Self::Refused => Some(TriedWrites::Refused),
            Self::Off => None,
        }
    }
}

impl Inner {
    /// What the service does with a conditional write; asked once.
    pub(super) async fn conditional(&self) -> Result<ConditionalWrites, DestinationError> {
        let found = self.conditional.get_or_try_init(|| self.find_out());
        Ok(*found.await?)
    }

    async fn find_out(&self) -> Result<ConditionalWrites, DestinationError> {
        let policy = self.options.conditional_writes;
        if policy == ConditionalPolicy::Off {
            return Ok(ConditionalWrites::Off);
        }
        let found = self
            .probe()
            .await
            .map_err(|failure| self.error("try a conditional write of", PROBE, failure))?;
        if let Some(tried) = found.tried() {
            self.keep(tried).await;
        }
        if found.is_used() {
            return Ok(found);
        }
        if policy == ConditionalPolicy::Require {
            return Err(DestinationError::Permanent {
                destination: self.name.clone(),
                action: "use conditional writes for",
                subject: format!("bucket {}", self.options.bucket),
                source: format!(
                    "they are {found} there, and conditional_writes = \"require\"; set \"auto\" to do without"
                )
                .into(),
            });
        }
        tracing::warn!(
            destination = %self.name,
            conditional_writes = %found,
            "the service does not keep names from being overwritten: who has its credentials can; prefer one that does"
        );
        Ok(found)
    }

    /// Keeps what was found out, and says so when it was better before. Storing does not depend on it.
    async fn keep(&self, found: TriedWrites) {
        let Some(probes) = self.probes.get().cloned() else {
            return;
        };
        let (destination, place) = (self.name.clone(), self.place());
        let probe = Probe {
            found,
            at_unix_secs: self.clock.now_unix_secs(),
        };
        let keeping = tokio::task::spawn_blocking(move || probes.note(&destination, &place, probe));
        let not_kept = |error: &(dyn Error + 'static)| {
            tracing::warn!(destination = %self.name, error, "what conditional writes do there is not kept");
        };
        match keeping.await {
            Ok(Ok(Some(before)))
                if before.found == TriedWrites::Enforced && found != TriedWrites::Enforced =>
            {
                tracing::error!(
                    destination = %self.name,
                    conditional_writes = found.word(),
                    "the service enforced conditional writes before and does not now: whoever has its credentials can \
                     overwrite backups; ask its provider, or set conditional_writes = \"require\""
                );
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => not_kept(&error),
            Err(error) => not_kept(&error),
        }
    }

    /// What is known without asking anybody.
    pub(super) fn known_conditional(&self) -> destinations::ConditionalWrites {
        if self.options.conditional_writes == ConditionalPolicy::Off {
            return destinations::ConditionalWrites::Off;
        }
        let Some(probes) = self.probes.get() else {
            return destinations::ConditionalWrites::NotTried;
        };
        match probes.last(&self.name, &self.place()) {
            Ok(Some(probe)) => destinations::ConditionalWrites::Tried {
                found: probe.found,
                at_unix_secs: probe.at_unix_secs,
            },
            Ok(None) => destinations::ConditionalWrites::NotTried,
            Err(error) => {
                let error = &error as &(dyn Error + 'static);
                tracing::warn!(destination = %self.name, error, "what conditional writes do there is not known");
                destinations::ConditionalWrites::NotTried
            }
        }
    }

    /// Which bucket of which service this is, whoever asks.
    fn place(&self) -> String {
        let options = &self.options;
        let endpoint = options.endpoint.as_deref().unwrap_or(&options.region);
        format!("{endpoint} {}/{}", options.bucket, options.prefix)
    }

    async fn probe(&self) -> Result<ConditionalWrites, S3Failure> {
        // There from an earlier time, or made by the first put: the second tells.
        for _ in 0..2 {
            match self.put_probe().await {
                Ok(()) => {}
                Err(failure) if failure.is_status(412) => return Ok(ConditionalWrites::Enforced),
                Err(failure) if failure.is_not_implemented() => {
                    return Ok(ConditionalWrites::Refused);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(ConditionalWrites::Ignored)
    }

    async fn put_probe(&self) -> Result<(), S3Failure> {
        const BYTES: &[u8] = b"Capstan tries conditional writes.\n";
        // A bucket that locks by itself wants a checksum with every put.
        let digest = (self.options.checksums == Checksums::Sha256)
            .then(|| aws_smithy_types::base64::encode(Sha256::digest(BYTES)));
        let client = self.clients.ingest().await;
        within_deadline!(
            client
                .put_object()
                .bucket(&self.options.bucket)
                .key(format!("{}{PROBE}", self.options.prefix))
                .if_none_match("*")
                .set_checksum_sha256(digest)
                .body(ByteStream::from_static(BYTES))
        )
        .map(drop)
    }
}
