//! Tables as sources of continuous queries: what is there, then every change.

mod source;

pub(crate) use source::{TableSource, lsns};
