//! Rondel through its doors: every test of the whole, in one binary.

mod server;
