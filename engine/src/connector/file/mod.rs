//! Files of JSON lines or Parquet: a source that reads those of a folder once, and a sink that writes rows into one.
//!
//! * `stream`, `source`, `reading`: what streams are of, and how they are read
//!
//! A file is written under `_pending/`, which readers of data lakes pass over, and is seen when it is *published*: synced,
//! and renamed into the folder. What is written exactly once is published when its checkpoint is chosen, under a name that
//! carries the checkpoint's epoch and generation; publishing again finds the work done. A sink that writes at least once
//! publishes when a file is full, when it is old, and at the end of a bounded input.
//!
//! * [`settings`]: options of `WITH (…)`
//! * `encode`: rows as the bytes of a file
//! * `pending`: the folder, and how files become seen
//! * `interval`: what the threads that write have in common with checkpoints
//! * `writing`: a worker's thread, and its files
//! * `sink`, `committer`: what jobs and checkpoints talk to

mod committer;
pub(super) mod definition;
mod encode;
mod interval;
mod pending;
mod reading;
pub mod settings;
mod sink;
mod source;
pub(super) mod stream;
mod writing;

#[cfg(test)]
mod tests;
