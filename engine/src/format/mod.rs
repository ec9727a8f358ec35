//! Bytes to Arrow and back.

pub mod decoder;
pub mod encoder;
