//! A table, or a function's rows, as the parser would have read it.

use datafusion::sql::sqlparser::ast::{ObjectName, TableFactor, TableFunctionArgs};

/// `name`, or `name(…)`, in a FROM: nothing else is said of it.
pub(crate) fn table_factor(name: ObjectName, args: Option<TableFunctionArgs>) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}
