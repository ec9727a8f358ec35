//! A log inside the process, with Kafka's transactions to the letter: what exactly once is simulated against.
//!
//! Topics have partitions, and partitions records and *marks* at offsets that are never used twice. A producer with a
//! transactional id has an epoch; a newer one of that id fences it. A transaction may write to any partitions of any
//! topics; its end is decided in one place and then marked in each partition, one after the other. Readers of committed
//! records stop at the *last stable offset*, before the first record of a transaction whose mark is not there yet, and
//! never get the records of aborted ones.
//!
//! * [`cluster`]: the broker's side
//! * [`partition`]: records, marks, and who may read what
//! * [`client`]: the producer's side, with a queue of its own, as the [protocol](super::transaction) sees it
//! * [`sink`]: a sink that writes exactly once by that protocol
//! * [`source`]: a stream of a topic's rows

pub mod client;
pub mod cluster;
pub mod partition;
pub mod sink;
pub mod source;

#[cfg(test)]
mod tests;
