//! The sink that counts rows and drops them: for benchmarks, and for queries that are run for their side effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::connector::options::{OptionTable, check_known};
use arrow::datatypes::SchemaRef;

use crate::connector::definition::{Definition, SinkDefinition, SinkInput};
use crate::connector::{Reporter, Sink, SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::Result;
use crate::time::Epoch;

/// The options of `WITH (connector = 'blackhole')`: it has none of its own.
pub const OPTIONS: OptionTable = OptionTable { title: "blackhole sink", options: &[], prefixes: &[] };

/// What a blackhole has swallowed; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Swallowed(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    rows: AtomicU64,
    inserted: AtomicU64,
    retracted: AtomicU64,
}

impl Swallowed {
    /// Rows of deltas, whatever their weights.
    pub fn rows(&self) -> u64 {
        self.0.rows.load(Ordering::Relaxed)
    }

    /// The sum of the positive weights.
    pub fn inserted(&self) -> u64 {
        self.0.inserted.load(Ordering::Relaxed)
    }

    /// The sum of the negative weights, without its sign.
    pub fn retracted(&self) -> u64 {
        self.0.retracted.load(Ordering::Relaxed)
    }

    fn add(&self, delta: &Delta) {
        let rows = delta.num_rows() as u64;
        self.0.rows.fetch_add(rows, Ordering::Relaxed);
        let (inserted, retracted) = match delta.weights() {
            None => (rows, 0),
            Some(weights) => weights.values().iter().fold((0_u64, 0_u64), |(plus, minus), weight| {
                let size = weight.unsigned_abs();
                if *weight >= 0 { (plus.saturating_add(size), minus) } else { (plus, minus.saturating_add(size)) }
            }),
        };
        self.0.inserted.fetch_add(inserted, Ordering::Relaxed);
        self.0.retracted.fetch_add(retracted, Ordering::Relaxed);
    }
}

/// The sink; see the [module](self).
#[derive(Debug, Default)]
pub struct BlackholeSink {
    swallowed: Swallowed,
}

impl BlackholeSink {
    /// A sink from the values of `WITH`; `others` are the option tables that the statement may use beside this one.
    pub fn new(values: &BTreeMap<String, String>, others: &[&OptionTable]) -> Result<Self> {
        let mut tables = vec![&OPTIONS];
        tables.extend_from_slice(others);
        check_known(values, &tables)?;
        Ok(Self::default())
    }

    /// Its counts, to keep before the sink is opened.
    pub fn swallowed(&self) -> Swallowed {
        self.swallowed.clone()
    }
}

/// What `CREATE SINK … WITH (connector = 'blackhole')` defines.
struct Blackhole;

/// Checks a sink's options.
pub(super) fn define_sink(definition: &Definition<'_>) -> Result<Arc<dyn SinkDefinition>> {
    BlackholeSink::new(definition.options, &[])?;
    Ok(Arc::new(Blackhole))
}

impl SinkDefinition for Blackhole {
    fn columns(&self) -> Option<SchemaRef> {
        None
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        None
    }

    fn open(&self, _input: &SinkInput) -> Result<Box<dyn Sink>> {
        Ok(Box::new(BlackholeSink::default()))
    }
}

impl Sink for BlackholeSink {
    fn writers(self: Box<Self>, workers: usize, _reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        Ok((0..workers).map(|_| Box::new(BlackholeWriter(self.swallowed.clone())) as Box<dyn SinkWriter>).collect())
    }
}

struct BlackholeWriter(Swallowed);

impl SinkWriter for BlackholeWriter {
    fn write(&mut self, _epoch: Epoch, delta: Delta) -> Result<SinkState> {
        self.0.add(&delta);
        Ok(SinkState::Ready)
    }

    fn resume(&mut self) -> Result<SinkState> {
        Ok(SinkState::Ready)
    }

    fn flush(&mut self) -> Result<SinkState> {
        Ok(SinkState::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::record_batch::RecordBatch;

    struct Silent;
    impl Reporter for Silent {
        fn waits_for(&self, _who: &str, _what: Option<String>) {}
        fn fail(&self, _error: crate::Error) {}
        fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
    }

    #[test]
    fn it_counts_over_all_workers() {
        let sink = BlackholeSink::new(&BTreeMap::new(), &[]).unwrap();
        let swallowed = sink.swallowed();
        let mut writers = Box::new(sink).writers(2, Arc::new(Silent)).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]).unwrap();
        writers[0].write(1, Delta::append(rows.clone())).unwrap();
        writers[1].write(1, Delta::weighted(rows, Int64Array::from(vec![2, -1, -4]))).unwrap();
        assert_eq!((swallowed.rows(), swallowed.inserted(), swallowed.retracted()), (6, 5, 5));
    }

    #[test]
    fn it_has_no_options() {
        let values = BTreeMap::from([("topic".to_owned(), "x".to_owned())]);
        assert!(BlackholeSink::new(&values, &[]).unwrap_err().message().contains("\"topic\""));
    }
}
