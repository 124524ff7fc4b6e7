//! Looks at the state for whoever asks, on threads that may wait for it. Whoever asks waits only so long; a look that hangs goes on
//! after that, and takes up one of the few places until it ends. So nobody uses up threads by asking again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::database::DatabaseError;

/// Where looks are made.
#[derive(Debug)]
pub struct Looks {
    room: Arc<Semaphore>,
    deadline: Duration,
}

/// How a look ended.
#[derive(Debug)]
pub enum Looked<T> {
    /// With this.
    Done(Result<T, DatabaseError>),
    /// It was ended.
    Ended(JoinError),
    /// Not in time; it goes on.
    Late,
    /// It could not begin in time.
    NoRoom,
}

impl Looks {
    /// So many at once, and each within a deadline.
    pub fn new(most: usize, deadline: Duration) -> Self {
        Self {
            room: Arc::new(Semaphore::new(most)),
            deadline,
        }
    }

    /// Makes a look as soon as there is room.
    pub async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, DatabaseError> + Send + 'static,
    ) -> Looked<T> {
        let until = Instant::now() + self.deadline;
        let room = timeout_at(until, Arc::clone(&self.room).acquire_owned()).await;
        // Nobody closes it.
        let Ok(Ok(place)) = room else {
            return Looked::NoRoom;
        };
        let looking = spawn_blocking(move || {
            let _place = place;
            work()
        });
        match timeout_at(until, looking).await {
            Ok(Ok(done)) => Looked::Done(done),
            Ok(Err(error)) => Looked::Ended(error),
            Err(_) => Looked::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    use super::{Looked, Looks};

    #[tokio::test]
    async fn looks_that_hang_take_up_no_more_threads_than_there_is_room_and_one_that_ends_makes_room()
     {
        let looks = Looks::new(2, Duration::from_millis(50));
        let hang = |until: Receiver<()>| {
            looks.look(move || {
                until.recv().unwrap();
                Ok(())
            })
        };
        let (end_one, one) = sync_channel(1);
        let (end_other, other) = sync_channel(1);
        assert!(matches!(hang(one).await, Looked::Late));
        assert!(matches!(hang(other).await, Looked::Late));
        let (begun, begins) = sync_channel(1);
        let more = looks.look(move || {
            begun.send(()).unwrap();
            Ok(())
        });
        assert!(matches!(more.await, Looked::NoRoom));
        // It was not begun, and never will be.
        assert!(begins.recv().is_err());

        end_one.send(()).unwrap();
        let patient = Looks {
            deadline: Duration::from_secs(60),
            ..looks
        };
        let more = patient.look(|| Ok(7)).await;
        assert!(matches!(more, Looked::Done(Ok(7))), "{more:?}");
        end_other.send(()).unwrap();
    }
}
