//! Layers that have become many are put together, and all of them when the changes outweigh what they change: from the files,
//! beside the job, a few key groups at a time. The next checkpoint has the new files in place of the old ones.
//!
//! Where rows only come, and never go, nothing outweighs anything: only small files are put together.

use std::collections::{BTreeMap, BTreeSet};

use super::deferred::{FILE_BYTES, Pieces};
use super::layers::{Compacted, Named};
use super::manifest::{Expired, Manifest, StateFile};
use super::pages::Spare;
use super::state_file;
use super::store::JobStore;
use crate::error::Result;
use crate::operator::change::{Layer, merged_changes};

/// So many layers of about one size become one.
const ALIKE: usize = 8;
/// How much larger one of them may be than the youngest.
const TIMES: u64 = 8;
/// Layers up to this size are alike.
const SMALL: u64 = 256 << 10;

/// Layers of one part that are to be put together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan<'a> {
    pub(super) files: Vec<&'a StateFile>,
    /// Whether there are no older layers, so that nothing is left of what is gone.
    pub(super) from_the_first: bool,
}

/// What is worth to be put together.
pub(super) fn plans(manifest: &Manifest) -> Vec<Plan<'_>> {
    let mut parts: BTreeMap<(&str, &str), BTreeMap<u64, Vec<&StateFile>>> = BTreeMap::new();
    for file in &manifest.files {
        parts.entry((&file.operator, &file.part)).or_default().entry(file.layer).or_default().push(file);
    }
    let go = |part: &(&str, &str)| manifest.expired.iter().any(|of| (of.operator.as_str(), of.part.as_str()) == *part);
    parts.into_iter().filter_map(|(part, layers)| plan(layers, go(&part))).collect()
}

/// `go`: rows of the part go by their time.
fn plan(layers: BTreeMap<u64, Vec<&StateFile>>, go: bool) -> Option<Plan<'_>> {
    let sizes: Vec<u64> = layers.values().map(|files| files.iter().map(|file| file.bytes).sum()).collect();
    let (base, changes) = sizes.split_first()?;
    let youngest = changes.last()?;
    let only_come = !go && layers.values().flatten().all(|file| file.only_come());
    let is_large: Vec<bool> =
        layers.values().zip(&sizes).map(|(files, size)| *size >= (files.len() * FILE_BYTES) as u64).collect();
    let from = if !only_come && changes.iter().sum::<u64>() > (*base).max(SMALL) {
        0
    } else {
        let is_alike = |size: u64, is_large: bool| size <= (youngest * TIMES).max(SMALL) && !(only_come && is_large);
        let alike = changes.iter().zip(&is_large[1..]).rev().take_while(|(size, large)| is_alike(**size, **large));
        let alike = alike.count();
        if alike < ALIKE {
            return None;
        }
        sizes.len() - alike
    };
    Some(Plan { files: layers.into_values().skip(from).flatten().collect(), from_the_first: from == 0 })
}

impl JobStore {
    /// Puts layers of a checkpoint together; given up when `is_over`.
    pub(super) fn compact(
        &self,
        manifest: &Manifest,
        plan: &Plan<'_>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<Compacted>> {
        let Some(first) = plan.files.first() else { return Ok(None) };
        let (operator, part) = (first.operator.clone(), first.part.clone());
        let numbers = || plan.files.iter().map(|file| file.layer);
        let layers = [numbers().min().unwrap_or(0), numbers().max().unwrap_or(0)];
        let from = plan.files.iter().map(|file| file.path.clone()).collect();
        let mut compacted = Compacted { from, operator, part, layers, files: Vec::new() };
        let below = manifest
            .expired
            .iter()
            .find(|of| (&of.operator, &of.part) == (&compacted.operator, &compacted.part))
            .map(Expired::below);
        let mut pieces = Pieces::new(self, manifest, plan.files.clone());
        let spare = Spare::default();
        for piece in 0..pieces.count() {
            if is_over() {
                self.let_go(compacted.files.iter().map(|file| file.path.as_str()));
                return Ok(None);
            }
            let layers = pieces.layers(piece)?;
            let Layer { keys, is_sum, rows, gone } = merged_changes(&layers, below)?;
            let (keys, gone) = if plan.from_the_first { (Vec::new(), Vec::new()) } else { (keys, gone) };
            let is_sum = is_sum && !plan.from_the_first;
            for (batches, below, gone) in [(rows, below, false), (gone, None, true)] {
                let Some(file) = state_file::file(&batches, below, &spare)? else { continue };
                let named = Named {
                    operator: compacted.operator.clone(),
                    part: compacted.part.clone(),
                    layer: compacted.layers[1],
                    keys: keys.clone(),
                    is_sum,
                    gone,
                };
                let path = self.put_early(&file)?;
                compacted.files.push(named.file(path, &file));
            }
        }
        Ok(Some(compacted))
    }
}

/// The paths of files that were written early.
pub(super) fn paths(compacted: &[Compacted]) -> BTreeSet<String> {
    compacted.iter().flat_map(|compacted| &compacted.files).map(|file| file.path.clone()).collect()
}
