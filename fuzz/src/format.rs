//! Of the engine's formats, protobuf.

#[path = "../../engine/src/format/decoder.rs"]
pub mod decoder;
#[path = "../../engine/src/format/encoder.rs"]
pub mod encoder;
#[path = "../../engine/src/format/protobuf/mod.rs"]
pub mod protobuf;
