//! The bound on bytes in flight, and the buffers they are in. Readers take room before they read, and it is
//! given back when the bytes are dropped or written to the tunnel. The group of files whose turn it is always
//! gets some: without that rule, later groups could take everything and wait for it forever.
//!
//! Large buffers are used again instead of given back to the allocator, which would keep most of what passes
//! from thread to thread resident without using it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use formats::limits::FRAME_PLAIN_MAX;
use formats::seal::frame::frame_sealing_bytes;

use crate::limits::{
    BYTES_HEAD_RESERVE, BYTES_IN_FLIGHT_MAX, CHUNK_OVERHEAD_BYTES, SPARE_BUFFERS_BYTES_MAX,
    SPARE_FRAMES_MAX,
};

/// The bound, and the buffers that wait to be used again.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    head: u64,
    /// Threads that wait for room; without any, nobody is woken: that is a system call.
    waiting: usize,
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
    spare_frames: Vec<Vec<u8>>,
}

/// Bytes in flight, with their room.
#[derive(Debug)]
pub struct Plain {
    /// The bytes.
    pub bytes: Vec<u8>,
    room: usize,
    budget: Budget,
}

/// Buffers of at least this many bytes are kept for use again.
const KEPT_BYTES_MIN: usize = 96 << 10;
/// New buffers of that kind are whole multiples of this, so that they fit others later.
const KEPT_BYTES_STEP: usize = 128 << 10;
/// A smaller frame is copied: a frame's buffer would hold more memory than the budget counts.
const FRAME_BYTES_MIN: usize = 768 << 10;

impl Budget {
    /// An unused budget; turn 0 is first.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room, as the group of files of a turn, and takes the bytes.
    pub fn take(&self, turn: u64, bytes: &[u8]) -> Plain {
        let room = bytes.len() + CHUNK_OVERHEAD_BYTES;
        let mut state = self.state();
        while !state.has_room(turn, room) {
            state.waiting += 1;
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.used += room;
        let mut buffer = state.buffer(bytes.len());
        drop(state);
        buffer.extend_from_slice(bytes);
        Plain {
            bytes: buffer,
            room,
            budget: self.clone(),
        }
    }

    /// An empty buffer with room for any frame.
    pub fn frame_buffer(&self) -> Vec<u8> {
        self.state().frame_buffer()
    }

    /// Takes a sealed frame in place of its chunks, whose room is enough for both: nothing is waited for. Leaves an
    /// empty frame buffer.
    pub fn replace(&self, chunks: impl IntoIterator<Item = Plain>, frame: &mut Vec<u8>) -> Plain {
        let mut room = 0;
        for mut plain in chunks {
            room += std::mem::take(&mut plain.room);
        }
        let mut state = self.state();
        let kept = room.min(frame.len());
        state.used = state.used.saturating_sub(room - kept);
        let bytes = if frame.len() < FRAME_BYTES_MIN {
            let mut buffer = state.buffer(frame.len());
            self.wake(state);
            buffer.append(frame);
            buffer
        } else {
            let fresh = state.frame_buffer();
            self.wake(state);
            std::mem::replace(frame, fresh)
        };
        Plain {
            bytes,
            room: kept,
            budget: self.clone(),
        }
    }

    /// Says whose turn it is.
    pub fn set_head(&self, turn: u64) {
        let mut state = self.state();
        state.head = turn;
        self.wake(state);
    }

    /// Lets those look again who wait for room.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let somebody_waits = state.waiting > 0;
        drop(state);
        if somebody_waits {
            self.0.changed.notify_all();
        }
    }
}

impl State {
    /// Whether there is so much room for the group of files of a turn.
    fn has_room(&self, turn: u64, room: usize) -> bool {
        let reserve = if self.head == turn {
            BYTES_HEAD_RESERVE
        } else {
            0
        };
        self.used + room <= BYTES_IN_FLIGHT_MAX + reserve
    }

    /// An empty buffer with enough capacity: the smallest spare one, or a new one.
    fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        if bytes < KEPT_BYTES_MIN {
            return Vec::with_capacity(bytes);
        }
        let best = self
            .spare
            .iter()
            .enumerate()
            .filter(|(_, spare)| spare.capacity() >= bytes)
            .min_by_key(|(_, spare)| spare.capacity())
            .map(|(index, _)| index);
        match best {
            Some(index) => {
                let buffer = self.spare.swap_remove(index);
                self.spare_bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(bytes.next_multiple_of(KEPT_BYTES_STEP)),
        }
    }

    fn frame_buffer(&mut self) -> Vec<u8> {
        let spare = self.spare_frames.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(frame_buffer_bytes()))
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() < KEPT_BYTES_MIN {
            return;
        }
        buffer.clear();
        if buffer.capacity() >= frame_buffer_bytes() {
            if self.spare_frames.len() < SPARE_FRAMES_MAX {
                self.spare_frames.push(buffer);
            }
            return;
        }
        self.spare_bytes += buffer.capacity();
        self.spare.push(buffer);
        // The spares used longest ago go first.
        while self.spare_bytes > SPARE_BUFFERS_BYTES_MAX && !self.spare.is_empty() {
            self.spare_bytes -= self.spare.remove(0).capacity();
        }
    }
}

/// Buffers for frames have room for any frame; smaller ones are for chunks.
fn frame_buffer_bytes() -> usize {
    frame_sealing_bytes(FRAME_PLAIN_MAX as usize)
}

impl Drop for Plain {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.bytes);
        if self.room == 0 && buffer.capacity() < KEPT_BYTES_MIN {
            // Its room went to others, and the buffer is of no use to anybody.
            return;
        }
        let mut state = self.budget.state();
        state.used = state.used.saturating_sub(self.room);
        state.keep(buffer);
        self.budget.wake(state);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use crate::limits::BYTES_IN_FLIGHT_MAX;

    #[test]
    fn the_head_goes_on_when_everything_is_taken() {
        let budget = Budget::new();
        let some = vec![0; BYTES_IN_FLIGHT_MAX - 1_000];
        let others = budget.take(7, &some);
        let head = budget.take(0, &some[..1 << 20]);
        let waiting = {
            let budget = budget.clone();
            std::thread::spawn(move || drop(budget.take(8, &[0; 2_000])))
        };
        drop(head);
        drop(others);
        waiting.join().expect("room is given back");
        assert_eq!(budget.state().used, 0);
    }

    #[test]
    fn buffers_are_used_again_and_rooms_pass_on() {
        let budget = Budget::new();
        let first = budget.take(0, &[1; 300_000]);
        let place = first.bytes.as_ptr();
        drop(first);
        let second = budget.take(0, &[2; 200_000]);
        assert_eq!(second.bytes.as_ptr(), place);
        assert_eq!(second.bytes, [2; 200_000]);
        let third = budget.take(0, &[3; 200_000]);
        let mut frame = budget.frame_buffer();
        frame.extend_from_slice(&[4; 150_000]);
        let sealed = budget.replace([second, third], &mut frame);
        assert_eq!(sealed.bytes, [4; 150_000]);
        assert!(frame.is_empty());
        assert_eq!(budget.state().used, 150_000);
        drop(sealed);
        assert_eq!(budget.state().used, 0);
    }

    #[test]
    fn a_large_frame_changes_hands_without_a_copy() {
        let budget = Budget::new();
        let chunk = budget.take(0, &vec![1; 2 << 20]);
        let mut frame = budget.frame_buffer();
        frame.extend_from_slice(&vec![2; 1 << 20]);
        let place = frame.as_ptr();
        let sealed = budget.replace([chunk], &mut frame);
        assert_eq!(sealed.bytes.as_ptr(), place);
        assert_eq!(budget.state().used, 1 << 20);
        assert!(frame.is_empty() && frame.capacity() >= super::frame_buffer_bytes());
        drop(sealed);
        assert_eq!(budget.state().used, 0);
        let again = budget.frame_buffer();
        assert_eq!(again.as_ptr(), place);
    }
}
