//! Schemas: protobuf descriptors, and the SQL types that they become.
//!
//! * [`descriptor`]: a descriptor option (`file:acme.desc`, `file:acme.proto`) → the messages in it
//! * `editions`: files of editions in the words of older ones
//! * [`types`]: a message → the Arrow schema of its stream; the rules stand there
//! * [`mod@reference`]: the manual's table of them, made from the rules themselves
//! * `origin`: where schemas come from; [`registry`]: those that are kept elsewhere
//! * [`kept`]: their versions, as the catalog has them
//! * `ordered`: JSON in the order of its text
//! * [`Leaves`]: which parts of a column are read
//! * [`evolution`]: what becomes of rows when a version follows another

pub mod descriptor;
pub(crate) mod editions;
pub mod evolution;
mod field;
pub mod kept;
mod leaves;
mod nearest;
pub(crate) mod ordered;
pub(crate) mod origin;
pub mod reference;
pub mod registry;
mod sources;
pub mod types;

pub use descriptor::Descriptors;
pub(crate) use field::{MessageField, fields_of};
pub use leaves::Leaves;
pub(crate) use nearest::distance;
pub use nearest::nearest;
pub use types::{TypeRules, arrow_schema, schema_by};
