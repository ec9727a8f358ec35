//! Formats: bytes ↔ Arrow.
//!
//! * [`protobuf`]: a compiled decode plan and a compiled encode plan, both from a message's descriptor

pub mod protobuf;
