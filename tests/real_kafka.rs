//! Rondel against a real Apache Kafka, judged by an encoder and a consumer that share no code with it.

mod broker;
mod faults;
mod windows;

use std::io::Write;
use std::path::Path;

use rondel_tests::{Result, root};
use tempfile::NamedTempFile;

/// The tour's messages and the tests' own as a FileDescriptorSet in a file.
pub(crate) fn descriptor() -> Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".desc").tempfile()?;
    let mut compiler = protox::Compiler::new([root().join("sql/tour"), root().join("tests/real_kafka")])?;
    compiler.include_imports(true).open_file("booking.proto")?.open_file("window.proto")?;
    file.write_all(&compiler.encode_file_descriptor_set())?;
    Ok(file)
}

/// `CREATE STREAM name` over a topic of bookings.
fn create_bookings(name: &str, bootstrap: &str, topic: &str, descriptor: &Path, more: &str) -> String {
    format!(
        "CREATE STREAM {name} (WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '10' SECOND)
         WITH (connector = 'kafka', brokers = '{bootstrap}', topic = '{topic}', format = 'protobuf',
               message = 'rondel.tour.Booking', descriptor = 'file:{}'{more})",
        descriptor.display()
    )
}
