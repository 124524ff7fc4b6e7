//! What the daemon tells others: answers on its listener, and notifications.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::coordinator::Coordinator;
use crate::daemon::services::Parts;
use crate::listener::answer::Answers;
use crate::listener::serve::Bound;
use crate::notify::notifier::Notifier;

/// Answers whoever asks at the listener's address, if there is one. An address that cannot be had keeps nobody from backing
/// up; another address in the configuration is taken when the daemon is started anew.
pub async fn answer_others(
    coordinator: watch::Receiver<Arc<Coordinator>>,
    stop: CancellationToken,
) {
    let current = Arc::clone(&coordinator.borrow());
    let Some(address) = &current.config.listener else {
        return;
    };
    match Bound::to(address).await {
        Ok(bound) => {
            tracing::info!(%address, "answering health checks");
            bound.serve(Arc::new(Answers::of(coordinator)), stop).await;
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "nobody can ask how backups are");
        }
    }
}

/// Tells people what they must know, from what happens now on.
pub fn tell_people(services: &mut JoinSet<()>, parts: &Parts) {
    match Notifier::open(parts.coordinator.clone()) {
        Ok(notifier) => {
            let events = parts.events.listen();
            services.spawn(notifier.run(events, parts.stop.clone()));
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "nobody is told of anything");
        }
    }
}
