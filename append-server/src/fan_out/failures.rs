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
    behind: Option<FanOutError>,
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

    /// A required destination that is still being filled had nothing to give, which says nothing.
    pub(super) fn add_behind(&mut self, error: FanOutError) {
        self.behind.get_or_insert(error);
    }

    /// Absent only when a required destination said so, and none failed otherwise.
    pub(super) fn verdict(self) -> FanOutError {
        match (self.required.or(self.absent), self.behind, self.optional) {
            (Some(error), _, _) | (None, None, Some(error)) => FanOutError::Read(Box::new(error)),
            (None, Some(behind), _) => behind,
            (None, None, None) => FanOutError::NothingRequired,
        }
    }
}
