//! What the integration tests share: real components started and stopped, and clients that are not ours.
//!
//! # Layout
//! - [`kafka`]: a real Apache Kafka on loopback, as long as the tests run
//! - [`registry`]: schema registries; [`http`]: a web server inside the test
//! - [`python`]: programs in Python, whose protobuf and Kafka libraries judge ours
//! - [`rondel`]: the `rondel` program itself as a process, and its clients
//! - [`documents`]: the SQL in Markdown pages and in `sql/`

pub mod documents;
pub mod http;
pub mod kafka;
pub mod python;
pub mod registry;
pub mod rondel;
pub mod s3;

use std::path::PathBuf;

/// What a test's step returns: any error, with its sentence.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The checkout's root.
pub fn root() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map(PathBuf::from).unwrap_or(tests)
}

/// A port of loopback that nothing listens on just now. Another process may take it before it is used: who starts a
/// server on it tries again with another.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
