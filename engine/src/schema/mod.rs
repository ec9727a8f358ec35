//! Schemas: protobuf descriptors, and the SQL types that they become.
//!
//! * [`descriptor`]: a descriptor option (`file:acme.desc`, `file:acme.proto`) → the messages in it
//! * [`types`]: a message → the Arrow schema of its stream; the rules stand there
//! * [`mod@reference`]: the manual's table of them, made from the rules themselves

pub mod descriptor;
mod field;
mod nearest;
pub mod reference;
mod sources;
pub mod types;

pub use descriptor::Descriptors;
pub(crate) use field::{MessageField, fields_of};
pub(crate) use nearest::distance;
pub use nearest::nearest;
pub use types::{TypeRules, arrow_schema, schema_by};
