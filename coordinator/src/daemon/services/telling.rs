//! What the daemon tells others: answers on its listener, and notifications.

use std::sync::Arc;

use crate::daemon::services::Parts;
use crate::daemon::services::supervise::{Running, ServiceError};
use crate::listener::answer::Answers;
use crate::listener::serve::Bound;
use crate::notify::notifier::Notifier;

/// Answers whoever asks at the listener's address, if there is one. An address that cannot be had keeps nobody from backing
/// up; another address in the configuration is taken when the daemon is started anew.
pub async fn answer_others(parts: Parts) -> Result<(), ServiceError> {
    let current = Arc::clone(&parts.coordinator.borrow());
    let Some(address) = &current.config.listener else {
        return Ok(());
    };
    let bound = Bound::to(address).await?;
    tracing::info!(%address, "answering health checks");
    let answers = Answers::of(parts.coordinator, parts.health);
    bound.serve(Arc::new(answers), parts.stop).await;
    Ok(())
}

/// Tells people what they must know, from what happens now on.
pub fn tell_people(parts: &Parts) -> Running {
    let mut running = Running::new();
    let (events, stop) = (parts.events.listen(), parts.stop.clone());
    // Opened here and not in the task: the first one begins with what happens after this.
    let opened = Notifier::open(parts.coordinator.clone(), parts.health.clone());
    running.spawn(async move {
        opened?.run(events, stop).await;
        Ok(())
    });
    running
}
