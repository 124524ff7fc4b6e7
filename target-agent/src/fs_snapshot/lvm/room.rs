//! How much room snapshots are given in their volume groups: half of what is free, a little for each and the rest in proportion
//! to what they are of, and no more than all of it that can change. Pure arithmetic, in extents.

/// Less than this holds a snapshot for no time worth speaking of.
const BYTES_MIN: u64 = 16 << 20;
/// For each so many bytes of a volume, a snapshot that holds them all has one for its own table.
const TABLE_SHARE: u64 = 128;

/// A volume to take a snapshot of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its volume group.
    pub group: String,
    /// Its size.
    pub bytes: u64,
    /// The group's unit of room, in bytes.
    pub extent_bytes: u64,
    /// What is free in the group, in extents.
    pub free_extents: u64,
}

/// What there is for it, in extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Enough.
    Extents(u64),
    /// Too little.
    TooSmall {
        /// What it would get.
        extents: u64,
        /// What it would need.
        least: u64,
    },
}

/// The share of each.
pub fn shares(wishes: &[Wish]) -> Vec<Share> {
    wishes.iter().map(|wish| share(wish, wishes)).collect()
}

fn share(wish: &Wish, all: &[Wish]) -> Share {
    let beside = || all.iter().filter(|other| other.group == wish.group);
    let leasts: u64 = beside().map(Wish::least).sum();
    let bytes: u64 = beside().map(|other| other.bytes).sum();
    let least = wish.least();
    // The other half stays for whoever else grows meanwhile.
    let half = wish.free_extents.div_ceil(2);
    match half.checked_sub(leasts) {
        Some(rest) => {
            let extents = least.saturating_add(part(rest, wish.bytes, bytes));
            Share::Extents(extents.min(wish.whole()))
        }
        None => Share::TooSmall {
            extents: part(half, least, leasts),
            least,
        },
    }
}

/// `of` times `share`, divided by `whole`.
fn part(of: u64, share: u64, whole: u64) -> u64 {
    let part = u128::from(of) * u128::from(share) / u128::from(whole.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

impl Wish {
    /// What holds a volume that was written anew from beginning to end.
    fn whole(&self) -> u64 {
        let bytes = self.bytes.saturating_add(self.bytes / TABLE_SHARE);
        bytes.div_ceil(self.extent_bytes.max(1)).saturating_add(1)
    }

    fn least(&self) -> u64 {
        BYTES_MIN
            .div_ceil(self.extent_bytes.max(1))
            .min(self.whole())
    }
}

#[cfg(test)]
mod tests {
    use super::{Share, Wish, shares};

    /// In extents of 4 MiB.
    fn wish(group: &str, extents: u64, free_extents: u64) -> Wish {
        Wish {
            group: group.to_owned(),
            bytes: extents << 22,
            extent_bytes: 4 << 20,
            free_extents,
        }
    }

    #[test]
    fn half_of_the_room_is_shared() {
        let wishes = [
            wish("a", 3_000, 1_000),
            wish("a", 1_000, 1_000),
            wish("b", 1_000, 41),
        ];
        let expected = [373, 127, 21].map(Share::Extents);
        assert_eq!(shares(&wishes), expected);
    }

    #[test]
    fn nothing_is_given_more_than_all_that_can_change() {
        assert_eq!(
            shares(&[wish("a", 1_000, 1 << 40)]),
            [Share::Extents(1_009)]
        );
        assert_eq!(shares(&[wish("a", 1, 9)]), [Share::Extents(3)]);
    }

    #[test]
    fn too_little_is_told() {
        let too_small = |extents| Share::TooSmall { extents, least: 4 };
        assert_eq!(shares(&[wish("a", 100, 0)]), [too_small(0)]);
        assert_eq!(shares(&[wish("a", 100, 6)]), [too_small(3)]);
        assert_eq!(shares(&[wish("a", 100, 7)]), [Share::Extents(4)]);
        let both = |free| shares(&[wish("a", 90, free), wish("a", 10, free)]);
        assert_eq!(both(14), [too_small(3); 2]);
        assert_eq!(both(20), [5, 4].map(Share::Extents));
    }
}
