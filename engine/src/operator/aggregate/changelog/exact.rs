//! Sums of floats without rounding.
//!
//! A float is an integer times a power of two, so a sum of floats is an integer times the least of these powers. It is
//! kept as the digits of that integer in base 2³², each with much room above it (a "small superaccumulator": R. Neal,
//! *Fast exact summation using small and large superaccumulators*, 2015). Adding and taking back are exact, so the sum
//! doesn't depend on the order of the rows, and what was taken back leaves no trace.

/// The exponent of the lowest bit of digit 0, negated: below that of any product of two floats.
const BIAS: i32 = 2176;

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct ExactSum {
    /// (place, digit), by place: the sum of digit · 2^(32 · place − BIAS).
    digits: Vec<(i16, i128)>,
    specials: Option<Box<Specials>>,
}

/// How often each value came that is no number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Specials {
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

/// A finite float's sign and integer, and the power of two that it is multiplied by.
fn parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, (bits & 0xf_ffff_ffff_ffff) as i64);
    let (integer, power) = if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    (if value.is_sign_negative() { -integer } else { integer }, power)
}

/// 2 to the power of `exponent`, which is at least that of the least float.
fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        1024.. => f64::INFINITY,
        -1022.. => f64::from_bits(((exponent + 1023) as u64) << 52),
        _ => f64::from_bits(1 << (exponent + 1074).max(0)),
    }
}

impl ExactSum {
    /// Adds `value` `weight` times; a negative weight takes it back.
    pub(super) fn add(&mut self, value: f64, weight: i64) {
        if value.is_finite() {
            let (integer, power) = parts(value);
            self.add_scaled(integer, power, weight);
            return;
        }
        let specials = self.specials.get_or_insert_default();
        let count = match value {
            f64::INFINITY => &mut specials.infinities,
            f64::NEG_INFINITY => &mut specials.negative_infinities,
            _ => &mut specials.nans,
        };
        *count += weight;
        if **specials == Specials::default() {
            self.specials = None;
        }
    }

    /// Adds the product of two floats, without rounding it.
    pub(super) fn add_product(&mut self, one: f64, other: f64, weight: i64) {
        if !one.is_finite() || !other.is_finite() {
            self.add(one * other, weight);
            return;
        }
        let ((one, one_power), (other, other_power)) = (parts(one), parts(other));
        let (product, power) = (i128::from(one) * i128::from(other), one_power + other_power);
        // Its 106 bits as two numbers of 53.
        self.add_scaled((product >> 53) as i64, power + 53, weight);
        self.add_scaled((product & ((1 << 53) - 1)) as i64, power, weight);
    }

    /// Adds `integer` (of at most 54 bits) times two to the `power`, `weight` times.
    fn add_scaled(&mut self, integer: i64, power: i32, weight: i64) {
        if integer == 0 || weight == 0 {
            return;
        }
        if weight.unsigned_abs() >= 1 << 40 {
            self.add_scaled(integer, power + 32, weight >> 32);
            self.add_scaled(integer, power, weight & 0xffff_ffff);
            return;
        }
        let place = (power + BIAS) >> 5;
        let shift = (power + BIAS) & 31;
        self.add_digit(place as i16, (i128::from(integer) << shift) * i128::from(weight));
    }

    fn add_digit(&mut self, place: i16, value: i128) {
        let at = match self.digits.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => at,
            Err(at) => {
                self.digits.insert(at, (place, value));
                return;
            }
        };
        let digit = &mut self.digits[at].1;
        match digit.checked_add(value) {
            Some(0) => {
                self.digits.remove(at);
            }
            Some(sum) => *digit = sum,
            None => {
                let carry = *digit >> 32;
                *digit = (*digit & 0xffff_ffff) + (value & 0xffff_ffff);
                self.add_digit(place + 1, carry);
                self.add_digit(place + 1, value >> 32);
            }
        }
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: &Self) {
        other.digits.iter().for_each(|(place, digit)| self.add_digit(*place, *digit));
        if let Some(specials) = &other.specials {
            self.add(f64::NAN, specials.nans);
            self.add(f64::INFINITY, specials.infinities);
            self.add(f64::NEG_INFINITY, specials.negative_infinities);
        }
    }

    /// Whether the sum is negative, and its absolute value as digits of 32 bits, the lowest first, of which the first
    /// stands at the place given.
    fn magnitude(&self) -> (bool, i32, Vec<u32>) {
        let Some((first, _)) = self.digits.first() else { return (false, 0, Vec::new()) };
        let mut digits = self.digits.iter().peekable();
        let (mut limbs, mut carry) = (Vec::new(), 0_i128);
        for place in *first.. {
            let digit = digits.next_if(|(at, _)| *at == place).map_or(0, |(_, digit)| *digit);
            let low = (digit & 0xffff_ffff) + carry;
            limbs.push(low as u32);
            carry = (digit >> 32) + (low >> 32);
            if digits.peek().is_none() && (carry == 0 || carry == -1) {
                break;
            }
        }
        let negative = carry < 0;
        if negative {
            // Two's complement.
            let mut one = true;
            for limb in &mut limbs {
                let (flipped, overflow) = (!*limb).overflowing_add(u32::from(one));
                (*limb, one) = (flipped, overflow);
            }
            if one {
                limbs.push(1);
            }
        }
        (negative, i32::from(*first), limbs)
    }

    /// The float nearest to the sum, ties to even.
    pub(super) fn value(&self) -> f64 {
        if let Some(specials) = &self.specials {
            return match (specials.nans > 0, specials.infinities > 0, specials.negative_infinities > 0) {
                (false, true, false) => f64::INFINITY,
                (false, false, true) => f64::NEG_INFINITY,
                _ => f64::NAN,
            };
        }
        let (negative, place, limbs) = self.magnitude();
        let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
        let bit = |at: i32| at >= 0 && limbs.get(at as usize / 32).is_some_and(|limb| limb >> (at % 32) & 1 == 1);
        let highest = top as i32 * 32 + 31 - limbs[top].leading_zeros() as i32;
        let lowest_power = 32 * place - BIAS;
        // The lowest bit that the float has room for.
        let cut = (highest - 52).max(-1074 - lowest_power);
        let mut kept = (cut..=highest).rev().fold(0_u64, |kept, at| kept << 1 | u64::from(bit(at)));
        let below = |at: i32| (0..at).any(bit);
        if bit(cut - 1) && (kept & 1 == 1 || below(cut - 1)) {
            kept += 1;
        }
        let value = kept as f64 * power_of_two(lowest_power + cut);
        if negative { -value } else { value }
    }

    /// The sum to twice a float's precision: the nearest float, and the float nearest to what is left.
    pub(super) fn pair(&self) -> (f64, f64) {
        let high = self.value();
        if !high.is_finite() {
            return (high, 0.0);
        }
        let mut rest = self.clone();
        rest.add(high, -1);
        (high, rest.value())
    }

    /// The sum as bytes that [`ExactSum::read`] understands: a byte that says whether three counts follow (of NaN, ∞ and
    /// −∞, eight bytes each), then digits: place (two bytes) and digit (sixteen). All little-endian.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.specials.is_some()));
        if let Some(Specials { nans, infinities, negative_infinities }) = self.specials.as_deref() {
            [nans, infinities, negative_infinities].into_iter().for_each(|count| out.extend(count.to_le_bytes()));
        }
        for (place, digit) in &self.digits {
            out.extend(place.to_le_bytes());
            out.extend(digit.to_le_bytes());
        }
    }

    /// The sum that was written; `None` if the bytes are none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (marked, mut bytes) = bytes.split_first()?;
        let mut sum = Self::default();
        if *marked == 1 {
            let mut specials = Specials::default();
            for count in [&mut specials.nans, &mut specials.infinities, &mut specials.negative_infinities] {
                let (number, rest) = bytes.split_first_chunk()?;
                (*count, bytes) = (i64::from_le_bytes(*number), rest);
            }
            sum.specials = Some(Box::new(specials));
        }
        while !bytes.is_empty() {
            let (place, rest) = bytes.split_first_chunk()?;
            let (digit, rest) = rest.split_first_chunk()?;
            sum.add_digit(i16::from_le_bytes(*place), i128::from_le_bytes(*digit));
            bytes = rest;
        }
        Some(sum)
    }

    /// Bytes of memory on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.digits.capacity() * size_of::<(i16, i128)>()
            + if self.specials.is_some() { size_of::<Specials>() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value, 1));
        sum
    }

    #[test]
    fn what_was_added_and_taken_back_leaves_no_trace() {
        let mut exact = sum(&[1e16, 1.0]);
        exact.add(1e16, -1);
        assert_eq!(exact.value(), 1.0);
        exact.add(1.0, -1);
        assert!(exact.digits.is_empty());
        exact.add(f64::NAN, 2);
        exact.add(f64::INFINITY, 1);
        assert!(exact.value().is_nan());
        exact.add(f64::NAN, -2);
        assert_eq!(exact.value(), f64::INFINITY);
        exact.add(f64::NEG_INFINITY, 1);
        assert!(exact.value().is_nan());
        exact.add(f64::INFINITY, -1);
        assert_eq!(exact.value(), f64::NEG_INFINITY);
        exact.add(f64::NEG_INFINITY, -1);
        assert_eq!(exact.value(), 0.0);
    }

    #[test]
    fn one_value_is_itself() {
        let extremes = [0.0, f64::MIN_POSITIVE, 5e-324, 2.5e-310, f64::MAX, -f64::MAX, 1.0 / 3.0, -1e-300, 1e308];
        for value in extremes {
            assert_eq!(sum(&[value]).value().to_bits(), (value + 0.0).to_bits(), "{value}");
        }
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..10_000 {
            let value = f64::from_bits(random.random());
            if value.is_finite() {
                assert_eq!(sum(&[value]).value(), value);
            }
        }
    }

    #[test]
    fn two_values_round_as_the_processor_does() {
        let mut random = StdRng::seed_from_u64(2);
        for _ in 0..20_000 {
            let one = f64::from_bits(random.random());
            let other = one * random.random_range(-4.0..4.0) * power_of_two(random.random_range(-60..60));
            if one.is_finite() && other.is_finite() {
                assert_eq!(sum(&[one, other]).value(), one + other, "{one:e} + {other:e}");
                let mut product = ExactSum::default();
                product.add_product(one, other, 1);
                assert_eq!(product.value(), one * other, "{one:e} · {other:e}");
            }
        }
    }

    #[test]
    fn the_order_does_not_matter() {
        let mut random = StdRng::seed_from_u64(3);
        let mut values: Vec<(f64, i64)> = (0..2000)
            .map(|_| {
                let power = power_of_two(random.random_range(-1000..1000));
                let weight = if random.random_bool(0.1) { random.random() } else { random.random_range(-3..3) };
                (random.random_range(-1.0..1.0) * power, weight)
            })
            .collect();
        let all = |values: &[(f64, i64)]| {
            let mut sum = ExactSum::default();
            values.iter().for_each(|(value, weight)| sum.add(*value, *weight));
            sum
        };
        let first = all(&values).pair();
        for _ in 0..10 {
            values.shuffle(&mut random);
            let (one, other) = values.split_at(700);
            let mut merged = all(one);
            let mut written = Vec::new();
            all(other).write(&mut written);
            merged.merge(&ExactSum::read(&written).unwrap());
            assert_eq!(merged.pair(), first);
        }
        let mut nothing = all(&values);
        values.iter().for_each(|(value, weight)| {
            nothing.add(*value, weight.wrapping_neg());
        });
        assert_eq!(nothing.value(), 0.0);
    }

    #[test]
    fn a_sum_beyond_all_floats_is_infinite_and_comes_back() {
        let mut exact = sum(&[f64::MAX, f64::MAX, -f64::MAX]);
        assert_eq!(exact.value(), f64::MAX);
        exact.add(f64::MAX, i64::MAX);
        assert_eq!(exact.value(), f64::INFINITY);
        exact.add(f64::MAX, -i64::MAX);
        assert_eq!(exact.value(), f64::MAX);
        let mut many = ExactSum::default();
        (0..200).for_each(|_| many.add(f64::MAX, i64::MAX));
        (0..200).for_each(|_| many.add(f64::MAX, -i64::MAX));
        assert_eq!(many.value(), 0.0);
    }

    #[test]
    fn bytes_that_are_no_sum_are_refused() {
        assert!(ExactSum::read(&[]).is_none());
        assert!(ExactSum::read(&[1, 2, 3]).is_none());
        assert!(ExactSum::read(&[0, 2, 3]).is_none());
    }
}
