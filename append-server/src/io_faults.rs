//! Counts the steps that touch a disk and fails the one it is told to, so that every step's failure can be
//! tried on the production code. Never fails anything unless a plan was given.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A step between a body's first byte and its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoStep {
    /// Creating the spool file.
    CreateSpoolFile,
    /// Writing to it.
    WriteSpoolFile,
    /// Making it durable.
    SyncSpoolFile,
    /// Making a destination's folder.
    MakeFolder,
    /// Making a destination's folder durable in its parent.
    SyncParent,
    /// Creating a temporary file on another file system.
    CreateTemporary,
    /// Copying into it.
    WriteTemporary,
    /// Making it durable.
    SyncTemporary,
    /// Making the object visible.
    Publish,
    /// Making its name durable.
    SyncFolder,
}

impl IoStep {
    /// Every step.
    pub const ALL: [Self; 10] = [
        Self::CreateSpoolFile,
        Self::WriteSpoolFile,
        Self::SyncSpoolFile,
        Self::MakeFolder,
        Self::SyncParent,
        Self::CreateTemporary,
        Self::WriteTemporary,
        Self::SyncTemporary,
        Self::Publish,
        Self::SyncFolder,
    ];
}

/// Which step fails, if any.
#[derive(Debug, Clone, Default)]
pub struct IoFaults {
    plan: Option<Arc<Plan>>,
}

#[derive(Debug)]
struct Plan {
    step: IoStep,
    nth: u64,
    errno: i32,
    taken: AtomicU64,
}

impl IoFaults {
    /// Nothing fails.
    pub fn none() -> Self {
        Self::default()
    }

    /// The `nth` time from now that this step is taken, counted from zero, it fails with this error; before
    /// and after that it succeeds.
    pub fn fail(step: IoStep, nth: u64, errno: rustix::io::Errno) -> Self {
        let plan = Plan {
            step,
            nth,
            errno: errno.raw_os_error(),
            taken: AtomicU64::new(0),
        };
        Self {
            plan: Some(Arc::new(plan)),
        }
    }

    /// Whether the planned fault has happened.
    pub fn has_failed(&self) -> bool {
        self.plan
            .as_ref()
            .is_some_and(|plan| plan.taken.load(Ordering::SeqCst) > plan.nth)
    }

    /// Says that a step is about to be taken; an error stands for the step's own.
    pub fn check(&self, step: IoStep) -> io::Result<()> {
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.step == step) else {
            return Ok(());
        };
        if plan.taken.fetch_add(1, Ordering::SeqCst) == plan.nth {
            tracing::debug!(?step, errno = plan.errno, "planned fault");
            return Err(io::Error::from_raw_os_error(plan.errno));
        }
        Ok(())
    }
}
