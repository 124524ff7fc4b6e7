//! Writes what is told into the audit log: as it happens, and all of it before its owner is gone. An audit log that cannot
//! be written to stops nobody; what was told meanwhile is written as soon as it can be.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use crate::audit::log::AuditLog;
use crate::events::{EVENTS_WAITING_MAX, EventSink, EventStream, Told};

/// Records the events of a sink until it is dropped, and what was told before that.
#[derive(Debug)]
pub struct Recorder {
    work: Arc<Mutex<Work>>,
    bell: JoinHandle<()>,
}

#[derive(Debug)]
struct Work {
    stream: EventStream,
    waiting: Vec<Told>,
    log: AuditLog,
}

impl Recorder {
    /// Begins to record what is told from now on.
    pub fn start(log: AuditLog, events: &EventSink) -> Self {
        let work = Arc::new(Mutex::new(Work {
            stream: events.listen(),
            waiting: Vec::new(),
            log,
        }));
        // A second listener that only says when there is something to write.
        let mut bell = events.listen();
        let ringing = Arc::clone(&work);
        let bell = tokio::spawn(async move {
            while bell.next().await.is_some() {
                let work = Arc::clone(&ringing);
                let written = tokio::task::spawn_blocking(move || write(&work));
                if let Err(error) = written.await {
                    tracing::error!(%error, "writing the audit log was ended");
                }
            }
        });
        Self { work, bell }
    }

    /// Writes what was told until now.
    pub fn flush(&self) {
        write(&self.work);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.bell.abort();
        self.flush();
    }
}

fn write(work: &Mutex<Work>) {
    let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
    // While nothing can be written the stream keeps the newest, and tells how many it lost.
    while work.waiting.len() < EVENTS_WAITING_MAX
        && let Some(told) = work.stream.next_waiting()
    {
        work.waiting.push(told);
    }
    let Work { waiting, log, .. } = &mut *work;
    match log.append(waiting) {
        Ok(_) => waiting.clear(),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            events = waiting.len(),
            "the audit log cannot be written to; what it lacks is written as soon as it can be"
        ),
    }
}
