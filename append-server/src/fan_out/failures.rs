//! What destinations answered that had nothing to give. Never calls an object absent while one that must have it has
//! not said so; nor a data pack, which a required one may not keep any more, while any other has not.

use formats::object::ObjectName;

use crate::destination::{DestinationError, ObjectKey};
use crate::fan_out::FanOutError;

/// What destinations answered that had nothing to give.
#[derive(Default)]
pub(super) struct Failures {
    absent: Option<DestinationError>,
    required: Option<DestinationError>,
    optional: Option<DestinationError>,
    /// Why one that is not required did not say whether it has it.
    silent: Option<DestinationError>,
    behind: Option<FanOutError>,
}

impl Failures {
    pub(super) fn add(&mut self, error: DestinationError, required: bool) {
        let place = match (error.is_absent(), required) {
            (true, true) => &mut self.absent,
            (false, true) => &mut self.required,
            (true, false) => &mut self.optional,
            (false, false) => &mut self.silent,
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

    /// What is to be said of an object.
    pub(super) fn verdict_of(mut self, key: &ObjectKey) -> FanOutError {
        let is_data = matches!(key.name, ObjectName::Pack(_));
        let silent = self.silent.take_if(|_| is_data && self.required.is_none());
        match silent {
            Some(error) => FanOutError::Read(Box::new(error)),
            None => self.verdict(),
        }
    }

    /// Absent only when a required destination said so, and none failed otherwise.
    pub(super) fn verdict(self) -> FanOutError {
        let optional = self.silent.or(self.optional);
        match (self.required.or(self.absent), self.behind, optional) {
            (Some(error), _, _) | (None, None, Some(error)) => FanOutError::Read(Box::new(error)),
            (None, Some(behind), _) => behind,
            (None, None, None) => FanOutError::NothingRequired,
        }
    }
}
