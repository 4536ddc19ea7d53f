//! The draw: a seed fixes which places become mutants, whatever the machine.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::find::Site;

/// Places in the order in which the seed draws them, each once.
pub(crate) struct Draw {
    order: std::vec::IntoIter<usize>,
}

impl Draw {
    /// Shuffles the numbers of all places by the seed.
    pub(crate) fn new(seed: u64, count: usize) -> Self {
        let mut state = seed;
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, (next(&mut state) % (last as u64 + 1)) as usize);
        }
        Self { order: order.into_iter() }
    }

    /// The next place that lies in none of those taken, and has none of them in it.
    pub(crate) fn take<'a>(
        &mut self,
        sites: &'a [Site],
        taken: &BTreeMap<usize, &'a Site>,
    ) -> Option<&'a Site> {
        self.order
            .by_ref()
            .map(|index| &sites[index])
            .find(|site| !taken.values().any(|other| other.overlaps(site)))
    }
}

/// The first mutants, numbered from 1; number 0 is the unchanged code.
pub(crate) fn mutants<'a>(
    sites: &'a [Site],
    draw: &mut Draw,
    count: usize,
) -> BTreeMap<usize, &'a Site> {
    let mut mutants = BTreeMap::new();
    for number in 1..=count {
        let Some(site) = draw.take(sites, &mutants) else { break };
        mutants.insert(number, site);
    }
    mutants
}

/// The number of the day, from 1970 on.
pub(crate) fn day() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the epoch is past");
    since.as_secs() / 86_400
}

/// The next number of the generator SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_has_every_place_once_and_repeats() {
        let drawn: Vec<usize> = Draw::new(7, 100).order.collect();
        assert_eq!(drawn, Draw::new(7, 100).order.collect::<Vec<_>>());
        assert_ne!(drawn, Draw::new(8, 100).order.collect::<Vec<_>>());
        let mut sorted = drawn;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
