//! Protobuf ↔ Arrow, by plans that are compiled once from a message's descriptor. No message object is built for a row.
//!
//! * decoding: [`ProtobufDecoder`]; its columns have the types of [`crate::schema::types`]
//! * encoding: [`ProtobufEncoder`]
//!
//! Parts of the decoder, in the order of a record's way: `wire` reads tags and numbers, `plan` says what a tag means (built by
//! `compile`), `decode` walks a record and takes the `step` of each tag, which reads a `value` (`time` its times), `store` holds the
//! columns (`column`, `text`, `offsets`), `finish` makes arrays of them (`keys` looks for what comes again in maps). `trouble` is what
//! may be put right by the record's end, and `check` judges that, and messages that stay bytes; `json` and `any` render those
//! that are shown as JSON. `oracle` is what tests and the fuzzer judge by.

mod any;
mod check;
mod column;
mod compile;
mod decode;
mod decoder;
mod encode;
mod error;
mod finish;
mod json;
mod keys;
mod offsets;
mod plan;
mod step;
mod store;
mod text;
mod time;
mod trouble;
mod value;
mod wire;

pub use decoder::ProtobufDecoder;
pub use encode::ProtobufEncoder;
pub use error::{DecodeError, Reason};

#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "for tests and the fuzzer")]
pub(crate) mod oracle;
#[cfg(test)]
mod tests;
