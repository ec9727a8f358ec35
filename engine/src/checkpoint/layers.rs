//! A checkpoint's files upon those of the one before: each part of an operator's state is written whole, or as a layer with
//! what has changed ([`change`](crate::operator::change)).

use std::collections::{BTreeMap, BTreeSet};

use arrow::record_batch::RecordBatch;

use super::manifest::{Expired, StateFile};
use super::pages::Spare;
use super::state_file::{self, NewFile, Parts, by_part, shown};
use crate::dataflow::JobSnapshot;
use crate::error::{Error, Result};
use crate::operator::StateChange;
use crate::operator::change::{Below, ChangedRows, Layer, least};
use crate::state::spill::WholeFile;
use crate::time::Epoch;

/// An operator and a part of its state.
type Part = (String, String);

/// What is written of a snapshot.
pub(super) struct Layers {
    epoch: Epoch,
    /// Parts that are written whole.
    whole: Parts,
    /// What has changed of the others.
    changed: BTreeMap<Part, ChangedRows>,
    /// Operators that have told their changes: what they did not name stands.
    telling: BTreeSet<String>,
}

/// What a file is to be called in the manifest.
pub(super) struct Named {
    pub(super) operator: String,
    pub(super) part: String,
    pub(super) layer: Epoch,
    pub(super) keys: Vec<usize>,
    pub(super) is_sum: bool,
    pub(super) gone: bool,
}

impl Named {
    /// The file at this path.
    pub(super) fn file(self, path: String, file: &NewFile) -> StateFile {
        let facts = (file.rows, file.bytes.len() as u64, file.hash.clone(), file.groups);
        StateFile { until: file.until, ..self.at(path, facts) }
    }

    /// A file at this path that was one before; `columns`: how many of it are the part's.
    pub(super) fn whole(self, path: String, file: &WholeFile, columns: usize) -> StateFile {
        let facts = (file.rows, file.bytes, shown(file.hash), file.groups);
        StateFile { columns: Some(columns), ..self.at(path, facts) }
    }

    fn at(self, path: String, (rows, bytes, hash, groups): (usize, u64, String, [u8; 2])) -> StateFile {
        let Self { operator, part, layer, keys, is_sum, gone } = self;
        let (rows, groups, until, columns) = (rows as u64, Some(groups), None, None);
        StateFile { operator, part, path, rows, bytes, hash, groups, layer, keys, is_sum, gone, until, columns }
    }
}

impl Layers {
    /// Of a snapshot; changes need a checkpoint before.
    pub(super) fn of(snapshot: &JobSnapshot, has_last: bool) -> Result<Self> {
        if !snapshot.changes.is_empty() && !has_last {
            return Err(Error::internal("changes of a state that was never written"));
        }
        let mut whole = by_part(snapshot.state().cloned());
        let mut changed: BTreeMap<Part, ChangedRows> = BTreeMap::new();
        for (operator, changes) in &snapshot.changes {
            for change in changes {
                match change {
                    StateChange::Whole { name, rows } => {
                        whole.entry((operator.clone(), name.clone())).or_default().extend(rows.iter().cloned());
                    }
                    StateChange::Rows(rows) => {
                        let all = changed.entry((operator.clone(), rows.name.clone())).or_default();
                        all.keys.clone_from(&rows.keys);
                        all.is_sum = rows.is_sum;
                        all.rows.extend(rows.rows.iter().cloned());
                        all.gone.extend(rows.gone.iter().cloned());
                        all.below = least(all.below, rows.below);
                    }
                }
            }
        }
        Ok(Self { epoch: snapshot.epoch, whole, changed, telling: snapshot.changes.keys().cloned().collect() })
    }

    /// The files of the checkpoint before that still count, and what is gone of them by its time.
    pub(super) fn carried(&self, earlier: &[StateFile]) -> (Vec<StateFile>, Vec<Expired>) {
        let expired: Vec<Expired> = self
            .changed
            .iter()
            .filter_map(|((operator, part), rows)| {
                let Below { column, at: below } = rows.below?;
                Some(Expired { operator: operator.clone(), part: part.clone(), column, below })
            })
            .collect();
        let is_over = |file: &StateFile| {
            let below = expired.iter().find(|of| (&of.operator, &of.part) == (&file.operator, &file.part));
            below.is_some_and(|of| file.until.is_some_and(|until| until < of.below))
        };
        let counts = |file: &&StateFile| {
            let part = (file.operator.clone(), file.part.clone());
            self.telling.contains(&file.operator) && !self.whole.contains_key(&part) && !is_over(file)
        };
        let files = earlier.iter().filter(counts).cloned().collect();
        (files, expired)
    }

    /// What rows of a part are to be called that were given besides those in memory, and by what they go.
    pub(super) fn named(&self, operator: &str, part: &str) -> (Named, Option<Below>) {
        let of = (operator.to_owned(), part.to_owned());
        let changed = self.changed.get(&of).filter(|_| !self.whole.contains_key(&of));
        let (layer, keys, is_sum) = match changed {
            Some(changed) => (self.epoch, changed.keys.clone(), changed.is_sum),
            None => (0, Vec::new(), false),
        };
        let (operator, part) = of;
        (Named { operator, part, layer, keys, is_sum, gone: false }, changed.and_then(|changed| changed.below))
    }

    /// Makes the new files, one after the other: all of them may be as much as the state.
    pub(super) fn each_file(
        &mut self,
        spare: &Spare,
        give: &mut dyn FnMut(Named, NewFile) -> Result<()>,
    ) -> Result<()> {
        for ((operator, part), rows) in std::mem::take(&mut self.whole) {
            state_file::each_file(rows, None, spare, &mut |file| {
                let (operator, part) = (operator.clone(), part.clone());
                give(Named { operator, part, layer: 0, keys: Vec::new(), is_sum: false, gone: false }, file)
            })?;
        }
        for ((operator, part), changed) in std::mem::take(&mut self.changed) {
            let ChangedRows { keys, is_sum, rows, gone, below, .. } = changed;
            let layer = self.epoch;
            for (batches, below, gone) in [(rows, below, false), (gone, None, true)] {
                state_file::each_file(batches, below, spare, &mut |file| {
                    let (operator, part, keys) = (operator.clone(), part.clone(), keys.clone());
                    give(Named { operator, part, layer, keys, is_sum, gone }, file)
                })?;
            }
        }
        Ok(())
    }
}

/// The layers that files of one part are, the oldest first.
pub(super) fn read(
    files: &[&StateFile],
    mut rows: impl FnMut(&StateFile) -> Result<Vec<RecordBatch>>,
) -> Result<Vec<Layer>> {
    let mut layers: BTreeMap<u64, Layer> = BTreeMap::new();
    for file in files {
        let layer = layers.entry(file.layer).or_default();
        if !file.keys.is_empty() {
            layer.keys.clone_from(&file.keys);
        }
        layer.is_sum |= file.is_sum;
        let batches = rows(file)?;
        if file.gone { layer.gone.extend(batches) } else { layer.rows.extend(batches) }
    }
    Ok(layers.into_values().collect())
}

/// Files that stand in place of others of the same part.
#[derive(Debug, Clone)]
pub(crate) struct Compacted {
    /// Paths of those that they came from.
    pub(super) from: BTreeSet<String>,
    pub(super) operator: String,
    pub(super) part: String,
    /// The layers that they came from, the least and the greatest.
    pub(super) layers: [u64; 2],
    pub(super) files: Vec<StateFile>,
}

impl Compacted {
    /// Puts them in place of the others, if those are all there.
    pub(super) fn replace(self, files: &mut Vec<StateFile>) {
        let [least, greatest] = self.layers;
        let is_one = |file: &StateFile| {
            (&file.operator, &file.part) == (&self.operator, &self.part) && (least..=greatest).contains(&file.layer)
        };
        let there: BTreeSet<&str> = files.iter().filter(|file| is_one(file)).map(|file| file.path.as_str()).collect();
        // Some may have gone by their time meanwhile; none may have come.
        if there.is_empty() || !there.iter().all(|path| self.from.contains(*path)) {
            return;
        }
        files.retain(|file| !is_one(file));
        files.extend(self.files);
    }
}
