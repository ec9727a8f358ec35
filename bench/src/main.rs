//! The benchmark of `engine/benches/protobuf`, with the engine's files of the format compiled here as they stand.
//!
//! `cargo run --release` prints ratios.
// The engine uses parts of these files that the format alone does not.
#![allow(dead_code, unused_imports)]

// The benchmark names the engine.
extern crate self as rondel_engine;

#[path = "../../engine/benches/protobuf/builders.rs"]
mod builders;
#[path = "../../engine/benches/protobuf/compared.rs"]
mod compared;
#[path = "../../engine/src/error.rs"]
pub mod error;
#[path = "../../fuzz/src/format.rs"]
pub mod format;
#[path = "../../engine/benches/protobuf/messages.rs"]
mod messages;
#[path = "../../engine/benches/protobuf/realistic.rs"]
mod realistic;
#[path = "../../engine/benches/protobuf/realistic_builders.rs"]
mod realistic_builders;
#[path = "../../engine/benches/protobuf/through_structs.rs"]
mod through_structs;
#[path = "../../fuzz/src/schema.rs"]
pub mod schema;

pub use error::{Error, ErrorKind, Result};

fn main() {
    compared::run();
}
