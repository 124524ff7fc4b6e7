//! Reads from the first destination that can answer. Never calls an object absent while one that must have it has not
//! said so.

use std::sync::Arc;

use crate::destination::{ByteRange, Destination, DestinationError, ObjectKey, ObjectRead};
use crate::fan_out::FanOutError;

/// A part of an object, from the first of these that has it.
pub(super) async fn first_that_can(
    destinations: &[Arc<dyn Destination>],
    key: &ObjectKey,
    range: ByteRange,
) -> Result<ObjectRead, FanOutError> {
    let mut failures = Failures::default();
    for destination in destinations {
        match destination.get_range(key.clone(), range).await {
            Ok(read) => return Ok(read),
            Err(error @ DestinationError::PastEnd { .. }) => {
                return Err(FanOutError::Read(Box::new(error)));
            }
            Err(error) => failures.add(error, true),
        }
    }
    Err(failures.verdict())
}

/// What destinations answered that had nothing to give.
#[derive(Default)]
pub(super) struct Failures {
    absent: Option<DestinationError>,
    required: Option<DestinationError>,
    optional: Option<DestinationError>,
}

impl Failures {
    pub(super) fn add(&mut self, error: DestinationError, required: bool) {
        let place = match (error.is_absent(), required) {
            (true, true) => &mut self.absent,
            (false, true) => &mut self.required,
            (_, false) => &mut self.optional,
        };
        if !error.is_absent() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a destination could not answer"
            );
        }
        place.get_or_insert(error);
    }

    /// Absent only when no required destination failed otherwise.
    pub(super) fn verdict(self) -> FanOutError {
        let error = self.required.or(self.absent).or(self.optional);
        match error {
            Some(error) => FanOutError::Read(Box::new(error)),
            None => FanOutError::NothingRequired,
        }
    }
}
