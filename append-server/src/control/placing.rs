//! How repositories are kept, as the coordinator's configuration says it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use formats::limits::SMALL_BODY_BYTES_MAX;
use formats::wire::placing::{AskedPlaces, Placing};
use formats::wire::upload::refusal::RefusalKind;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};

use crate::answer::{self, fan_out_kind};
use crate::control::{Control, small};
use crate::destination::ParseDestinationNameError;
use crate::fan_out::queue::placing::{Keeping, KeptAt};
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
    let (fan_out, repositories) = (&control.fan_out, placing.repositories);
    let placed = match placing.asked.map(keeping).transpose() {
        Ok(Some(keeping)) => fan_out.place(repositories, keeping, grant).await,
        Ok(None) => fan_out.place_as_before(repositories, grant).await,
        Err(error) => return small(answer::failed(&error, RefusalKind::Malformed)),
    };
    match placed {
        Ok(()) => small(answer::done(StatusCode::NO_CONTENT)),
        Err(error) => small(answer::failed(&error, fan_out_kind(&error))),
    }
}

fn keeping(asked: AskedPlaces) -> Result<Keeping, ParseDestinationNameError> {
    let kept_at = match &asked.destinations {
        None => KeptAt::Everywhere,
        Some(names) => {
            let names = names.iter().map(|name| name.parse());
            KeptAt::These(names.collect::<Result<_, _>>()?)
        }
    };
    Ok(Keeping {
        kept_at,
        copies: asked.copies,
    })
}
