//! Avro, by Arrow's own library: one record of Kafka is one datum, plain or behind a registry's frame.
//!
//! * [`columns`]: what Avro's types are as columns
//! * [`decoder`], [`encoder`]: records ↔ batches

pub(super) mod columns;
pub(super) mod decoder;
pub(super) mod encoder;

#[cfg(test)]
mod tests;
