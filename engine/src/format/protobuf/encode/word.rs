//! Short values as words: up to 16 bytes.

use super::super::wire;

/// Bytes of a word.
pub(super) const WORD: usize = 16;

/// Up to 16 bytes, and how many. What lies behind them has no meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    bytes: u128,
    length: usize,
}

/// A tag as it is written, at most five bytes, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    bytes: u64,
    length: usize,
}

impl Tag {
    /// No tag: elements of a packed list.
    pub(super) const NONE: Self = Self { bytes: 0, length: 0 };
    /// Field 1 of a Timestamp or Duration.
    pub(super) const SECONDS: Self = Self { bytes: wire::tag(1, wire::VARINT) as u64, length: 1 };
    /// Field 2.
    pub(super) const NANOS: Self = Self { bytes: wire::tag(2, wire::VARINT) as u64, length: 1 };

    pub(super) fn new(tag: u32) -> Self {
        let (bytes, length) = spread(tag.into());
        Self { bytes, length }
    }

    /// Its bytes, and zeros behind them.
    #[inline(always)]
    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }

    /// How many bytes, at most five.
    #[inline(always)]
    pub(super) fn length(self) -> usize {
        self.length & 7
    }

    #[inline(always)]
    pub(super) fn word(self) -> Word {
        Word { bytes: self.bytes.into(), length: self.length }
    }

    /// With a byte behind it.
    #[inline(always)]
    pub(super) fn and_a_byte(self) -> Word {
        Word { bytes: self.bytes.into(), length: self.length + 1 }
    }
}

impl Word {
    /// The low `length` bytes, at most 16.
    #[inline(always)]
    pub(super) fn of(bytes: u128, length: usize) -> Self {
        debug_assert!(length <= WORD);
        Self { bytes, length: length.min(WORD) }
    }

    /// All 16 bytes, those behind its own included.
    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; WORD] {
        self.bytes.to_le_bytes()
    }

    /// How many are its own, at most 16.
    #[inline(always)]
    pub(super) fn length(self) -> usize {
        self.length
    }

    /// A varint of at most eight bytes.
    #[inline(always)]
    pub(super) fn usual_varint(value: u64) -> Option<Self> {
        if value < 0x80 {
            return Some(Self { bytes: value.into(), length: 1 });
        }
        if value >> 56 != 0 {
            return None;
        }
        let (bytes, length) = spread(value);
        Some(Self { bytes: bytes.into(), length })
    }

    /// A varint.
    #[inline(always)]
    pub(super) fn varint(value: u64) -> Self {
        Self::usual_varint(value).unwrap_or_else(|| Self::long_varint(value))
    }

    /// Nine and ten bytes: eight hold 56 bits, one or two the rest.
    #[inline(never)]
    fn long_varint(value: u64) -> Self {
        let (low, _) = spread(value & (u64::MAX >> 8));
        let rest = value >> 56;
        let (high, length) = if rest < 0x80 { (rest, 9) } else { (rest | 0x180, 10) };
        Self { bytes: u128::from(low | MARKS) | u128::from(high) << 64, length }
    }

    /// A length, and a Timestamp or Duration of that length whose seconds have at most 28 bits, as most durations have, and its
    /// nanoseconds 30.
    #[inline(always)]
    pub(super) fn short_time(seconds: u64, nanos: u64) -> Option<Self> {
        if seconds >> 28 != 0 || nanos >> 30 != 0 {
            return None;
        }
        let field = |tag: Tag, value: u64| {
            let (bytes, length) = spread(value);
            let present = usize::from(value != 0);
            (u128::from((tag.bytes | bytes << 8) * present as u64), (1 + length) * present)
        };
        let ((first, length), (second, more)) = (field(Tag::SECONDS, seconds), field(Tag::NANOS, nanos));
        let body = (first | second << (8 * length)) << 8 | (length + more) as u128;
        Some(Self { bytes: body, length: 1 + length + more })
    }
}

/// A length, and a Timestamp of that length, as is usual: its seconds have 29 to 35 bits (the years 1978 to 3058), and its
/// nanoseconds at most 30.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsualTime {
    /// The length, a tag, and five bytes of seconds.
    pub(super) first: u64,
    /// Another tag and the nanoseconds.
    pub(super) second: u64,
    /// Bytes of all, that of the length included: at most 13.
    pub(super) length: usize,
}

impl UsualTime {
    /// Bytes of `first`.
    pub(super) const FIRST: usize = 7;

    #[inline(always)]
    pub(super) fn of(seconds: u64, nanos: u64) -> Option<Self> {
        // The seconds are five bytes: what follows them has its place.
        if !(1..128).contains(&(seconds >> 28)) || nanos >> 30 != 0 {
            return None;
        }
        let (second, length) = spread(nanos);
        // Nanoseconds of 0 are not written.
        let length = Self::FIRST + (1 + length) * usize::from(nanos != 0);
        let first = (length as u64 - 1) | Tag::SECONDS.bytes << 8 | (sevens(seconds) | 0x8080_8080) << 16;
        Some(Self { first, second: Tag::NANOS.bytes | second << 8, length })
    }
}

const MARKS: u64 = 0x8080_8080_8080_8080;

/// A varint of at most 56 bits: its bytes, and how many. The inverse of what reading does.
#[inline(always)]
fn spread(value: u64) -> (u64, usize) {
    // A seventh of the bits, and a bit of the rest: exact up to 64 bits.
    let length = ((63 - (value | 1).leading_zeros() as usize) * 9 + 73) / 64;
    let bytes = sevens(value);
    // Every byte but the last is marked.
    (bytes | (MARKS >> 8).wrapping_shr(64 - 8 * length as u32), length)
}

/// Each seven of at most 56 bits in a byte of their own.
#[inline(always)]
fn sevens(value: u64) -> u64 {
    let bytes = value & 0x0fff_ffff | (value << 4) & 0x0fff_ffff_0000_0000;
    let bytes = bytes & 0x0000_3fff_0000_3fff | (bytes << 2) & 0x3fff_0000_3fff_0000;
    bytes & 0x007f_007f_007f_007f | (bytes << 1) & 0x7f00_7f00_7f00_7f00
}
