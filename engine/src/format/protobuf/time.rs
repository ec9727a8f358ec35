//! `google.protobuf.Timestamp` and `Duration`, read into one number: microseconds.

use super::error::Reason;
use super::wire;

/// What years 1 to 9999 span.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// What the definition of Duration allows, about 10,000 years.
const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;
const NANOS_OF_SECOND: i32 = 1_000_000_000;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeKind {
    Timestamp,
    Duration,
}

/// A Timestamp or Duration as it is sent. Of a field that comes more than once the pieces are merged; only what they are together
/// has to be in range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) seconds: i64,
    pub(super) nanos: i32,
}

impl Parts {
    /// What [`micros`](Self::micros) was made of, but for nanoseconds below a microsecond.
    pub(super) fn of(kind: TimeKind, micros: i64) -> Self {
        match kind {
            TimeKind::Timestamp => Self::of_timestamp(micros),
            TimeKind::Duration => Self::of_duration(micros),
        }
    }

    #[inline(always)]
    fn of_timestamp(micros: i64) -> Self {
        Self { seconds: micros.div_euclid(1_000_000), nanos: micros.rem_euclid(1_000_000) as i32 * 1000 }
    }

    #[inline(always)]
    fn of_duration(micros: i64) -> Self {
        Self { seconds: micros / 1_000_000, nanos: (micros % 1_000_000) as i32 * 1000 }
    }

    /// Takes what these fields give in place of what was there.
    #[inline(always)]
    pub(super) fn merge(&mut self, mut fields: &[u8]) -> Result<(), Reason> {
        const SECONDS: u8 = wire::tag(1, wire::VARINT) as u8;
        const NANOS: u8 = wire::tag(2, wire::VARINT) as u8;
        while let Some((&first, tail)) = fields.split_first() {
            if first == SECONDS {
                fields = tail;
                self.seconds = wire::varint(&mut fields).ok_or_else(|| wire::varint_fault(fields))? as i64;
            } else if first == NANOS {
                fields = tail;
                self.nanos = wire::varint(&mut fields).ok_or_else(|| wire::varint_fault(fields))? as i32;
            } else {
                skip_other(&mut fields)?;
            }
        }
        Ok(())
    }

    /// The microseconds, if they are in range.
    pub(super) fn micros(self, kind: TimeKind) -> Result<i64, Reason> {
        match kind {
            TimeKind::Timestamp => self.timestamp().ok_or(Reason::Timestamp),
            TimeKind::Duration => self.duration().ok_or(Reason::Duration),
        }
    }

    #[inline(always)]
    fn timestamp(self) -> Option<i64> {
        let in_range = TIMESTAMP_SECONDS.contains(&self.seconds) && (0..NANOS_OF_SECOND).contains(&self.nanos);
        in_range.then(|| self.whole_micros())
    }

    #[inline(always)]
    fn duration(self) -> Option<i64> {
        let Self { seconds, nanos } = self;
        let same_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
        let in_range =
            DURATION_SECONDS.contains(&seconds) && (1 - NANOS_OF_SECOND..NANOS_OF_SECOND).contains(&nanos) && same_sign;
        in_range.then(|| self.whole_micros())
    }

    #[inline(always)]
    fn whole_micros(self) -> i64 {
        self.seconds * 1_000_000 + i64::from(self.nanos / 1000)
    }
}

#[cold]
fn skip_other(fields: &mut &[u8]) -> Result<(), Reason> {
    let tag = wire::read_tag(fields)?;
    wire::skip(tag, fields, 0)
}

/// The microseconds of a Timestamp of `length` bytes, with which `within` begins, as is usual: it is between 1978 and 3058 and
/// has nanoseconds, so that its seconds are five bytes. `None` says nothing.
#[inline(always)]
pub(super) fn usual_timestamp(length: usize, within: &[u8]) -> Option<i64> {
    // A tag, four bytes that go on and one that ends, another tag.
    const LOOK: u64 = 0x00ff_8080_8080_80ff;
    const USUAL: u64 = 0x0010_0080_8080_8008;
    let first = u64::from_le_bytes(*within.first_chunk::<8>()?);
    let second = u64::from_le_bytes(*within.get(7..15)?.first_chunk::<8>()?);
    if first & LOOK != USUAL {
        return None;
    }
    // 35 bits of seconds are in range.
    let seconds = wire::squeeze(first >> 8 & 0x00ff_ffff_ffff) as i64;
    let (nanos, width) = wire::varint_of(second)?;
    let usual = length == 7 + width && nanos < NANOS_OF_SECOND as u64;
    usual.then_some(seconds * 1_000_000 + i64::from(nanos as u32 / 1000))
}

/// A column has a note in a time's place if the time can't be told from its pieces so far, or has what microseconds don't show: the
/// note's number from [`i64::MIN`] on. No time is near it.
pub(super) fn note_mark(number: usize) -> i64 {
    i64::MIN + number as i64
}

/// The number of the note in a time's place.
#[inline(always)]
pub(super) fn noted(micros: i64) -> Option<usize> {
    (micros < i64::MIN / 2).then(|| micros.wrapping_sub(i64::MIN) as usize)
}

/// Reads a Timestamp's `fields`, with which `within` begins: bytes behind them are not used, and make reading faster. In `micros`,
/// microseconds since 1970, is what came before of the same field, and then the time. `None` leaves it: there is more to it.
#[inline(always)]
pub(super) fn timestamp(fields: &[u8], within: &[u8], micros: &mut i64) -> Option<()> {
    if let Some(usual) = usual_timestamp(fields.len(), within) {
        *micros = usual;
        return Some(());
    }
    if noted(*micros).is_some() {
        return None;
    }
    let mut parts = Parts::of_timestamp(*micros);
    parts.merge(fields).ok()?;
    *micros = parts.timestamp()?;
    Some(())
}

/// The same of a Duration.
#[inline(always)]
pub(super) fn duration(fields: &[u8], micros: &mut i64) -> Option<()> {
    if noted(*micros).is_some() {
        return None;
    }
    let mut parts = Parts::of_duration(*micros);
    parts.merge(fields).ok()?;
    // Microseconds don't show the sign of so few nanoseconds, and another piece's seconds may have the other one.
    if matches!(parts.nanos, -999..=-1 | 1..=999) {
        return None;
    }
    *micros = parts.duration()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put_varint(out: &mut Vec<u8>, mut value: u64, padding: usize) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        // Longer than it has to be.
        for _ in 0..padding {
            *out.last_mut().unwrap() |= 0x80;
            out.push(0);
        }
    }

    /// A message of these fields, in this order.
    fn message(fields: &[(u8, u64, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value, padding) in fields {
            out.push(number << 3);
            put_varint(&mut out, *value, *padding);
        }
        out
    }

    /// What it is with bytes behind it, which is the faster way, and without.
    fn both(fields: &[u8], before: i64) -> [Option<i64>; 2] {
        [[fields, [0xff; 20].as_slice()].concat(), fields.to_vec()].map(|within| {
            let mut micros = before;
            timestamp(&within[..fields.len()], &within, &mut micros).map(|()| micros)
        })
    }

    #[test]
    fn usual_times() {
        for seconds in [1 << 28, 1_700_000_000, (1 << 35) - 1] {
            for nanos in [0, 1, 127, 128, 999, 1000, 123_456_789, 999_999_999, 1_000_000_000, u64::MAX] {
                for before in [0, 5] {
                    let good = nanos < 1_000_000_000;
                    let expected = good.then(|| seconds as i64 * 1_000_000 + nanos as i64 / 1000);
                    assert_eq!(both(&message(&[(1, seconds, 0), (2, nanos, 0)]), before), [expected, expected]);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_behind_a_time_change_nothing(
            fields in prop::collection::vec(
                (1u8..4, prop_oneof![0u64..200, 1 << 27..1u64 << 36, any::<u64>()], 0usize..3), 0..4),
            cut in 0usize..3,
            before in prop_oneof![Just(0i64), any::<i32>().prop_map(i64::from)],
        ) {
            let bytes = message(&fields);
            let [usual, alone] = both(&bytes[..bytes.len().saturating_sub(cut)], before);
            prop_assert_eq!(usual, alone);
        }
    }
}
