//! `PUT /v1/packs`: a body becomes a data pack named by its own digest. The peer names nothing.

use std::sync::Arc;

use bytes::Bytes;
use formats::limits::PACK_BYTES_MAX;
use formats::object::ObjectName;
use formats::wire::upload::{PATH_PACKS, Stored};
use http::{Method, Request};
use hyper::body::Body;

use crate::answer::{
    self, SmallAnswer, fan_out_kind, grant_kind, last, no_such_method, no_such_path, receive_kind,
};
use crate::destination::{ObjectKey, PutOutcome};
use crate::fan_out::FanOutError;
use crate::grants::{AppendGrant, GrantError, UploadAllowance};
use crate::ingest::Ingest;
use crate::receive::{BodyRules, ReceiveError, receive};
use crate::spool::{Purpose, SpooledObject};

#[derive(Debug, thiserror::Error)]
enum PutPackError {
    #[error("could not take the pack")]
    Receive(#[from] ReceiveError),
    #[error("could not store the pack")]
    Store(#[from] FanOutError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error("the pack's storing was cut short")]
    Join(#[from] tokio::task::JoinError),
}

/// Answers whatever an agent asks.
pub(super) async fn answer<B>(
    ingest: &Arc<Ingest>,
    request: Request<B>,
    grant: &AppendGrant,
) -> SmallAnswer
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let uri = request.uri();
    if uri.path() != PATH_PACKS || uri.query().is_some() {
        return last(no_such_path());
    }
    if request.method() != Method::PUT {
        return last(no_such_method("PUT"));
    }
    match put_pack(ingest, request.into_body(), grant).await {
        Ok(stored) => answer::stored(stored),
        Err(error) => {
            let run = grant.run();
            tracing::warn!(%run, error = &error as &dyn std::error::Error, "a pack was not stored");
            let kind = match &error {
                PutPackError::Receive(error) => receive_kind(error),
                PutPackError::Store(error) => fan_out_kind(error),
                PutPackError::Grant(error) => grant_kind(*error),
                PutPackError::Join(_) => formats::wire::upload::refusal::RefusalKind::Storage,
            };
            last(answer::failed(&error, kind))
        }
    }
}

async fn put_pack<B>(
    ingest: &Arc<Ingest>,
    body: B,
    grant: &AppendGrant,
) -> Result<Stored, PutPackError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let allowance = grant.begin_upload().await?;
    ingest.fan_out.check_reserve().await?;
    let rules = BodyRules {
        bytes_max: PACK_BYTES_MAX,
        purpose: Purpose::Data,
        pace: ingest.pace,
    };
    let count = |bytes| allowance.take(bytes);
    let spooled = tokio::select! {
        // A body given up leaves nothing: the spool removes the file of a writer that is dropped.
        biased;
        () = grant.ended() => return Err(GrantError::Ended { run: grant.run() }.into()),
        spooled = receive(&ingest.spool, body, rules, count) => spooled?,
    };
    // From here on the pack is stored or not, whatever becomes of the connection; closing the run waits.
    let storing = store(Arc::clone(ingest), spooled, grant.clone(), allowance);
    tokio::spawn(storing).await?
}

async fn store(
    ingest: Arc<Ingest>,
    spooled: SpooledObject,
    grant: AppendGrant,
    allowance: UploadAllowance,
) -> Result<Stored, PutPackError> {
    allowance.check_alive()?;
    let (digest, bytes) = (spooled.digest(), spooled.bytes());
    let key = ObjectKey {
        repository: grant.repository(),
        name: ObjectName::Pack(digest),
    };
    let outcome = ingest.fan_out.put(&key, spooled).await?;
    tracing::debug!(run = %grant.run(), pack = %digest, bytes, ?outcome, "pack stored");
    Ok(Stored {
        digest,
        bytes,
        existed: outcome == PutOutcome::ExistsSame,
    })
}
