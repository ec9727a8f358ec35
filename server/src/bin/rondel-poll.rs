//! A yardstick of `rondel bench kafka`: a program that reads a topic by rust-rdkafka's `poll`, as others ship it. It is a
//! program of its own because it must not have `rondel`'s allocator, which would serve librdkafka as well.

use std::process::ExitCode;

fn main() -> ExitCode {
    rondel_server::cli::poll_yardstick()
}
