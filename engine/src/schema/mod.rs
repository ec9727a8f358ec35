//! Schemas: protobuf descriptors, and the SQL types that they become.
//!
//! * [`descriptor`]: a descriptor option (`file:acme.desc`, `file:acme.proto`) → the messages in it
//! * [`types`]: a message → the Arrow schema of its stream; the rules stand there

pub mod descriptor;
mod nearest;
pub mod types;

pub use descriptor::Descriptors;
pub(crate) use nearest::distance;
pub use nearest::nearest;
pub use types::arrow_schema;
