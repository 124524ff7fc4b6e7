//! Where repositories are kept, as the coordinator's configuration says it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use formats::limits::SMALL_BODY_BYTES_MAX;
use formats::wire::upload::{Placing, RefusalKind};
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};

use crate::answer::{self, fan_out_kind};
use crate::control::{Control, small};
use crate::destination::ParseDestinationNameError;
use crate::fan_out::queue::placing::KeptAt;
use crate::grants::PlacingGrant;

/// `POST /v1/placing`.
pub(super) async fn place(
    State(control): State<Arc<Control>>,
    grant: PlacingGrant,
    body: Body,
) -> Response {
    let bytes = match Limited::new(body, SMALL_BODY_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return small(answer::refused(RefusalKind::Malformed, error.to_string())),
    };
    let placing = match Placing::decode(&bytes) {
        Ok(placing) => placing,
        Err(error) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    let kept_at = match kept_at(placing.destinations) {
        Ok(kept_at) => kept_at,
        Err(error) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    let placed = control.fan_out.place(placing.repositories, kept_at, grant);
    match placed.await {
        Ok(()) => small(answer::done(StatusCode::NO_CONTENT)),
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

fn kept_at(names: Option<Vec<String>>) -> Result<KeptAt, ParseDestinationNameError> {
    let Some(names) = names else {
        return Ok(KeptAt::Everywhere);
    };
    let names = names.iter().map(|name| name.parse());
    names.collect::<Result<_, _>>().map(KeptAt::These)
}
