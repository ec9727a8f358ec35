//! From text to statements.
//!
//! PostgreSQL's dialect, as DataFusion's parser reads it, with the window table functions (`TUMBLE(TABLE t, …)`), the
//! `EMIT` suffix of a query, and Rondel's own statements. [`parse`] reads a text of several statements; each
//! [`ParsedStatement`] keeps its own slice of the text, which is what the catalog stores. Flink's dialect is read by the same
//! parser and rewritten ([`Dialect`]).

mod asof;
mod clauses;
mod dialect;
mod emit;
mod flink;
mod hints;
mod job;
mod name;
mod parser;
mod recognize;
mod show;
mod statement;
mod table;
mod table_factor;
mod text;

#[cfg(test)]
mod tests;

pub(crate) use asof::text_of;
pub use dialect::{Dialect, RondelDialect, partition_function};
pub use emit::{EmitClause, EmitMode, Trigger};
pub use flink::{GROUP_BOUNDS, GROUP_WINDOW};
pub use hints::state_ttl_hints;
pub use job::{JobAction, Savepoint};
pub use name::{quoted, statement_name};
pub use parser::{parse, parse_expression, parse_in, parse_one, parse_one_in, parse_query};
pub use recognize::WITHIN;
pub use statement::{
    CreateSink, CreateStream, CreateView, DropObjects, ObjectKind, OptionEntry, Options, ParsedStatement, Query,
    SetValue, Show, Statement, Subscription, Transaction, WatermarkClause,
};
pub use table::{AlterTable, CreateTable, DoUpdate, Insert, OnConflict};
pub(crate) use table_factor::table_factor;
