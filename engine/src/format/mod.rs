//! Formats: bytes ↔ Arrow.
//!
//! * [`decoder`], [`encoder`]: what a connector asks of a format
//! * [`protobuf`]: a compiled decode plan and a compiled encode plan, both from a message's descriptor

pub mod decoder;
pub mod encoder;
pub mod protobuf;
pub mod value;
