//! Puts a good copy of an object where a destination lacks it or has it damaged. Looks for itself at both before it does
//! anything, keeps what was damaged, and never touches what is good.

use std::sync::Arc;

use formats::ids::PackId;
use futures_util::StreamExt as _;

use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, ObjectKey, PutOutcome,
};
use crate::fan_out::{FanOut, FanOutError};
use crate::grants::RepairGrant;
use crate::spool::{Purpose, Spool, SpoolError, SpooledObject};

/// What became of an object that was to be healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healed {
    /// Nothing was wrong with it.
    Good,
    /// It is on its way there by the queue.
    Pending,
    /// It was missing, and was copied from there.
    Stored {
        /// Whose copy it was.
        from: DestinationName,
    },
    /// It was damaged, and was replaced.
    Replaced {
        /// Whose copy took its place.
        from: DestinationName,
        /// Where the damaged one is kept.
        kept: String,
    },
}

impl FanOut {
    /// Heals one object of a destination from any other that has it with this digest.
    pub async fn heal(
        &self,
        name: &DestinationName,
        key: &ObjectKey,
        digest: PackId,
        spool: &Arc<Spool>,
        grant: RepairGrant,
    ) -> Result<Healed, FanOutError> {
        if key.name.digest().is_some_and(|named| named != digest) {
            let key = key.clone();
            return Err(FanOutError::OtherDigest { key, digest });
        }
        let destination = self.destination(name)?;
        let is_damaged = match digest_of(destination, key).await {
            Ok(Some(present)) if present == digest => return Ok(Healed::Good),
            Ok(_) => true,
            Err(error) if error.is_absent() => false,
            // A bad sector, or a right that is lacking. Its name says what it should be: a copy takes its place, if the
            // destination can set it aside.
            Err(error) if !error.is_retryable() && key.name.digest().is_some() => true,
            Err(error) => return Err(FanOutError::Read(Box::new(error))),
        };
        if !is_damaged && self.is_pending(name, key)? {
            return Ok(Healed::Pending);
        }
        if !is_damaged && self.is_left_out(name, key.repository)? {
            return Err(FanOutError::LeftOut {
                name: name.clone(),
                repository: key.repository,
            });
        }
        let (from, good) = self.good_copy(name, key, digest, spool).await?;
        let failed = |error| FanOutError::Read(Box::new(error));
        if is_damaged {
            let replacing = destination.replace_damaged(key.clone(), good, &grant);
            let kept = replacing.await.map_err(failed)?;
            tracing::warn!(destination = %name, object = %key, %from, kept, "a damaged object was replaced");
            return Ok(Healed::Replaced { from, kept });
        }
        match destination.put_if_absent(key.clone(), good).await {
            Ok(PutOutcome::Created | PutOutcome::ExistsSame) => {
                tracing::warn!(destination = %name, object = %key, %from, "a missing object was put back");
                Ok(Healed::Stored { from })
            }
            Ok(PutOutcome::ExistsDifferent) => Err(FanOutError::Conflict {
                key: key.clone(),
                destination: name.clone(),
            }),
            Err(error) => Err(failed(error)),
        }
    }

    fn is_pending(&self, name: &DestinationName, key: &ObjectKey) -> Result<bool, FanOutError> {
        match &self.followers {
            Some(followers) => Ok(followers.is_pending(name, key)?),
            None => Ok(false),
        }
    }

    /// The object from another destination, gathered in the spool and hashed on the way.
    async fn good_copy(
        &self,
        besides: &DestinationName,
        key: &ObjectKey,
        digest: PackId,
        spool: &Arc<Spool>,
    ) -> Result<(DestinationName, SpooledObject), FanOutError> {
        for (source, _) in self.in_reading_order() {
            if source.name() == besides {
                continue;
            }
            match gather(source, key, spool, Purpose::Data).await {
                Ok(Some(found)) if found.digest() == digest => {
                    return Ok((source.name().clone(), found));
                }
                Ok(_) => {
                    tracing::warn!(destination = %source.name(), object = %key, "this copy is damaged too");
                }
                Err(GatherError::Spool(error)) => return Err(FanOutError::Spool(error)),
                Err(GatherError::Source(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no good copy there"
                    );
                }
            }
        }
        Err(FanOutError::NoGoodCopy { key: key.clone() })
    }
}

/// Why an object was not gathered in the spool.
#[derive(Debug)]
pub(super) enum GatherError {
    Source(DestinationError),
    Spool(SpoolError),
}

/// An object of a destination in the spool; nothing when it is larger than any object can be.
pub(super) async fn gather(
    source: &Arc<dyn Destination>,
    key: &ObjectKey,
    spool: &Arc<Spool>,
    purpose: Purpose,
) -> Result<Option<SpooledObject>, GatherError> {
    let read = source.get_range(key.clone(), ByteRange::ALL).await;
    let mut read = read.map_err(GatherError::Source)?;
    if read.total > formats::limits::PACK_BYTES_MAX {
        return Ok(None);
    }
    let begun = spool.begin(read.total, purpose).await;
    let mut writer = begun.map_err(GatherError::Spool)?;
    while let Some(piece) = read.body.next().await {
        let piece = piece.map_err(GatherError::Source)?;
        writer.write(piece).await.map_err(GatherError::Spool)?;
    }
    writer.finish().await.map(Some).map_err(GatherError::Spool)
}

/// The digest of an object where it is; none of what is larger than any object can be.
async fn digest_of(
    destination: &Arc<dyn Destination>,
    key: &ObjectKey,
) -> Result<Option<PackId>, DestinationError> {
    let mut read = destination.get_range(key.clone(), ByteRange::ALL).await?;
    if read.total > formats::limits::PACK_BYTES_MAX {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    while let Some(piece) = read.body.next().await {
        hasher.update(&piece?);
    }
    Ok(Some(PackId(*hasher.finalize().as_bytes())))
}
