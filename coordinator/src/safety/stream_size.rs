//! Whether a stream has become far smaller than it used to be, and what it is measured against the next time. Not against the
//! one before: then a dump that collapsed would be usual the next night, and one that shrinks a little each night never told.

/// What a stream is measured against sinks by one part in so many with each good one that is smaller: one that shrinks faster, if
/// only a little each night, has collapsed in the end.
const SINKS_BY: u64 = 20;

/// How much a stream has, of which there is a good output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSize {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// What the next one is measured against.
    pub usual: u64,
    /// What it was measured against, where it has collapsed.
    pub fell_from: Option<u64>,
}

impl StreamSize {
    /// Measures one against what is usual, if that is known. One that has less than so many percent of it has collapsed, and
    /// changes nothing in what is usual, however often it comes; with no percent at all any size is good, and the new measure.
    pub fn measure(name: String, size: u64, usual: Option<u64>, percent_min: u8) -> Self {
        let usual = usual.unwrap_or(size);
        let has_collapsed = u128::from(size) * 100 < u128::from(usual) * u128::from(percent_min);
        let sunk = usual - usual / SINKS_BY;
        Self {
            name,
            size,
            usual: match (has_collapsed, percent_min) {
                (true, _) => usual,
                (false, 0) => size,
                (false, _) => size.max(sunk),
            },
            fell_from: has_collapsed.then_some(usual),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StreamSize;

    /// What is usual after one, and whether it has collapsed.
    fn next(usual: u64, size: u64, percent_min: u8) -> (u64, bool) {
        let measured = StreamSize::measure("dump".to_owned(), size, Some(usual), percent_min);
        (measured.usual, measured.fell_from.is_some())
    }

    #[test]
    fn a_dump_that_has_collapsed_is_no_measure_until_somebody_says_that_it_is_right() {
        assert_eq!(next(1_000, 900, 50), (950, false));
        assert_eq!(next(1_000, 500, 50), (950, false));
        assert_eq!(next(1_000, 2_000, 50), (2_000, false));
        assert_eq!(next(1_000, 499, 50), (1_000, true));
        assert_eq!(next(1_000, 499, 0), (499, false));
        assert_eq!(next(0, 0, 50), (0, false));
        let first = StreamSize::measure("dump".to_owned(), 7, None, 100);
        assert_eq!((first.usual, first.fell_from), (7, None));
    }

    #[test]
    fn a_tenth_less_each_night_is_noticed_and_a_hundredth_is_how_things_are() {
        let collapses_after = |left: u64| {
            let (mut usual, mut size) = (1_000_000, 1_000_000);
            (0..300).find(|_| {
                let (measure, has_collapsed) = next(usual, size, 50);
                (usual, size) = (measure, size * left / 100);
                has_collapsed
            })
        };
        assert!(collapses_after(90).is_some_and(|nights| nights < 20));
        assert_eq!(collapses_after(99), None);
    }
}
