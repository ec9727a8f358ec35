//! Rondel through its doors: every test of the whole, in one binary.

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
