//! Brings objects to one destination that nobody waits for, or that is being filled: oldest first, a few at a time, each at the destination's own
//! pace. A destination that fails is left alone for a while, ever longer; what it misses stays in the queue. An object that
//! cannot be read where it is goes to the queue's end, and the others go on. Never spreads an object without a known digest
//! of which two copies differ.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::answer::chain;
use crate::clock::Clock;
use crate::destination::{
    ByteRange, Destination, DestinationError, DestinationName, ObjectKey, PutOutcome,
};
use crate::fan_out::queue::{Queue, QueueError, QueuedObject};
use crate::limits::{
    CONFLICT_RETRY_SECS, DELIVERY_BACK_OFF_MAX, DELIVERY_BACK_OFF_MIN, DELIVERY_ROOM_DEADLINE,
    LATE_DELIVERIES_MAX, SOURCE_RETRY_SECS,
};
use crate::spool::{Purpose, Spool, SpoolError, SpooledObject};

/// One destination's deliveries.
#[derive(Debug)]
pub(super) struct Courier {
    pub(super) destination: Arc<dyn Destination>,
    tools: CourierTools,
    wake: Notify,
    /// Objects that are still in the spool, to be delivered without reading them again.
    fresh: Mutex<HashMap<ObjectKey, SpooledObject>>,
    problem: Mutex<Option<String>>,
}

#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("could not read it where it is")]
    Source(#[source] DestinationError),
    #[error("no copy of it has the bytes that were stored")]
    Damaged,
    #[error("its copies at {0} and {1} differ; `coordinator scan --repair` mends the bad one")]
    CopiesDiffer(DestinationName, DestinationName),
    #[error("the spool has no room for it")]
    NoRoom,
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Destination(DestinationError),
    #[error("the destination has other bytes of that name, which stay")]
    Conflict,
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl DeliveryError {
    /// For how long the object is left alone, if it is at fault and others may still be delivered.
    fn postpones_secs(&self) -> Option<u64> {
        match self {
            Self::Conflict | Self::Damaged | Self::CopiesDiffer(..) => Some(CONFLICT_RETRY_SECS),
            Self::Source(error) if error.is_absent() => Some(CONFLICT_RETRY_SECS),
            // This object cannot be read there, or nothing can: the others will show.
            Self::Source(_) => Some(SOURCE_RETRY_SECS),
            _ => None,
        }
    }

    /// Whether it says nothing of the objects that come after.
    fn is_of_object(&self) -> bool {
        match self {
            Self::Conflict | Self::Damaged | Self::CopiesDiffer(..) => true,
            Self::Source(error) => error.is_absent(),
            _ => false,
        }
    }
}

/// What came of a few deliveries.
#[derive(Debug)]
struct Round {
    due: usize,
    delivered: usize,
    /// What keeps the others from being delivered.
    failed: Option<DeliveryError>,
}

/// What every courier of a server works with.
#[derive(Debug, Clone)]
pub(super) struct CourierTools {
    /// Where what is not in the spool any more is read.
    pub(super) sources: Vec<Arc<dyn Destination>>,
    pub(super) queue: Arc<Queue>,
    pub(super) spool: Arc<Spool>,
    pub(super) clock: Arc<dyn Clock>,
    /// Told after every delivery, and when none can be made.
    pub(super) delivered: Arc<Notify>,
}

impl Round {
    /// How many objects were due; or why none could be delivered, when that may hold for the others too. What cannot be
    /// read where it is says nothing of them once another could be.
    fn outcome(self) -> Result<usize, DeliveryError> {
        match self.failed {
            Some(DeliveryError::Source(_)) if self.delivered > 0 => Ok(self.due),
            Some(error) => Err(error),
            None => Ok(self.due),
        }
    }
}

impl Courier {
    pub(super) fn new(destination: Arc<dyn Destination>, tools: &CourierTools) -> Self {
        Self {
            destination,
            tools: tools.clone(),
            wake: Notify::new(),
            fresh: Mutex::new(HashMap::new()),
            problem: Mutex::new(None),
        }
    }

    /// Hands over an object before the queue has it. It is kept in the spool only while that holds up nobody, or while
    /// somebody waits for it, and holds it anyway.
    pub(super) fn hand_over(&self, key: &ObjectKey, source: &SpooledObject, is_awaited: bool) {
        let mut fresh = self.fresh();
        // One that stands still has no problem yet, and uploads need the room.
        let holds_up_nobody = fresh.len() < LATE_DELIVERIES_MAX
            && self.problem().is_none()
            && self.tools.spool.is_roomy();
        if is_awaited || holds_up_nobody {
            fresh.insert(key.clone(), source.clone());
        }
    }

    /// Takes back what was handed over.
    pub(super) fn take_back(&self, key: &ObjectKey) {
        self.fresh().remove(key);
    }

    /// Looks into the queue now.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Where it reads what it brings.
    pub(super) fn sources(&self) -> &[Arc<dyn Destination>] {
        &self.tools.sources
    }

    /// Why the destination does not take anything at present.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<ObjectKey, SpooledObject>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers until the server ends. What is under way then is finished, or done again at the next start.
    pub(super) async fn run(self: Arc<Self>, ending: CancellationToken) {
        let mut back_off = DELIVERY_BACK_OFF_MIN;
        loop {
            let round = tokio::select! {
                // A put that is dropped ends by itself; its delivery stays in the queue.
                () = ending.cancelled() => return,
                round = self.round() => round,
            };
            if round.as_ref().is_ok_and(|round| round.delivered > 0) {
                back_off = DELIVERY_BACK_OFF_MIN;
            }
            let pause = match round.and_then(Round::outcome) {
                Ok(0) => {
                    // Nothing is due: what was wrong is over, and what is still held was delivered by another process.
                    self.set_problem(None);
                    self.fresh().clear();
                    None
                }
                Ok(_) => continue,
                Err(error) => {
                    let text = chain(&error);
                    tracing::warn!(destination = %self.destination.name(), error = text, "deliveries have to wait");
                    self.set_problem(Some(text));
                    // Room in the spool is for uploads, not for a destination that is away.
                    self.fresh().clear();
                    self.tools.delivered.notify_waiters();
                    let pause = back_off;
                    back_off = (back_off * 2).min(DELIVERY_BACK_OFF_MAX);
                    Some(pause)
                }
            };
            let until = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    // Postponed deliveries come due without anybody saying so.
                    None => {
                        let look_again = Duration::from_secs(SOURCE_RETRY_SECS);
                        // Either way the queue is looked at.
                        tokio::select! {
                            () = self.wake.notified() => {}
                            () = tokio::time::sleep(look_again) => {}
                        }
                    }
                }
            };
            tokio::select! {
                // Only waits.
                () = ending.cancelled() => return,
                () = until => {}
            }
        }
    }

    /// Delivers what is due, a few objects at a time.
    async fn round(&self) -> Result<Round, DeliveryError> {
        let name = self.destination.name();
        let now = self.tools.clock.now_unix_secs();
        let due = self.tools.queue.due(name, now, LATE_DELIVERIES_MAX)?;
        let mut round = Round {
            due: due.len(),
            delivered: 0,
            failed: None,
        };
        let deliveries = due.into_iter().map(|object| async move {
            let delivered = self.deliver(&object).await;
            (object.key, delivered)
        });
        let mut deliveries = stream::iter(deliveries).buffer_unordered(LATE_DELIVERIES_MAX);
        while let Some((key, delivered)) = deliveries.next().await {
            let error = match delivered {
                Ok(()) => {
                    self.tools.queue.done(name, &key)?;
                    self.set_problem(None);
                    self.tools.delivered.notify_waiters();
                    round.delivered += 1;
                    continue;
                }
                Err(error) => error,
            };
            if let Some(secs) = error.postpones_secs() {
                let text = chain(&error);
                tracing::error!(destination = %name, object = %key, error = text, "an object could not be delivered");
                self.tools.queue.postpone(name, &key, now + secs, &text)?;
            }
            if !error.is_of_object() {
                round.failed = Some(error);
            }
        }
        Ok(round)
    }

    async fn deliver(&self, object: &QueuedObject) -> Result<(), DeliveryError> {
        let key = &object.key;
        let fresh = self.fresh().remove(key);
        let source = match fresh {
            Some(source) => source,
            None => self.read_again(object).await?,
        };
        let put = self.destination.put_if_absent(key.clone(), source);
        match put.await.map_err(DeliveryError::Destination)? {
            PutOutcome::Created | PutOutcome::ExistsSame => Ok(()),
            PutOutcome::ExistsDifferent => Err(DeliveryError::Conflict),
        }
    }

    /// The object from the first place that has it as it was stored.
    async fn read_again(&self, object: &QueuedObject) -> Result<SpooledObject, DeliveryError> {
        if object.key.name.digest().or(object.digest).is_none() {
            return self.read_agreed(object).await;
        }
        let mut failed = None;
        for source in &self.tools.sources {
            match self.read_from(source, object).await {
                Err(error @ (DeliveryError::Source(_) | DeliveryError::Damaged)) => {
                    tracing::warn!(
                        source = %source.name(), object = %object.key,
                        error = &error as &dyn std::error::Error, "no good copy for a delivery"
                    );
                    // Absent here says less than a failure there.
                    let says_less = failed.as_ref().is_some_and(|first: &DeliveryError| {
                        !first.is_of_object() || matches!(first, DeliveryError::Damaged)
                    });
                    if !says_less {
                        failed = Some(error);
                    }
                }
                done => return done,
            }
        }
        Err(failed.unwrap_or(DeliveryError::Damaged))
    }

    /// An object of which nobody here knows the digest, a log record for one, if all copies that can be read are alike.
    async fn read_agreed(&self, object: &QueuedObject) -> Result<SpooledObject, DeliveryError> {
        let mut agreed: Option<(&DestinationName, Option<SpooledObject>)> = None;
        let mut failed = None;
        for source in &self.tools.sources {
            let copy = match self.read_from(source, object).await {
                Ok(copy) => Some(copy),
                // Of another size than was listed.
                Err(DeliveryError::Damaged) => None,
                Err(DeliveryError::Source(error)) => {
                    // A failure says more than an absence.
                    failed = failed
                        .filter(|first: &DestinationError| !first.is_absent())
                        .or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let digest = |copy: &Option<SpooledObject>| copy.as_ref().map(SpooledObject::digest);
            match &agreed {
                Some((first, other)) if digest(other) != digest(&copy) => {
                    let (first, second) = ((*first).clone(), source.name().clone());
                    return Err(DeliveryError::CopiesDiffer(first, second));
                }
                Some(_) => {}
                None => agreed = Some((source.name(), copy)),
            }
        }
        match (agreed, failed) {
            (Some((_, Some(copy))), _) => Ok(copy),
            (None, Some(error)) => Err(DeliveryError::Source(error)),
            _ => Err(DeliveryError::Damaged),
        }
    }

    async fn read_from(
        &self,
        source: &Arc<dyn Destination>,
        object: &QueuedObject,
    ) -> Result<SpooledObject, DeliveryError> {
        let read = source.get_range(object.key.clone(), ByteRange::ALL).await;
        let mut read = read.map_err(DeliveryError::Source)?;
        if read.total != object.bytes {
            return Err(DeliveryError::Damaged);
        }
        // Uploads come first; they may even wait for this very destination.
        let begun = self.tools.spool.begin(object.bytes, Purpose::Data);
        let mut writer = tokio::time::timeout(DELIVERY_ROOM_DEADLINE, begun)
            .await
            .map_err(|_| DeliveryError::NoRoom)??;
        while let Some(piece) = read.body.next().await {
            writer.write(piece.map_err(DeliveryError::Source)?).await?;
        }
        let gathered = writer.finish().await?;
        match object.key.name.digest().or(object.digest) {
            Some(digest) if digest != gathered.digest() => Err(DeliveryError::Damaged),
            _ => Ok(gathered),
        }
    }
}
