//! What a change costs a view that holds much: a join of a million rows with a million, and OVER over a large partition.
//!
//! The same statements run before the view is there and after it: the difference is what the view costs.

use rondel_engine::Result;
use rondel_engine::engine::Engine;
use rondel_engine::session::Session;
use rondel_engine::time::SystemClock;

use super::measure::{Meter, Taken, close, execute};
use super::{BenchOptions, say};

/// Rows of a statement that fills a table.
const PIECE: u64 = 100_000;
/// Statements of a run.
const STATEMENTS: u64 = 20;

/// A view, and what changes below it.
struct Case {
    name: &'static str,
    what: &'static str,
    /// The tables: name, columns, rows, and the query for a piece of them between `{from}` and `{to}`.
    tables: &'static [(&'static str, &'static str, u64, &'static str)],
    view: &'static str,
    /// A statement for rows between `{from}` and `{to}`, of which each changes the view.
    change: &'static str,
    /// Rows of such a statement.
    rows: u64,
    /// The first row that is changed, and the distance from one statement to the next.
    places: (u64, u64),
}

const MILLION: u64 = 1_000_000;
const KEYED: &str = "id BIGINT PRIMARY KEY, k BIGINT, x BIGINT";
const BY_KEY: &str = "SELECT v.n AS id, v.n AS k, v.n % 1000 AS x FROM generate_series({from}, {to}) AS v(n)";

const CASES: [Case; 3] = [
    Case {
        name: "join-changes",
        what: "join of 1 M rows with 1 M, 1,000 new rows",
        tables: &[("a", KEYED, MILLION, BY_KEY), ("b", KEYED, MILLION, BY_KEY)],
        view: "CREATE MATERIALIZED VIEW v AS SELECT a.id AS a, b.id AS b, a.x + b.x AS x FROM a JOIN b ON a.k = b.k",
        change: "INSERT INTO a SELECT v.n AS id, v.n % 1000000 AS k, v.n % 1000 AS x \
                 FROM generate_series({from}, {to}) AS v(n)",
        rows: 1000,
        places: (MILLION, 1000),
    },
    Case {
        name: "over-changes",
        what: "OVER over a partition of 100,000 rows, one changed row",
        tables: &[("t", KEYED, 100_000, BY_KEY)],
        view: "CREATE MATERIALIZED VIEW v AS SELECT id, lag(x) OVER w AS last, \
               sum(x) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s FROM t WINDOW w AS (ORDER BY id)",
        change: "UPDATE t SET x = x + 1 WHERE id = {from}",
        rows: 1,
        places: (50_000, 7),
    },
    Case {
        name: "running-changes",
        what: "running sum over a partition of 100,000 rows, one changed row: half of them change",
        tables: &[("t", KEYED, 100_000, BY_KEY)],
        view: "CREATE MATERIALIZED VIEW v AS SELECT id, sum(x) OVER (ORDER BY id) AS s FROM t",
        change: "UPDATE t SET x = x + 1 WHERE id = {from}",
        rows: 1,
        places: (50_000, 7),
    },
];

pub(super) async fn bench(options: &BenchOptions) -> Result<()> {
    let cases: Vec<_> = CASES.iter().filter(|case| options.wants(case.name)).collect();
    if cases.is_empty() {
        return Ok(());
    }
    say(&format!("Changes of large views: {STATEMENTS} statements, each with FLUSH, {} workers.", options.workers()));
    say(&format!("{:16} {:>18} {:>18} {:>16}", "", "without, CPU ms", "with view, CPU ms", "CPU µs a change"));
    for case in cases {
        let (without, with) = measured(options, case).await.map_err(|error| error.context(case.name))?;
        let each = |taken: Taken| taken.cpu * 1e3 / STATEMENTS as f64;
        let cost = (with.cpu - without.cpu).max(0.0) * 1e6 / (STATEMENTS * case.rows) as f64;
        say(&format!("{:16} {:18.2} {:18.2} {cost:16.1}   {}", case.name, each(without), each(with), case.what));
    }
    Ok(())
}

/// What the statements take without the view and with it.
async fn measured(options: &BenchOptions, case: &Case) -> Result<(Taken, Taken)> {
    let engine = Engine::open(options.settings(), crate::functions(), std::sync::Arc::new(SystemClock))?;
    let session = engine.session();
    for (table, columns, rows, query) in case.tables {
        execute(&session, &format!("CREATE TABLE {table} ({columns})")).await?;
        for from in (0..*rows).step_by(PIECE as usize) {
            let piece = between(query, from, (from + PIECE).min(*rows) - 1);
            execute(&session, &format!("INSERT INTO {table} {piece}")).await?;
        }
    }
    let without = changes(&session, case, 0).await?;
    execute(&session, case.view).await?;
    execute(&session, "FLUSH").await?;
    let with = changes(&session, case, STATEMENTS).await?;
    close(engine).await?;
    Ok((without, with))
}

/// Runs the statements from one number on.
async fn changes(session: &Session, case: &Case, first: u64) -> Result<Taken> {
    let meter = Meter::start()?;
    for number in first..first + STATEMENTS {
        let (begin, step) = case.places;
        let from = begin + number * step;
        execute(session, &between(case.change, from, from + case.rows - 1)).await?;
        execute(session, "FLUSH").await?;
    }
    meter.stop()
}

fn between(text: &str, from: u64, to: u64) -> String {
    text.replace("{from}", &from.to_string()).replace("{to}", &to.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_statements_run() {
        for case in &CASES {
            let engine = Engine::open(
                rondel_engine::engine::EngineSettings::default(),
                crate::functions(),
                std::sync::Arc::new(SystemClock),
            )
            .unwrap();
            let session = engine.session();
            for (table, columns, _, query) in case.tables {
                execute(&session, &format!("CREATE TABLE {table} ({columns})")).await.unwrap();
                execute(&session, &format!("INSERT INTO {table} {}", between(query, 0, 9))).await.unwrap();
            }
            execute(&session, case.view).await.unwrap();
            execute(&session, &between(case.change, case.places.0, case.places.0 + case.rows - 1)).await.unwrap();
            execute(&session, "FLUSH").await.unwrap();
            close(engine).await.unwrap();
        }
    }
}
