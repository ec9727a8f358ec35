//! What each operator of a job remembers, for those who watch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::operator::Operator;

use super::flow_control::lock;

/// What an operator remembers, on all workers together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorFigures {
    /// The identity of the plan's node, which begins with what it does.
    pub operator: String,
    /// Rows or groups.
    pub rows: usize,
    /// Bytes of memory.
    pub bytes: usize,
    /// Different keys.
    pub keys: usize,
    /// Bytes on disk, of rows that memory has no room for.
    pub spilled_bytes: u64,
}

/// What one operator remembers on one worker.
#[derive(Debug, Default)]
pub(crate) struct OperatorMeter {
    rows: AtomicUsize,
    bytes: AtomicUsize,
    keys: AtomicUsize,
    spilled_bytes: AtomicU64,
    /// It has remembered something once.
    remembers: AtomicBool,
}

impl OperatorMeter {
    /// Takes the figures after an epoch; answers the bytes.
    pub(crate) fn measure(&self, operator: &dyn Operator) -> usize {
        let size = operator.state_size();
        self.rows.store(size.rows, Ordering::Relaxed);
        self.bytes.store(size.bytes, Ordering::Relaxed);
        self.keys.store(operator.state_keys().unwrap_or(size.rows), Ordering::Relaxed);
        self.spilled_bytes.store(operator.spilled().bytes, Ordering::Relaxed);
        if size.rows > 0 {
            self.remembers.store(true, Ordering::Relaxed);
        }
        size.bytes
    }
}

/// The meters of a job's operators.
#[derive(Debug, Default)]
pub(crate) struct OperatorMeters(Mutex<Vec<(String, Arc<OperatorMeter>)>>);

impl OperatorMeters {
    /// A meter for an operator on one worker.
    pub(crate) fn add(&self, operator: &str) -> Arc<OperatorMeter> {
        let meter = Arc::new(OperatorMeter::default());
        lock(&self.0).push((operator.to_owned(), Arc::clone(&meter)));
        meter
    }

    /// Of each operator that has ever remembered anything.
    pub(crate) fn figures(&self) -> Vec<OperatorFigures> {
        let mut figures: BTreeMap<String, OperatorFigures> = BTreeMap::new();
        for (operator, meter) in lock(&self.0).iter().filter(|(_, meter)| meter.remembers.load(Ordering::Relaxed)) {
            let sum = figures
                .entry(operator.clone())
                .or_insert_with(|| OperatorFigures { operator: operator.clone(), ..OperatorFigures::default() });
            sum.rows += meter.rows.load(Ordering::Relaxed);
            sum.bytes += meter.bytes.load(Ordering::Relaxed);
            sum.keys += meter.keys.load(Ordering::Relaxed);
            sum.spilled_bytes += meter.spilled_bytes.load(Ordering::Relaxed);
        }
        figures.into_values().collect()
    }
}
