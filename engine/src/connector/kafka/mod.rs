//! Kafka: source and sink over librdkafka. The only room that names rdkafka.
//!
//! * [`settings`]: options of `WITH (…)`, and librdkafka's configuration made from them
//! * [`source`]: reading; its `coordinator` finds partitions and deals them to the workers, `batch_queue` is the thin
//!   layer over librdkafka's batch call
//! * [`sink`]: writing, through one idempotent producer that the workers share; [`transaction`] is Kafka's part of
//!   writing exactly once
//! * [`mock`]: librdkafka's own broker inside the process, for the demo and tests
//! * [`yardstick`]: how fast librdkafka gives records to anyone
//! * [`client`]: a small producer and consumer for the demo, tests and benchmarks

mod batch_queue;
pub mod client;
mod coordinator;
mod dead_letters;
pub(super) mod definition;
mod delivery;
mod health;
mod key;
mod metadata;
pub mod mock;
mod records;
mod rows;
pub mod settings;
pub mod sink;
pub mod source;
#[cfg(test)]
mod testing;
mod topics;
mod transaction;
mod upsert;
pub mod yardstick;

pub use settings::{Changelog, KafkaSinkOptions, KafkaSourceOptions, KeyFormat};
pub use sink::KafkaSink;
pub use source::KafkaSource;
