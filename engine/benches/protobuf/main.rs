//! Decoding and encoding protobuf, against the usual ways.
//!
//! `cargo bench -p rondel-engine --bench protobuf` runs criterion. With `-- --ratios` every variant runs in turn on each
//! batch, the best of many repeats counts, and a table of rates and ratios is printed: on a machine whose speed wanders,
//! only ratios taken so mean anything. `bench/` compiles the same files without DataFusion, and compares with ptars as well.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod builders;
mod compared;
mod messages;
mod realistic;
mod realistic_builders;
mod through_structs;

fn main() {
    compared::run();
}
