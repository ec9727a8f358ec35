//! Rondel through its doors: every test of the whole, in one binary.

// All of it is tests: what can't be unwrapped has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod oracle;
