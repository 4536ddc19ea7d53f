//! Distributions and medians.

use std::time::Duration;

/// How long each of many operations took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    nanos: Vec<u32>,
}

impl Latencies {
    /// Adds one. Four seconds and more count as four seconds.
    pub(crate) fn push(&mut self, time: Duration) {
        self.nanos.push(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.nanos.len()
    }

    /// The quantile in microseconds: 0.5 is the median. Zero when there are none.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        let mut sorted = self.nanos.clone();
        sorted.sort_unstable();
        let index = (sorted.len() as f64 * quantile) as usize;
        let nanos = sorted.get(index.min(sorted.len().saturating_sub(1)));
        nanos.map_or(0.0, |&nanos| f64::from(nanos) / 1e3)
    }
}

/// The middle value, or the mean of the two in the middle. Zero of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values_and_medians_may_lie_between() {
        let mut latencies = Latencies::default();
        for micros in (1..=100).rev() {
            latencies.push(Duration::from_micros(micros));
        }
        assert_eq!((latencies.quantile_us(0.5), latencies.quantile_us(0.99)), (51.0, 100.0));
        assert_eq!((median([3.0, 1.0]), median([3.0, 1.0, 9.0]), median([])), (2.0, 3.0, 0.0));
        assert_eq!(Latencies::default().quantile_us(0.99), 0.0);
    }
}
