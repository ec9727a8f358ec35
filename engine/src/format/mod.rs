//! Formats: bytes ↔ Arrow.
//!
//! * [`decoder`], [`encoder`]: what a connector asks of a format
//! * [`protobuf`]: a compiled decode plan and a compiled encode plan, both from a message's descriptor
//! * `json`, `lines`: records of texts, by the columns that a statement declares; `cells` is what both make columns of
//! * `avro`: by Arrow's own library
//! * [`table`]: records that say what a key's row is now
//! * `confluent`: records that carry the ids of their schemas
//! * [`value`]: the one list of formats; their options stand in [`options`], and where schemas come from in `schemas`

mod avro;
mod cells;
mod confluent;
pub mod decoder;
pub mod encoder;
mod json;
mod lines;
pub mod options;
pub mod protobuf;
mod schemas;
pub mod table;
#[cfg(test)]
mod testing;
pub mod value;

pub(crate) use json::{check_json_columns, json_lines_decoder};
