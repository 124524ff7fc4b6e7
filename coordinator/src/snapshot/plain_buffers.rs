//! Buffers for opened frames, used again: fresh ones of this size come from the kernel, page fault by page fault.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Idle buffers that are kept.
const IDLE_MAX: usize = 4;

/// The buffers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlainBuffers {
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl PlainBuffers {
    /// A buffer, with what it held last.
    pub(crate) fn take(&self) -> Vec<u8> {
        lock(&self.idle).pop().unwrap_or_default()
    }

    /// Shares a buffer's bytes; when the last share goes, the buffer is idle again.
    pub(crate) fn share(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Shared {
            bytes,
            buffers: self.clone(),
        })
    }
}

struct Shared {
    bytes: Vec<u8>,
    buffers: PlainBuffers,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut idle = lock(&self.buffers.idle);
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

fn lock(idle: &Mutex<Vec<Vec<u8>>>) -> MutexGuard<'_, Vec<Vec<u8>>> {
    // A list of buffers is whole at every step.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{IDLE_MAX, PlainBuffers};

    #[test]
    fn a_buffer_comes_back_with_its_last_share_and_few_are_kept() {
        let buffers = PlainBuffers::default();
        let shared = buffers.share(vec![7; 100]);
        let part = shared.slice(10..20);
        drop(shared);
        assert!(buffers.take().is_empty(), "a share is left");
        drop(part);
        assert_eq!(buffers.take(), [7; 100]);
        let many: Vec<_> = (0..10).map(|_| buffers.share(vec![1])).collect();
        drop(many);
        let kept =
            std::iter::repeat_with(|| buffers.take()).take_while(|buffer| !buffer.is_empty());
        assert_eq!(kept.count(), IDLE_MAX);
    }
}
