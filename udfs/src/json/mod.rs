//! JSON: a TEXT that holds a value.
//!
//! * `value`: reading and writing
//! * `functions`: the functions and what stands behind the operators

mod functions;
mod value;

pub(crate) use functions::JSON;
