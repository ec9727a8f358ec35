//! Rondel through its doors: every test of the whole, in one binary.

// Helpers of tests are tests: what clippy.toml allows inside of `#[test]` holds for the whole binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod documents;
mod options;
mod oracle;
mod packaging;
mod real_kafka;
// Its helpers may unwrap as tests do.
#[cfg(test)]
mod server;
mod sql_files;
mod tidy;
