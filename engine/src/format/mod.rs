//! Formats: bytes ↔ Arrow.
//!
//! * [`decoder`], [`encoder`]: what a connector asks of a format
//! * [`protobuf`]: a compiled decode plan and a compiled encode plan, both from a message's descriptor
//! * `json`, `lines`: records of texts, by the columns that a statement declares; `cells` is what both make columns of
//! * [`table`]: records that say what a key's row is now
//! * [`value`]: the one list of formats, and their options

mod cells;
pub mod decoder;
pub mod encoder;
mod json;
mod lines;
pub mod protobuf;
pub mod table;
pub mod value;
