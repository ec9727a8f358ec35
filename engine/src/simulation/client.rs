//! Who uses a server's table: changes it, and reads what there is.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::life::{Being, Ending};
use super::prices::{Change, Rows, TABLE};
use crate::engine::Engine;
use crate::error::Result;
use crate::job::Live;
use crate::table::{Table, key_of};

fn table(engine: &Engine) -> Option<Arc<Table>> {
    match engine.live.get(TABLE) {
        Some(Live::Table { table, .. }) => Some(table),
        _ => None,
    }
}

/// All rows of the table.
fn rows(engine: &Engine, table: &Table) -> Result<Rows> {
    let stored = engine.tables.view()?.rows(table).collect::<Result<Vec<_>>>()?;
    let rows = table.decode(stored.iter().map(|(_, row)| row.as_slice()))?;
    let numbers = |column: usize| rows.column(column).as_primitive::<Int64Type>().values().to_vec();
    Ok(numbers(0).into_iter().zip(numbers(1)).collect())
}

/// Commits a transaction.
fn commit(engine: &Engine, table: &Arc<Table>, change: &Change) -> Result<()> {
    let writer = engine.tables.writer_blocking();
    let mut view = engine.tables.view()?;
    let column = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as _;
    let keys = change.keys().copied().collect();
    let prices = change.values().map(|price| price.unwrap_or_default()).collect();
    let rows = RecordBatch::try_new(Arc::clone(table.schema()), vec![column(keys), column(prices)])?;
    for (row, price) in change.values().enumerate() {
        let mut bytes = Vec::new();
        table.encode(&rows, row, &mut bytes)?;
        view.set(table, key_of(&[0], &rows, row)?, price.map(|_| bytes))?;
    }
    engine.tables.commit(writer, view.pending(), false).map(|_| ())
}

/// Reads the table, and changes it, unless all is changed. The server may be killed before the transaction is there, or before it
/// says so; or only the answer is lost.
pub(super) fn act(being: &Being, engine: &Engine) -> Option<Ending> {
    let table = table(engine)?;
    let read = rows(engine, &table).map_err(|error| error.to_string());
    if let Err(what) = read.and_then(|rows| being.world.read_prices(&rows)) {
        return Some(Ending::Wrong(what));
    }
    let change = being.world.change_prices()?;
    being.world.tell(being.number, || format!("changes prices: {change:?}"));
    if !being.goes_on() {
        return Some(Ending::Killed);
    }
    if let Err(error) = commit(engine, &table, &change) {
        return Some(Ending::Wrong(format!("the table does not take {change:?}: {error}")));
    }
    if !being.goes_on() {
        return Some(Ending::Killed);
    }
    if !being.world.is_unlucky(10) {
        being.world.acknowledge_prices();
    }
    None
}
