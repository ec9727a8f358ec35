//! libFuzzer makes records, and the oracle of the format's own tests judges what becomes of them.
//!
//! The format's files are compiled here as they stand in the engine, with the few others that they need.
#![no_main]
// The engine uses parts of these files that the format alone does not.
#![allow(dead_code, unused_imports)]

#[path = "../../engine/src/error.rs"]
mod error;
mod format;
mod schema;

pub use error::{Error, ErrorKind, Result};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| format::protobuf::oracle::check_bytes(bytes));
