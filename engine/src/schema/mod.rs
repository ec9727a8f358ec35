//! Schemas: protobuf descriptors, and the SQL types that they become.
//!
//! * [`descriptor`]: a descriptor option (`file:acme.desc`, `file:acme.proto`) → the messages in it
//! * [`types`]: a message → the Arrow schema of its stream; the rules stand there
//! * [`mod@reference`]: the manual's table of them, made from the rules themselves
//! * `origin`: where schemas come from; [`registry`]: those that are kept elsewhere
//! * [`kept`]: their versions, as the catalog has them
//! * [`evolution`]: what becomes of rows when a version follows another

pub mod descriptor;
pub mod evolution;
mod field;
pub mod kept;
mod nearest;
pub(crate) mod origin;
pub mod reference;
pub mod registry;
mod sources;
pub mod types;

pub use descriptor::Descriptors;
pub(crate) use field::{MessageField, fields_of};
pub(crate) use nearest::distance;
pub use nearest::nearest;
pub use types::{TypeRules, arrow_schema, schema_by};
