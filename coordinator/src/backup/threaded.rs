//! Work on threads of their own: a run or a prune holds open databases, which may not be shared between threads, over its waits.
//! The thread waits most of the time; what it waits for goes on in the runtime.

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

/// Begins work on a thread of its own. Made there, it need not be fit to change threads. Aborting its handle does nothing once it
/// has begun.
pub fn spawn<T, F>(tasks: &mut JoinSet<T>, work: impl FnOnce() -> F + Send + 'static) -> AbortHandle
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    tasks.spawn_blocking(move || Handle::current().block_on(work()))
}
