//! Rondel through its doors: every test of the whole, in one binary.

// Helpers of tests are tests: what clippy.toml allows inside of `#[test]` holds for the whole binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

/// The server's own: half of what a random statement costs is planning, and much of that is allocating.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod documents;
#[cfg(test)]
mod files;
mod nexmark;
mod options;
mod packaging;
mod postgres;
#[cfg(test)]
mod protobuf;
mod real_kafka;
// Their helpers may unwrap as tests do.
#[cfg(test)]
mod language;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod registries;
#[cfg(test)]
mod server;
#[cfg(test)]
mod slt;
mod sql_files;
#[cfg(test)]
mod tables;
mod tidy;
#[cfg(test)]
mod time;
#[cfg(test)]
mod workloads;
