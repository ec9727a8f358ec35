//! Why a record could not be decoded.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The record, or a part whose length is given, ends within a value.
    Truncated,
    /// A number of more than ten bytes, or of more than 64 bits.
    VarintTooLong,
    /// Field number 0, or one above 2^29 − 1.
    FieldNumber,
    /// A wire type that does not exist.
    WireType(u8),
    /// A group that ends without having begun, or is closed by another field's end.
    Group,
    /// Groups or messages nested deeper than 100.
    TooDeep,
    /// A string that is not UTF-8.
    Utf8,
    /// A `google.protobuf.Timestamp` outside of the years 1 to 9999, or nanoseconds outside of a second.
    Timestamp,
    /// A `google.protobuf.Duration` outside of ±10,000 years, or parts of opposite sign.
    Duration,
    /// A `google.protobuf.Struct`, `Value` or `ListValue` that is malformed, or nested deeper than 100.
    Json,
    /// A proto2 field marked `required` is absent.
    Required,
    /// The record unfolds to more memory than a batch may hold.
    TooLarge,
    /// The batch holds as much as a batch may: not the record's fault, finish the batch and push the record again.
    BatchFull,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end within a value"),
            Self::VarintTooLong => f.write_str("a number has more than 64 bits"),
            Self::FieldNumber => f.write_str("a field number is out of range"),
            Self::WireType(number) => write!(f, "wire type {number} does not exist"),
            Self::Group => f.write_str("a group ends that was not open"),
            Self::TooDeep => f.write_str("messages are nested too deeply"),
            Self::Utf8 => f.write_str("a string is not UTF-8"),
            Self::Timestamp => f.write_str("the timestamp is out of range"),
            Self::Duration => f.write_str("the duration is out of range"),
            Self::Json => f.write_str("the bytes are no google.protobuf.Struct, Value or ListValue"),
            Self::Required => f.write_str("a required field is missing"),
            Self::TooLarge => f.write_str("the record is too large when unfolded"),
            Self::BatchFull => f.write_str("the batch is full"),
        }
    }
}

/// Why a record can't be decoded; the path is collected from the inside outwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    /// The address at which reading stopped: all slices are parts of the record.
    pub(super) address: usize,
    /// Numbers of the enclosing fields, innermost first; 0 is none.
    pub(super) fields: Vec<u32>,
}

impl Fault {
    #[cold]
    #[inline(never)]
    pub(super) fn at(reason: Reason, address: usize, field: u32) -> Self {
        Self { reason, address, fields: vec![field] }
    }

    /// The same in a field.
    #[cold]
    pub(super) fn inside(mut self, field: u32) -> Self {
        self.fields.push(field);
        self
    }

    /// Whether what follows may make it well: pieces that are merged with what is wrong, or take it away.
    pub(super) fn may_be_put_right(&self) -> bool {
        matches!(self.reason, Reason::Required | Reason::Timestamp | Reason::Duration)
    }
}

/// A record that could not be decoded: where, and why. The decoder has forgotten the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The message's name and the fields on the way, joined by dots: `acme.Booking.pickup.lat`.
    pub path: String,
    /// The byte of the record at which reading stopped, from 0.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Reason,
}

impl DecodeError {
    /// Whether the record itself may be fine and only found no room: finish the batch, then push it again.
    pub fn is_batch_full(&self) -> bool {
        self.reason == Reason::BatchFull
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid {} at byte {}: {}", self.path, self.offset, self.reason)
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let kind = match error.reason {
            Reason::TooLarge | Reason::BatchFull => ErrorKind::ResourceExhausted,
            _ => ErrorKind::Data,
        };
        Error::new(kind, error.to_string())
            .with_hint("check the stream's message name and descriptor, or let on_error skip such records")
    }
}
