//! Rondel through its doors: every test of the whole, in one binary.

mod documents;
mod options;
mod packaging;
mod real_kafka;
// Their helpers may unwrap as tests do.
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod server;
mod sql_files;
mod tidy;
