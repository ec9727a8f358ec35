//! Rondel through its doors: every test of the whole, in one binary.

mod documents;
mod oracle;
mod packaging;
mod real_kafka;
mod sql_files;
mod tidy;
