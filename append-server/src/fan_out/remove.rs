//! What removals need of the destinations: all of them, what they are still to get, and that nothing is brought anywhere that
//! is being removed.

use std::collections::HashSet;
use std::sync::Arc;

use formats::ids::RepositoryId;
use formats::object::ObjectName;
use formats::wire::upload::repairs::Queued;

use crate::destination::{Destination, DestinationName, ObjectKey};
use crate::fan_out::{FanOut, FanOutError};
use crate::grants::MaintenanceGrant;

impl FanOut {
    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = &Arc<dyn Destination>> {
        self.in_reading_order().map(|(destination, _)| destination)
    }

    /// How many objects of a repository a destination still is to get.
    pub fn objects_behind(
        &self,
        name: &DestinationName,
        repository: RepositoryId,
    ) -> Result<u64, FanOutError> {
        match &self.followers {
            Some(followers) => Ok(followers.queue.behind(name, repository)?),
            None => Ok(0),
        }
    }

    /// Takes an object out of the queue of every destination.
    pub fn forget_deliveries(&self, key: &ObjectKey) -> Result<(), FanOutError> {
        if let Some(followers) = &self.followers {
            for destination in self.destinations() {
                followers.queue.done(destination.name(), key)?;
            }
        }
        Ok(())
    }

    /// Takes an object out of the queue of one destination.
    pub fn forget_delivery(
        &self,
        name: &DestinationName,
        key: &ObjectKey,
    ) -> Result<(), FanOutError> {
        match &self.followers {
            Some(followers) => Ok(followers.queue.done(name, key)?),
            None => Ok(()),
        }
    }

    /// Queues what a destination lacks of a repository, but for these names.
    pub async fn queue_missing_but(
        &self,
        repository: RepositoryId,
        name: &DestinationName,
        except: &HashSet<ObjectName>,
    ) -> Result<Queued, FanOutError> {
        self.destination(name)?;
        match &self.followers {
            Some(followers) => followers.queue_missing(repository, name, except).await,
            None => Err(FanOutError::OnlyDestination { name: name.clone() }),
        }
    }

    /// Ends uploads to a destination that nobody completed and that are older than so many seconds; says how many.
    pub async fn abort_uploads(
        &self,
        name: &DestinationName,
        older_than_secs: u64,
        grant: &MaintenanceGrant,
    ) -> Result<u64, FanOutError> {
        let aborting = self
            .destination(name)?
            .abort_uploads(older_than_secs, grant);
        let aborted = aborting.await;
        aborted.map_err(|error| FanOutError::Read(Box::new(error)))
    }
}
