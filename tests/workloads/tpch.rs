//! TPC-H's 22 queries as views over tables that grow, change and shrink.

mod generate;

use std::collections::BTreeMap;
use std::sync::Arc;

use rondel_engine::connector::memory::PrebuiltStream;
use rondel_tests::Result;

use super::compared::{Compared, query_of};
use super::times_larger;
use generate::Size;

/// A tenth of the orders and of what else there is, changed in keys, dates and amounts.
const UPDATES: &[&str] = &[
    "UPDATE lineitem SET l_quantity = l_quantity + 7, l_discount = 0.06, l_shipdate = l_shipdate + INTERVAL '40' DAY
     WHERE l_orderkey % 10 = 3",
    "UPDATE lineitem SET l_suppkey = l_suppkey % 10 + 1, l_returnflag = 'R' WHERE l_orderkey % 10 = 7",
    "UPDATE orders SET o_custkey = o_custkey % 140 + 1, o_orderdate = o_orderdate - INTERVAL '1' YEAR,
       o_comment = 'special requests', o_totalprice = o_totalprice / 2
     WHERE o_orderkey % 10 = 4",
    "UPDATE customer SET c_mktsegment = 'BUILDING', c_nationkey = (c_nationkey + 1) % 25, c_acctbal = c_acctbal + 1000
     WHERE c_custkey % 10 = 5",
    "UPDATE part SET p_brand = 'Brand#23', p_container = 'MED BOX', p_name = 'forest green' WHERE p_partkey % 10 = 6",
    "UPDATE partsupp SET ps_supplycost = ps_supplycost / 2, ps_availqty = ps_availqty + 1 WHERE ps_partkey % 10 = 2",
    "UPDATE supplier SET s_nationkey = 20, s_comment = 'Customer Complaints' WHERE s_suppkey % 10 = 8",
    "UPDATE nation SET n_regionkey = 3 WHERE n_name = 'EGYPT'",
];

const DELETES: &[&str] = &[
    "DELETE FROM lineitem WHERE l_orderkey % 10 = 1",
    "DELETE FROM orders WHERE o_orderkey % 10 = 9",
    "DELETE FROM customer WHERE c_custkey % 10 = 8",
    "DELETE FROM part WHERE p_partkey % 10 = 1",
    "DELETE FROM partsupp WHERE ps_partkey % 10 = 4",
    "DELETE FROM supplier WHERE s_suppkey % 10 = 2",
];

/// The column by whose value a table's rows are loaded in two halves.
const HALVED_BY: &[(&str, &str)] = &[
    ("region", "r_regionkey"),
    ("nation", "n_nationkey"),
    ("supplier", "s_suppkey"),
    ("customer", "c_custkey"),
    ("part", "p_partkey"),
    ("partsupp", "ps_partkey"),
    ("orders", "o_orderkey"),
    ("lineitem", "l_orderkey"),
];

fn queries() -> Result<BTreeMap<String, String>> {
    (1..=22).map(|number| Ok((format!("q{number}"), query_of(&format!("tpch/q{number}.sql"))?))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_is_its_batch_answer_through_inserts_updates_and_deletes() -> Result<()> {
    let mut compared = Compared::new(2)?;
    compared.run_file("tpch/tables.sql", &[]).await?;
    for (name, rows) in generate::tables(Size::thousandths(times_larger()))? {
        let stream = PrebuiltStream::new(rows.schema(), vec![vec![rows]]);
        compared.engine().lend_stream(&format!("made_{name}"), Arc::new(stream), None)?;
    }
    let load = async |compared: &Compared, half: i64| -> Result<()> {
        for (table, key) in HALVED_BY {
            compared.run(&format!("INSERT INTO {table} SELECT * FROM made_{table} WHERE {key} % 2 = {half}")).await?;
        }
        Ok(())
    };
    load(&compared, 0).await?;
    compared.watch(queries()?).await?;
    compared.check("created on half of the rows").await?;
    load(&compared, 1).await?;
    let rows = compared.check("all rows inserted").await?;
    println!("TPC-H rows of each view: {rows:?}");
    let empty: Vec<&String> = rows.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name).collect();
    assert!(empty.is_empty(), "without an answer, nothing is compared: {empty:?}");
    for changes in [UPDATES, DELETES] {
        for change in changes {
            compared.run(change).await.map_err(|error| format!("{change}: {error}"))?;
        }
        compared.check(changes[0]).await?;
    }
    // All at once, in one epoch: views see none of it or all.
    compared.run(&format!("BEGIN; {}; {}; COMMIT", UPDATES.join("; "), DELETES.join("; "))).await?;
    compared.check("changed again in one transaction").await?;
    let everything: Vec<String> = HALVED_BY.iter().map(|(table, _)| format!("DELETE FROM {table}")).collect();
    compared.run(&everything.join("; ")).await?;
    compared.check("nothing is left").await?;
    compared.close().await
}
