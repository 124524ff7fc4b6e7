//! Recently opened frames, so that chunks read one after another do not open their frame again. Bounded by
//! plain bytes; the oldest go first. Holds no chunk as checked: that is done at every use.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use formats::ids::PackId;

/// A frame's name: its pack and where it begins there.
pub(crate) type FrameName = (PackId, u64);

/// The cache.
#[derive(Debug)]
pub(crate) struct FrameCache {
    bytes_max: u64,
    bytes: u64,
    frames: HashMap<FrameName, Bytes>,
    order: VecDeque<FrameName>,
}

impl FrameCache {
    /// An empty cache of at most `bytes_max` plain bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            frames: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The frame's plaintext, if it is still here.
    pub(crate) fn get(&self, name: &FrameName) -> Option<Bytes> {
        self.frames.get(name).cloned()
    }

    /// Keeps a frame, and lets go of the oldest ones for it.
    pub(crate) fn insert(&mut self, name: FrameName, plain: Bytes) {
        let bytes = plain.len() as u64;
        if bytes > self.bytes_max || self.frames.contains_key(&name) {
            return;
        }
        self.bytes += bytes;
        self.frames.insert(name, plain);
        self.order.push_back(name);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(dropped) = self.frames.remove(&oldest) {
                self.bytes -= dropped.len() as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FrameCache;
    use bytes::Bytes;
    use formats::ids::PackId;

    #[test]
    fn the_oldest_frames_go_when_the_bound_is_reached() {
        let mut cache = FrameCache::new(100);
        for number in 0..10u8 {
            cache.insert((PackId([number; 32]), 0), Bytes::from(vec![number; 30]));
        }
        assert!(cache.bytes <= 100 && cache.frames.len() == 3);
        assert!(cache.get(&(PackId([0; 32]), 0)).is_none());
        assert!(cache.get(&(PackId([9; 32]), 0)).is_some());
        cache.insert((PackId([99; 32]), 0), Bytes::from(vec![0; 101]));
        assert!(cache.get(&(PackId([99; 32]), 0)).is_none(), "too large");
    }
}
