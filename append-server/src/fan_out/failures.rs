//! What destinations answered that had nothing to give. Never calls an object absent while one that must have it has
//! not said so.

use crate::destination::DestinationError;
use crate::fan_out::FanOutError;

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
