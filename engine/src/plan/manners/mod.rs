//! PostgreSQL's manners in expressions: where DataFusion's syntax or operators mean something else, or nothing.
//!
//! * `syntax`: what can be told from the text alone; casts among it
//! * `operators`: what depends on types
//! * `casts`: how casts are called
//! * `rows`: rows that are looked for in a subquery
//!
//! Both call functions by name, and do nothing where the registry hasn't got them: the engine knows no functions of its own.

mod casts;
mod operators;
mod rows;
mod syntax;

pub(super) use casts::CastsByName;
pub(super) use operators::Operators;
pub(super) use syntax::{rewrite, rewrite_expression};
