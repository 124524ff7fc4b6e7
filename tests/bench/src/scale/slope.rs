//! What cannot be measured here is told from slopes: a straight line through measured points, and how well they fit it.

use serde::Serialize;

/// A line through points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slope {
    /// Growth for each unit.
    pub per_unit: f64,
    /// What there is at nothing.
    pub fixed: f64,
    /// The largest distance of a point from the line, as a part of that point's value.
    pub misfit: f64,
}

impl Slope {
    /// The least-squares line, every point weighed by its relative error; none for fewer than two points.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let weighed = || {
            points
                .iter()
                .map(|(x, y)| (1.0 / (y * y).max(f64::MIN_POSITIVE), *x, *y))
        };
        let sum = |of: fn(f64, f64) -> f64| weighed().map(|(w, x, y)| w * of(x, y)).sum::<f64>();
        let (all, xs, ys) = (sum(|_, _| 1.0), sum(|x, _| x), sum(|_, y| y));
        let (xx, xy) = (sum(|x, _| x * x), sum(|x, y| x * y));
        let spread = all * xx - xs * xs;
        if points.len() < 2 || spread <= f64::EPSILON * all * xx {
            return None;
        }
        let per_unit = (all * xy - xs * ys) / spread;
        let fixed = (ys - per_unit * xs) / all;
        let misfit = points
            .iter()
            .map(|(x, y)| ((per_unit * x + fixed - y) / y).abs())
            .fold(0.0, f64::max);
        Some(Self {
            per_unit,
            fixed,
            misfit,
        })
    }

    /// The line's value at `x`.
    pub fn at(self, x: f64) -> f64 {
        self.per_unit * x + self.fixed
    }
}

#[cfg(test)]
mod tests {
    use super::Slope;

    #[test]
    fn points_on_a_line_give_that_line() {
        let slope = Slope::through(&[(1.0, 5.0), (2.0, 7.0), (10.0, 23.0)]);
        let at = slope.map(|slope| slope.at(100.0)).unwrap_or_default();
        assert!((at - 203.0).abs() < 1e-6, "{slope:?}");
        assert!(slope.is_some_and(|slope| slope.misfit < 1e-9));
    }

    #[test]
    fn one_point_is_no_line() {
        assert_eq!(Slope::through(&[(1.0, 5.0)]), None);
        assert_eq!(Slope::through(&[(1.0, 5.0), (1.0, 6.0)]), None);
    }
}
