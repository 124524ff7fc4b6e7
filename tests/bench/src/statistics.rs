//! Medians, and how far the measurements lie apart.

/// The smallest, middle and largest of some measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// The spread of some measurements; `None` when there is none.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    Some(Spread { min, median, max })
}

/// How one median stands to another; `None` when there is nothing to divide by.
pub fn ratio(ours: Option<Spread>, theirs: Option<Spread>) -> Option<f64> {
    let (ours, theirs) = (ours?.median, theirs?.median);
    (theirs > 0.0).then(|| ours / theirs)
}

#[cfg(test)]
mod tests {
    use super::{Spread, ratio, spread};

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_middle_two() {
        let odd = spread([3.0, 1.0, 2.0]);
        assert_eq!(
            odd,
            Some(Spread {
                min: 1.0,
                median: 2.0,
                max: 3.0
            })
        );
        assert_eq!(
            spread([4.0, 1.0, 2.0, 3.0]).map(|four| four.median),
            Some(2.5)
        );
        assert_eq!(spread([]), None);
    }

    #[test]
    fn ratio_needs_something_to_divide_by() {
        assert_eq!(ratio(spread([1.0]), spread([4.0])), Some(0.25));
        assert_eq!(ratio(spread([1.0]), spread([0.0])), None);
        assert_eq!(ratio(spread([1.0]), None), None);
    }
}
