//! Of the engine's schemas, what protobuf messages become.

#[path = "../../engine/src/schema/descriptor.rs"]
pub mod descriptor;
#[path = "../../engine/src/schema/editions/mod.rs"]
mod editions;
#[path = "../../engine/src/schema/field.rs"]
mod field;
#[path = "../../engine/src/schema/leaves.rs"]
mod leaves;
#[path = "../../engine/src/schema/nearest.rs"]
mod nearest;
#[path = "../../engine/src/schema/types.rs"]
pub mod types;

/// Decoders are woken by registries, which are not there.
pub mod registry {
    pub mod ids {
        pub type Bell = std::sync::Arc<dyn Fn() + Send + Sync>;
    }
}

pub use descriptor::Descriptors;
pub(crate) use field::{MessageField, fields_of};
pub use leaves::Leaves;
pub use nearest::nearest;
pub use types::{TypeRules, arrow_schema, schema_by};
