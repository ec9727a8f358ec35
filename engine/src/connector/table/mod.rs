//! Tables as sources of continuous queries: what is there, then every change; and as places where late rows go.

mod caught_up;
mod sink;
mod source;

pub(crate) use sink::{InsertsRows, TableSink};
pub(crate) use source::{TableSource, lsns};
