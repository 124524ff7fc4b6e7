//! Healing objects of one destination, prolonging their locks, and what a destination is still to get.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use formats::ids::{PackId, RepositoryId};
use formats::object::ObjectName;
use formats::wire::upload::objects::OBJECT_PAGE_MAX;
use formats::wire::upload::refusal::RefusalKind;
use formats::wire::upload::repairs::{HealedObject, LockedObject};
use http::StatusCode;
use serde::Deserialize;

use crate::answer::{self, fan_out_kind};
use crate::clock::{Clock as _, SystemClock};
use crate::control::objects::page;
use crate::control::{Control, small};
use crate::destination::{DestinationName, ObjectKey};
use crate::fan_out::{FanOutError, Healed};
use crate::grants::{ReadGrant, RepairGrant};

/// Which object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectQuery {
    repository: String,
    object: String,
    digest: Option<String>,
}

/// What a destination is still to get.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PendingQuery {
    repository: String,
    after: Option<String>,
}

/// `POST /v1/destinations/<name>/heal?repository=<repository>&object=<name>&digest=<hexadecimal>`.
pub(super) async fn heal(
    State(control): State<Arc<Control>>,
    grant: RepairGrant,
    Path(name): Path<String>,
    Query(query): Query<ObjectQuery>,
) -> Response {
    let parsed = parse(&name, &query).and_then(|(name, key)| {
        let digest = query.digest.as_deref().ok_or("a digest is missing")?;
        Ok((name, key, parsed::<PackId>(digest)?))
    });
    let (name, key, digest) = match parsed {
        Ok(parsed) => parsed,
        Err(text) => return small(answer::refused(RefusalKind::Malformed, text)),
    };
    match control.removals.is_swept(&key, &name) {
        Ok(false) => {}
        Ok(true) => {
            let text = format!("{key} is removed by prune, and is not put back");
            return small(answer::refused(RefusalKind::NotGranted, text));
        }
        Err(error) => return small(answer::failed(&error, RefusalKind::Storage)),
    }
    // What has begun is finished, whatever becomes of the connection.
    let healing = tokio::spawn(async move {
        let spool = &control.spool;
        control
            .fan_out
            .heal(&name, &key, digest, spool, grant)
            .await
    });
    let healed = healing.await.map_err(FanOutError::Cut).flatten();
    match healed {
        Ok(healed) => {
            let body = healed_object(healed).encode();
            small(answer::with_body(StatusCode::OK, body))
        }
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

fn healed_object(healed: Healed) -> HealedObject {
    match healed {
        Healed::Good => HealedObject::Good,
        Healed::Pending => HealedObject::Pending,
        Healed::Stored { from } => HealedObject::Stored {
            from: from.to_string(),
        },
        Healed::Replaced { from, kept } => HealedObject::Replaced {
            from: from.to_string(),
            kept,
        },
    }
}

/// `POST /v1/destinations/<name>/lock?repository=<repository>&object=<name>`.
pub(super) async fn lock(
    State(control): State<Arc<Control>>,
    grant: RepairGrant,
    Path(name): Path<String>,
    Query(query): Query<ObjectQuery>,
) -> Response {
    let (name, key) = match parse(&name, &query) {
        Ok(parsed) => parsed,
        Err(text) => return small(answer::refused(RefusalKind::Malformed, text)),
    };
    let now = SystemClock.now_unix_secs();
    match control.fan_out.renew_lock(&name, &key, now, grant).await {
        Ok(state) => {
            let locked = LockedObject {
                until_unix_secs: state.until_unix_secs,
                outcome: state.outcome,
                is_held: state.is_held,
            };
            small(answer::with_body(StatusCode::OK, locked.encode()))
        }
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

/// `GET /v1/destinations/<name>/pending?repository=<repository>&after=<name>`.
pub(super) async fn pending(
    State(control): State<Arc<Control>>,
    _grant: ReadGrant,
    Path(name): Path<String>,
    Query(query): Query<PendingQuery>,
) -> Response {
    let parsed = parsed::<DestinationName>(&name).and_then(|name| {
        let repository = parsed::<RepositoryId>(&query.repository)?;
        let after = query.after.as_deref().map(parsed::<ObjectName>);
        Ok((name, repository, after.transpose()?))
    });
    let (name, repository, after) = match parsed {
        Ok(parsed) => parsed,
        Err(text) => return small(answer::refused(RefusalKind::Malformed, text)),
    };
    let asking = tokio::task::spawn_blocking(move || {
        let limit = usize::try_from(OBJECT_PAGE_MAX).unwrap_or(usize::MAX);
        control
            .fan_out
            .pending(&name, repository, after.as_ref(), limit)
    });
    page(asking.await.map_err(FanOutError::Cut).flatten())
}

fn parse(name: &str, query: &ObjectQuery) -> Result<(DestinationName, ObjectKey), String> {
    let key = ObjectKey {
        repository: parsed(&query.repository)?,
        name: parsed(&query.object)?,
    };
    Ok((parsed(name)?, key))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
