//! JSON: a record is one object, a column the member of its name.
//!
//! * [`read`]: a JSON value → a value of a column's type, or why it is none
//! * [`decoder`], [`encoder`]: records ↔ batches
//! * [`schema`]: JSON Schema ↔ columns

pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod read;
pub(crate) mod schema;

#[cfg(test)]
mod tests;
