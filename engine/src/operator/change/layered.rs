//! What tests have written down of the operators of several workers: a checkpoint's layers, without its files.

use std::cell::Cell;
use std::collections::BTreeMap;

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::UInt8Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::super::deferred::{into_changes, into_parts};
use super::super::{Operator, StateChange, StatePart};
use super::{Below, Layer, least, merged, merged_changes};
use crate::state::key_group::worker_of;

/// See the [module](self).
#[derive(Default)]
pub(in crate::operator) struct Layered {
    parts: BTreeMap<String, (Vec<Layer>, Option<Below>)>,
    /// Rows of changes that were written last, but for parts that are always whole, and how many of them say what is gone.
    pub(in crate::operator) rows: usize,
    pub(in crate::operator) gone: usize,
    /// A column in which rows may have what held when they were written.
    of_its_time: Option<&'static str>,
    asked: Cell<bool>,
}

impl Layered {
    /// In this column rows may have what held when they were written.
    pub(in crate::operator) fn with_column_of_its_time(name: &'static str) -> Self {
        Self { of_its_time: Some(name), ..Self::default() }
    }

    /// Writes down all that the operators of all workers remember, or a layer of what has changed.
    pub(in crate::operator) fn write(&mut self, workers: &mut [&mut dyn Operator], only_changes: bool) {
        (self.rows, self.gone) = (0, 0);
        if !only_changes || self.parts.is_empty() {
            self.parts.clear();
            for operator in workers {
                let mut parts = operator.snapshot().unwrap();
                into_parts(operator.deferred(), &mut parts).unwrap();
                for part in parts {
                    let (layers, _) = self.parts.entry(part.name).or_insert_with(|| (vec![Layer::default()], None));
                    layers[0].rows.push(part.rows);
                }
            }
            return;
        }
        let mut whole: BTreeMap<String, Layer> = BTreeMap::new();
        let mut changed: BTreeMap<String, (Layer, Option<Below>)> = BTreeMap::new();
        for operator in workers {
            let mut changes = operator.changes().unwrap().unwrap();
            into_changes(operator.deferred(), &mut changes).unwrap();
            for change in changes {
                match change {
                    StateChange::Whole { name, rows } => whole.entry(name).or_default().rows.extend(rows),
                    StateChange::Rows(rows) => {
                        let (layer, below) = changed.entry(rows.name).or_default();
                        layer.keys = rows.keys;
                        layer.is_sum = rows.is_sum;
                        layer.rows.extend(rows.rows);
                        layer.gone.extend(rows.gone);
                        *below = least(*below, rows.below);
                    }
                }
            }
        }
        self.parts.extend(whole.into_iter().map(|(name, layer)| (name, (vec![layer], None))));
        for (name, (layer, below)) in changed {
            self.rows += layer.rows.iter().map(|rows| rows.num_rows()).sum::<usize>();
            self.gone += layer.gone.iter().map(|rows| rows.num_rows()).sum::<usize>();
            let (layers, stands) = self.parts.entry(name).or_default();
            layers.push(layer);
            *stands = below;
        }
    }

    /// The layers come to what the operators remember, of which they were written just now. Every second time they are not
    /// asked: an operator that has given all it remembers notes its changes anew, and what it should have noted before would
    /// not be missed.
    pub(in crate::operator) fn check(&self, workers: &mut [&mut dyn Operator], context: &str) {
        if self.asked.replace(!self.asked.get()) {
            return;
        }
        let mut whole = Self { of_its_time: self.of_its_time, ..Self::default() };
        whole.write(workers, false);
        assert_eq!(self.said(), whole.said(), "{context}");
    }

    /// The rows of each part that has some, as text.
    fn said(&self) -> BTreeMap<&str, Vec<String>> {
        let options = FormatOptions::default().with_null("NULL");
        let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, (layers, below)) in &self.parts {
            for rows in merged(layers, *below).unwrap().iter().filter(|rows| rows.num_rows() > 0) {
                let schema = rows.schema();
                let columns = rows.columns().iter().zip(schema.fields());
                let columns = columns.filter(|(_, field)| Some(field.name().as_str()) != self.of_its_time);
                let columns = columns.map(|(column, _)| ArrayFormatter::try_new(column.as_ref(), &options));
                let columns = columns.collect::<Result<Vec<_>, _>>().unwrap();
                let text =
                    |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
                said.entry(name).or_default().extend((0..rows.num_rows()).map(text));
            }
        }
        said.values_mut().for_each(|rows| rows.sort());
        said
    }

    /// Puts all layers but the oldest so many together, as compaction does.
    pub(in crate::operator) fn compact(&mut self, from: usize) {
        for (layers, below) in self.parts.values_mut() {
            if layers.len() > from + 1 {
                let younger = layers.split_off(from);
                let mut together = merged_changes(&younger, *below).unwrap();
                if from == 0 {
                    together = Layer { rows: together.rows, ..Layer::default() };
                }
                layers.push(together);
            }
        }
    }

    /// What belongs to one of so many workers.
    pub(in crate::operator) fn parts_of(&self, worker: usize, workers: usize) -> Vec<StatePart> {
        let mut parts = Vec::new();
        for (name, (layers, below)) in &self.parts {
            for rows in merged(layers, *below).unwrap() {
                let groups = rows.column(0).as_primitive::<UInt8Type>();
                let mine: UInt32Array = (0..rows.num_rows() as u32)
                    .filter(|row| worker_of(groups.value(*row as usize), workers) == worker)
                    .collect();
                if !mine.is_empty() {
                    let rows = take_record_batch(&rows, &mine).unwrap();
                    parts.push(StatePart { name: name.clone(), rows });
                }
            }
        }
        parts
    }
}
