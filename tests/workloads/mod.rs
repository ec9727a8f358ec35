//! Known workloads: each of their queries as a view, which is to hold at every moment what a snapshot of the same query
//! answers. The queries are the files of `sql/nexmark` and `sql/tpch`.
//!
//! `RONDEL_WORKLOADS=20` makes every table and stream twenty times as large as `make test` has them.

mod compared;
mod field;
mod nexmark;
mod tpch;

/// How many times larger than usual everything is.
fn times_larger() -> i64 {
    std::env::var("RONDEL_WORKLOADS").map_or(1, |text| {
        text.parse().unwrap_or_else(|_| panic!("RONDEL_WORKLOADS={text} is no whole number: write RONDEL_WORKLOADS=20"))
    })
}
