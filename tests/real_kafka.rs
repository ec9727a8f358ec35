//! Rondel against a real Apache Kafka, judged by an encoder and a consumer that share no code with it.

mod broker;
mod faults;
mod source;
mod tables;
mod transactions;
mod windows;

use std::io::Write;
use std::path::Path;

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
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
pub(crate) fn create_bookings(name: &str, bootstrap: &str, topic: &str, descriptor: &Path, more: &str) -> String {
    format!(
        "CREATE STREAM {name} (WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '10' SECOND)
         WITH (connector = 'kafka', brokers = '{bootstrap}', topic = '{topic}', format = 'protobuf',
               message = 'rondel.tour.Booking', descriptor = 'file:{}'{more})",
        descriptor.display()
    )
}

/// A booking's bytes.
pub(crate) fn booking(order: &str, seconds: i64) -> Result<Vec<u8>> {
    let pool = protox::compile(["booking.proto"], [root().join("sql/tour")])?;
    let pool = DescriptorPool::from_file_descriptor_set(pool)?;
    let class = pool.get_message_by_name("rondel.tour.Booking").ok_or("no such message")?;
    let time = pool.get_message_by_name("google.protobuf.Timestamp").ok_or("no such message")?;
    let mut timestamp = DynamicMessage::new(time);
    timestamp.set_field_by_name("seconds", Value::I64(seconds));
    let mut message = DynamicMessage::new(class);
    message.set_field_by_name("order_number", Value::String(order.to_owned()));
    message.set_field_by_name("event_timestamp", Value::Message(timestamp));
    Ok(message.encode_to_vec())
}
