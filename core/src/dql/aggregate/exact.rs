//! A sum of floats without rounding, so that the order of its terms, and with it the number of partitions, can
//! never change the result.

/// Two to the -1074th is the smallest float and the unit here; 2098 bits reach to the greatest. Two more digits
/// hold the carries of 2^64 terms.
const DIGITS: usize = 68;
const DIGIT_BITS: usize = 32;

/// Terms that may be added before a digit could overflow its 64 bits.
const TERMS_MAX: u32 = 1 << 30;

/// A sum in fixed point: digit `n` counts 2^(32 n - 1074). Digits may hold more than 32 bits, of either sign,
/// until they are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactSum {
    digits: Vec<i64>,
    /// Terms since the digits were last carried.
    terms: u32,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self { digits: vec![0; DIGITS], terms: 0 }
    }
}

impl ExactSum {
    /// Adds a finite float.
    pub(super) fn add(&mut self, term: f64) {
        let bits = term.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as usize;
        let fraction = bits & ((1 << 52) - 1);
        // Subnormal floats have the exponent of the smallest normal ones and no hidden bit.
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        self.add_shifted(u128::from(mantissa), exponent.max(1) - 1, term.is_sign_negative());
    }

    /// Adds an integer.
    pub(super) fn add_integer(&mut self, term: i128) {
        let magnitude = term.unsigned_abs();
        for half in 0..2 {
            let part = magnitude >> (64 * half) & u128::from(u64::MAX);
            self.add_shifted(part, 1074 + 64 * half, term < 0);
        }
    }

    /// How much memory it takes: all digits are there from the first term on.
    pub(super) fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.digits.len() * size_of::<i64>()
    }

    pub(super) fn merge(&mut self, mut other: Self) {
        self.carry();
        other.carry();
        for (digit, more) in self.digits.iter_mut().zip(&other.digits) {
            *digit += more;
        }
        self.carry();
    }

    /// Adds `magnitude`, of at most 64 bits, times 2^(shift - 1074).
    fn add_shifted(&mut self, magnitude: u128, shift: usize, negative: bool) {
        if self.terms == TERMS_MAX {
            self.carry();
        }
        self.terms += 1;
        let mut rest = magnitude << (shift % DIGIT_BITS);
        let first = shift / DIGIT_BITS;
        for digit in &mut self.digits[first..first + 3] {
            let part = (rest & 0xffff_ffff) as i64;
            *digit += if negative { -part } else { part };
            rest >>= DIGIT_BITS;
        }
    }

    /// Leaves 32 bits in every digit but the last, which has the sign of the whole.
    fn carry(&mut self) {
        self.terms = 0;
        let mut carry = 0;
        for digit in &mut self.digits[..DIGITS - 1] {
            let value = *digit + carry;
            *digit = value & 0xffff_ffff;
            carry = value >> DIGIT_BITS;
        }
        self.digits[DIGITS - 1] += carry;
    }

    /// The nearest float, ties to even; infinite if none is near.
    pub(super) fn round(&self) -> f64 {
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.digits[DIGITS - 1] < 0;
        if negative {
            sum.digits.iter_mut().for_each(|digit| *digit = -*digit);
            sum.carry();
        }
        let magnitude = sum.round_magnitude();
        if negative { -magnitude } else { magnitude }
    }

    /// The nearest float of carried digits that are not negative.
    fn round_magnitude(&self) -> f64 {
        let Some(top) = self.digits.iter().rposition(|&digit| digit != 0) else { return 0.0 };
        let length = top * DIGIT_BITS + (64 - self.digits[top].leading_zeros() as usize);
        let low = length.saturating_sub(53);
        let mut mantissa = (low..length).rev().fold(0_u64, |bits, at| bits << 1 | self.bit(at));
        let half = low > 0 && self.bit(low - 1) == 1;
        let more = low > 1 && (0..low - 1).any(|at| self.bit(at) == 1);
        if half && (more || mantissa & 1 == 1) {
            mantissa += 1;
        }
        // Both products are exact, even if rounding up has made the mantissa 2^53: a result below the normal
        // floats has all its bits (`low` is 0). Two factors, because no single one reaches from end to end.
        let scale = low as i32 - 1074;
        mantissa as f64 * power_of_two(scale / 2) * power_of_two(scale - scale / 2)
    }

    fn bit(&self, at: usize) -> u64 {
        (self.digits[at / DIGIT_BITS] >> (at % DIGIT_BITS) & 1) as u64
    }
}

/// Exact for the exponents of normal floats, and no other occurs.
fn power_of_two(exponent: i32) -> f64 {
    assert!((-1022..=1023).contains(&exponent), "the exponent is that of a normal float");
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(terms: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        terms.iter().for_each(|&term| sum.add(term));
        sum.round()
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[-f64::MAX, -f64::MAX]), f64::NEG_INFINITY);
        assert_eq!(sum(&[f64::from_bits(1); 3]), f64::from_bits(3));
        assert_eq!(sum(&[-f64::MIN_POSITIVE, f64::from_bits(1)]), -f64::from_bits((1 << 52) - 1));
    }

    #[test]
    fn integers_add_exactly() {
        let mut sum = ExactSum::default();
        sum.add_integer(i128::from(u64::MAX) * 1000);
        sum.add(0.5);
        sum.add_integer(-i128::from(u64::MAX) * 1000);
        assert_eq!(sum.round(), 0.5);
    }

    proptest! {
        #[test]
        fn one_addition_rounds_as_the_processor_does(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            prop_assert_eq!(sum(&[a, b]), a + b);
            prop_assert_eq!(sum(&[a]), a);
        }

        #[test]
        fn neither_order_nor_grouping_matters(
            mut terms in prop::collection::vec(-1e300..1e300, 1..20),
            cut in 0..20_usize,
        ) {
            let whole = sum(&terms);
            terms.reverse();
            prop_assert_eq!(sum(&terms), whole);
            let (first, second) = terms.split_at(cut.min(terms.len()));
            let mut merged = ExactSum::default();
            for half in [first, second] {
                let mut part = ExactSum::default();
                half.iter().for_each(|&term| part.add(term));
                merged.merge(part);
            }
            prop_assert_eq!(merged.round(), whole);
        }
    }
}
