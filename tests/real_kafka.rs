//! Rondel against a real Apache Kafka, judged by an encoder and a consumer that share no code with it.

mod broker;

use std::io::Write;

use rondel_tests::{Result, root};
use tempfile::NamedTempFile;

/// The tour's messages as a FileDescriptorSet in a file, for the judges.
pub(crate) fn tour_descriptor() -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    let mut compiler = protox::Compiler::new([root().join("sql/tour")])?;
    compiler.include_imports(true).open_file("booking.proto")?;
    file.write_all(&compiler.encode_file_descriptor_set())?;
    Ok(file)
}
