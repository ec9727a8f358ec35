//! The rondel binary.
fn main() {}
