//! One side of a join: its rows, the index over their keys, how many rows each meets, and what lets them go.

mod ages;
mod changed;
mod counts;
mod pledged;
mod share;
mod spilling;
mod tidying;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{filter, filter_record_batch, not, take};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::physical_expr::expressions::Column;
use hashbrown::HashTable;

use self::ages::BlockAges;
use self::changed::Changed;
use self::counts::Touched;
use self::pledged::Pledged;
pub(super) use self::share::{Share, key_groups};
use super::super::columns::{canonical, holds_floats, same};
use super::super::consolidate::RowIdentity;
use super::super::expression::Expression;
use super::index::KeyIndex;
use super::probe::Pairs;
use super::release::{Release, ticks};
use super::store::{Address, Block, NOWHERE, Store, address, block_of, row_of};
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::StateSize;
use crate::state::spill::Cold;

/// Fixed, so that two runs with one seed do the same; no checkpoint holds such a hash.
const HASHER: RandomState = RandomState::with_seed(0x5249_4e47);

/// What is remembered of a side's rows besides the rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// Rows may be retracted: each has a weight, and equal rows are one row.
    pub(super) changelog: bool,
    /// How many rows of the other side each row meets.
    pub(super) counted: bool,
    /// Which rows were touched in an epoch, and what they were before.
    pub(super) watched: bool,
    /// Rows whose key or time is NULL are handed back, since they have no match for certain.
    pub(super) keyless: bool,
}

/// A delta as a side sees it: keys evaluated and hashed, rows that can't meet any other gone, since a key is NULL.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The input's columns, then the keys that had to be computed.
    pub(super) columns: Vec<ArrayRef>,
    pub(super) weights: Option<Int64Array>,
    /// One hash of the key per row.
    pub(super) hashes: Vec<u64>,
    /// Rows whose key or time is NULL, if the side hands them back.
    pub(super) keyless: Option<Delta>,
}

impl Arrivals {
    fn filter(self, mask: &BooleanArray) -> Result<Self> {
        let columns = self.columns.iter().map(|column| Ok(filter(column, mask)?)).collect::<Result<_>>()?;
        let weights = match &self.weights {
            Some(weights) => Some(filter(weights, mask)?.as_primitive::<Int64Type>().clone()),
            None => None,
        };
        let hashes = self.hashes.iter().zip(mask.values()).filter(|(_, keep)| *keep).map(|(hash, _)| *hash).collect();
        Ok(Self { columns, weights, hashes, keyless: self.keyless })
    }

    fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }
}

/// What is stored of rows besides their columns, one each. What the side does not remember is empty.
#[derive(Debug, Clone, Copy, Default)]
struct Entries<'a> {
    hashes: &'a [u64],
    weights: &'a [i64],
    identities: &'a [u64],
    matches: &'a [i64],
    /// Of rows that have theirs: new ones are given some.
    numbers: &'a [u64],
    /// Of rows that only move: whether they have changed since the side was last written down.
    changed: &'a [bool],
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Side {
    pub(super) schema: SchemaRef,
    pub(super) memory: Memory,
    null_equals_null: bool,
    /// Keys that are not columns of the input as they stand.
    computed: Vec<Expression>,
    /// Where each key is among the columns (the input's, then the computed ones).
    pub(super) keys: Vec<usize>,
    pub(super) release: Option<Release>,
    /// Of a join without keys on several workers.
    pub(super) share: Option<Share>,
    /// On which worker it stands, of how many.
    pub(super) place: (usize, usize),
    /// Rows of a watched side that were touched in this epoch, each once.
    touched: Vec<Touched>,
    /// Something to tidy up at the end of the epoch.
    pub(super) untidy: bool,
    store: Store,
    index: KeyIndex,
    /// Of a changelog: finds a row by all its columns.
    identities: HashTable<Address>,
    live: usize,
    /// Lets rows go a time after they came, where no watermark does.
    ages: Option<BlockAges>,
    changed: Changed,
    /// Rows that memory has no room for, if there is a place for them.
    cold: Option<Cold>,
    /// Of them, what the next checkpoint is to have as it is: if checkpoints do.
    pledged: Option<Pledged>,
}

impl Side {
    pub(super) fn new(
        schema: SchemaRef,
        memory: Memory,
        keys: Vec<Expression>,
        null_equals_null: bool,
        release: Option<Release>,
    ) -> Self {
        let width = schema.fields().len();
        let (mut computed, mut places) = (Vec::new(), Vec::new());
        for key in keys {
            let plain = key.physical().downcast_ref::<Column>().map(Column::index);
            match plain {
                Some(column) if !holds_floats(schema.field(column).data_type()) => places.push(column),
                _ => {
                    places.push(width + computed.len());
                    computed.push(key);
                }
            }
        }
        Self {
            schema,
            memory,
            null_equals_null,
            computed,
            keys: places,
            release,
            share: None,
            place: (0, 1),
            touched: Vec::new(),
            untidy: false,
            store: Store::default(),
            index: KeyIndex::default(),
            identities: HashTable::new(),
            live: 0,
            ages: None,
            changed: Changed::default(),
            cold: None,
            pledged: None,
        }
    }

    /// Lets rows go so many microseconds after they came, if nothing else does.
    pub(super) fn forget_after(&mut self, ttl_micros: i64) {
        if self.release.is_none() {
            self.ages = Some(BlockAges::new(ttl_micros));
        }
    }

    /// Whether each row has a number by which it is written down: rows of an append-only input may be equal, and those of a
    /// counted side change, and those that go a time after they came do so one by one.
    pub(super) fn is_numbered(&self) -> bool {
        !self.memory.changelog && (self.memory.counted || self.ages.is_some())
    }

    pub(super) fn index(&self) -> &KeyIndex {
        &self.index
    }

    /// Makes the index ready for look-ups: see [`KeyIndex::prepare`].
    pub(super) fn prepare(&mut self, lookups: usize, limit: usize) -> bool {
        self.index.prepare(lookups, limit)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Evaluates and hashes the keys.
    pub(super) fn arrivals(&self, delta: &Delta) -> Result<Arrivals> {
        let mut columns = delta.rows().columns().to_vec();
        for key in &self.computed {
            columns.push(canonical(&key.evaluate(delta.rows())?)?);
        }
        let hashes = self.hashes(&columns, delta.num_rows())?;
        let mut arrivals = Arrivals { columns, weights: delta.weights().cloned(), hashes, keyless: None };
        if self.null_equals_null {
            return Ok(arrivals);
        }
        // A row without a time meets nothing either, where the condition binds times to each other.
        let compared = self.keys.iter().copied().chain(self.release.as_ref().map(|release| release.column));
        let nulls = compared.fold(None, |nulls: Option<NullBuffer>, column| {
            NullBuffer::union(nulls.as_ref(), arrivals.columns[column].logical_nulls().as_ref())
        });
        match nulls {
            Some(nulls) if nulls.null_count() > 0 => {
                let mask = BooleanArray::new(nulls.inner().clone(), None);
                if self.memory.keyless {
                    arrivals.keyless = Some(filtered(delta, &not(&mask)?)?);
                }
                arrivals.filter(&mask)
            }
            _ => Ok(arrivals),
        }
    }

    fn hashes(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let mut hashes = vec![0; rows];
        create_hashes(self.keys.iter().map(|key| &columns[*key]), &HASHER, &mut hashes)?;
        Ok(hashes)
    }

    /// Takes rows into the state: new ones are copied, those of a changelog that are there change their weight. Of a
    /// counted side it answers where each new row is, and [`NOWHERE`] for the others.
    pub(super) fn absorb(&mut self, arrivals: &Arrivals) -> Result<Vec<Address>> {
        if arrivals.hashes.is_empty() {
            return Ok(Vec::new());
        }
        // A counted row is stored for the rest of the epoch even if nothing new can meet it: it may have met something.
        let useful = match &self.release {
            Some(release) if !self.memory.counted => release.useful(&arrivals.columns)?,
            _ => None,
        };
        match useful {
            Some(keep) if keep.true_count() == 0 => Ok(Vec::new()),
            Some(keep) if keep.true_count() < arrivals.hashes.len() => {
                let copy = Arrivals {
                    columns: arrivals.columns.clone(),
                    weights: arrivals.weights.clone(),
                    hashes: arrivals.hashes.clone(),
                    keyless: None,
                };
                self.absorb_all(&copy.filter(&keep)?)
            }
            _ => self.absorb_all(arrivals),
        }
    }

    fn absorb_all(&mut self, arrivals: &Arrivals) -> Result<Vec<Address>> {
        if self.memory.changelog {
            return self.change(arrivals);
        }
        let matches = vec![0; if self.memory.counted { arrivals.hashes.len() } else { 0 }];
        let entries = Entries { hashes: &arrivals.hashes, matches: &matches, ..Entries::default() };
        let new = self.insert(&arrivals.columns, entries)?;
        self.touch_new(&new);
        Ok(new)
    }

    /// Changes weights of rows that are stored, and inserts the others: equal rows are stored as one, since what each row weighs now
    /// is written down by what it is. Arrivals with weights are consolidated, those that only come may be equal.
    fn change(&mut self, arrivals: &Arrivals) -> Result<Vec<Address>> {
        let width = self.schema.fields().len();
        let count = arrivals.hashes.len();
        let identity = (width > 0).then(|| RowIdentity::new(&arrivals.columns[..width])).transpose()?;
        let identities: Vec<u64> =
            (0..count).map(|row| identity.as_ref().map_or(0, |identity| identity.hash(row))).collect();
        let mut pairs = Pairs::default();
        for (row, hash) in identities.iter().enumerate() {
            for address in self.identities.iter_hash(*hash) {
                if self.store.identity(*address) == *hash {
                    pairs.rows.push(row as u32);
                    pairs.addresses.push(*address);
                }
            }
        }
        let all: Vec<_> = (0..width).map(|column| (column, column)).collect();
        self.retain_matching(&mut pairs, &arrivals.columns, &all)?;
        let mut known = vec![NOWHERE; count];
        for (row, address) in pairs.rows.iter().zip(&pairs.addresses) {
            known[*row as usize] = *address;
        }
        let (fresh, weights) = self.without_known(arrivals, &known, identity.as_ref(), &identities);
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let pick = |values: &[u64]| fresh.iter().map(|row| values[*row as usize]).collect::<Vec<_>>();
        let (hashes, identities) = (pick(&arrivals.hashes), pick(&identities));
        let matches = vec![0; if self.memory.counted { fresh.len() } else { 0 }];
        let entries = Entries {
            hashes: &hashes,
            weights: &weights,
            identities: &identities,
            matches: &matches,
            ..Entries::default()
        };
        let new = if fresh.len() == count {
            self.insert(&arrivals.columns, entries)?
        } else {
            let places = UInt32Array::from(fresh.clone());
            let columns =
                arrivals.columns.iter().map(|column| Ok(take(column, &places, None)?)).collect::<Result<Vec<_>>>()?;
            self.insert(&columns, entries)?
        };
        self.touch_new(&new);
        if new.is_empty() || fresh.len() == count {
            return Ok(new);
        }
        let mut places = vec![NOWHERE; count];
        for (row, address) in fresh.into_iter().zip(new) {
            places[row as usize] = address;
        }
        Ok(places)
    }

    /// Changes the weights of rows that are stored. Answers the others, equal ones once, and what each weighs.
    fn without_known(
        &mut self,
        arrivals: &Arrivals,
        known: &[Address],
        identity: Option<&RowIdentity>,
        identities: &[u64],
    ) -> (Vec<u32>, Vec<i64>) {
        let (mut fresh, mut weights): (Vec<u32>, Vec<i64>) = Default::default();
        // Of arrivals that only come: finds the first of equal ones, by its place among the fresh.
        let mut firsts: HashTable<u32> = HashTable::new();
        let only_come = arrivals.weights.is_none() && known.len() > 1;
        let equal = |one: usize, other: usize| identity.is_none_or(|identity| identity.equal(one, other));
        // And what equal ones add to a stored row comes to it at once: a row that weighs nothing in between would be gone.
        let mut added: Vec<(Address, u64, i64)> = Vec::new();
        for (row, known) in known.iter().enumerate() {
            let (hash, weight) = (identities[row], arrivals.weight(row));
            if *known != NOWHERE {
                match only_come {
                    true => added.push((*known, arrivals.hashes[row], weight)),
                    false => self.add_weight(*known, arrivals.hashes[row], weight),
                }
                continue;
            }
            if only_come {
                let first = |at: &u32| fresh[*at as usize] as usize;
                if let Some(at) = firsts.find(hash, |at| identities[first(at)] == hash && equal(first(at), row)) {
                    weights[*at as usize] += weight;
                    continue;
                }
                firsts.insert_unique(hash, fresh.len() as u32, |at| identities[first(at)]);
            }
            fresh.push(row as u32);
            weights.push(weight);
        }
        added.sort_unstable_by_key(|(address, ..)| *address);
        for same in added.chunk_by(|(one, ..), (other, ..)| one == other) {
            let (address, hash, _) = same[0];
            self.add_weight(address, hash, same.iter().map(|(.., weight)| weight).sum());
        }
        (fresh, weights)
    }

    /// Takes up rows of a snapshot: `matches` is one per row of a counted side, `numbers` of a numbered one.
    pub(super) fn take_up(&mut self, delta: &Delta, matches: &[i64], numbers: &[u64]) -> Result<()> {
        let arrivals = self.arrivals(delta)?;
        let weights: Vec<i64> = match self.memory.changelog {
            true => (0..arrivals.hashes.len()).map(|row| arrivals.weight(row)).collect(),
            false => Vec::new(),
        };
        let identities: Vec<u64> = match (self.memory.changelog, self.schema.fields().len()) {
            (false, _) => Vec::new(),
            (true, 0) => vec![0; arrivals.hashes.len()],
            (true, width) => {
                let identity = RowIdentity::new(&arrivals.columns[..width])?;
                (0..arrivals.hashes.len()).map(|row| identity.hash(row)).collect()
            }
        };
        let (hashes, weights, identities) = (&arrivals.hashes[..], &weights[..], &identities[..]);
        let entries = Entries { hashes, weights, identities, matches, numbers, ..Entries::default() };
        self.insert(&arrivals.columns, entries)?;
        Ok(())
    }

    /// The weight of a stored row.
    pub(super) fn weight(&self, address: Address) -> i64 {
        if self.memory.changelog { self.store.weight(address) } else { 1 }
    }

    /// Takes rows out whose weight has become zero.
    pub(super) fn forget(&mut self, gone: &[Address]) -> Result<()> {
        let hashes = self.hashes_of(gone)?;
        for (address, hash) in gone.iter().zip(hashes) {
            self.remove(*address, hash);
        }
        Ok(())
    }

    fn add_weight(&mut self, address: Address, hash: u64, weight: i64) {
        self.touch(address);
        self.note_changed(address);
        let Some(block) = self.store.block_mut(block_of(address)) else { return };
        let sum = &mut block.weights[row_of(address)];
        *sum += weight;
        // A watched row is taken out when the epoch's end has seen what it was.
        if *sum == 0 && !self.memory.watched {
            self.remove(address, hash);
        }
    }

    /// Takes a row out of both indexes; its bytes go with its block.
    fn remove(&mut self, address: Address, hash: u64) {
        self.index.remove(address, hash);
        self.live -= 1;
        self.untidy = true;
        let identity = self.memory.changelog.then(|| self.store.identity(address));
        if let Some(identity) = identity
            && let Ok(entry) = self.identities.find_entry(identity, |other| *other == address)
        {
            entry.remove();
        }
        if let Some(block) = self.store.block_mut(block_of(address)) {
            block.live -= 1;
            if let Some(weight) = block.weights.get_mut(row_of(address)) {
                *weight = 0;
            }
        }
    }

    /// Keeps the pairs in which column `.0` of `columns` equals column `.1` of this side's rows.
    pub(super) fn retain_matching(
        &self,
        pairs: &mut Pairs,
        columns: &[ArrayRef],
        compared: &[(usize, usize)],
    ) -> Result<()> {
        if pairs.rows.is_empty() {
            return Ok(());
        }
        let mut mask: Option<BooleanArray> = None;
        let rows = UInt32Array::from(pairs.rows.clone());
        let stored = self.store.gather(&pairs.addresses);
        for (column, of_this_side) in compared {
            let theirs = canonical(&take(&columns[*column], &rows, None)?)?;
            let equal = same(&theirs, &canonical(&stored.column(*of_this_side)?)?)?;
            mask = Some(match mask {
                Some(mask) => arrow::compute::and(&mask, &equal)?,
                None => equal,
            });
        }
        if let Some(mask) = mask {
            pairs.retain(&mask);
        }
        Ok(())
    }

    /// Stores rows that are not there. Of a counted side it answers where they are.
    fn insert(&mut self, columns: &[ArrayRef], entries: Entries<'_>) -> Result<Vec<Address>> {
        let (hashes, is_numbered) = (entries.hashes, self.is_numbered());
        let mut new = Vec::with_capacity(if self.memory.counted { hashes.len() } else { 0 });
        let mut from = 0;
        while from < hashes.len() {
            let (first, count) = self.store.append(columns, from, hashes.len())?;
            for (offset, hash) in hashes[from..from + count].iter().enumerate() {
                self.index.insert(first + offset as u32, *hash);
            }
            if let Some(ages) = &mut self.ages {
                ages.note(block_of(first));
            }
            let (earliest, latest) = match &self.release {
                Some(release) => range(&ticks(&columns[release.column].slice(from, count))?),
                None => (i64::MAX, i64::MAX),
            };
            // The other side may have promised long ago that nothing will meet them, and say nothing more.
            self.untidy |= self.release.as_ref().is_some_and(|release| earliest < release.released_below);
            if let Some(block) = self.store.block_mut(block_of(first)) {
                block.live += count;
                let carried = entries.changed.get(from..from + count).unwrap_or_default();
                self.changed.of_new(&mut block.changed, count, carried);
                block.earliest = block.earliest.min(earliest);
                block.latest = block.latest.max(latest);
                if self.memory.changelog {
                    block.weights.extend_from_slice(&entries.weights[from..from + count]);
                    block.identities.extend_from_slice(&entries.identities[from..from + count]);
                }
                if self.memory.counted {
                    block.matches.extend_from_slice(&entries.matches[from..from + count]);
                    block.touched.resize(block.matches.len(), false);
                }
                if is_numbered {
                    self.changed.number(&mut block.numbers, count, entries.numbers.get(from..from + count));
                }
            }
            if self.memory.changelog {
                let store = &self.store;
                for (offset, identity) in entries.identities[from..from + count].iter().enumerate() {
                    self.identities.insert_unique(*identity, first + offset as u32, |at| store.identity(*at));
                }
            }
            if self.memory.counted {
                new.extend((0..count as u32).map(|offset| first + offset));
            }
            self.live += count;
            from += count;
        }
        Ok(new)
    }

    fn hashes_of(&self, addresses: &[Address]) -> Result<Vec<u64>> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let gather = self.store.gather(addresses);
        let mut hashes = vec![0; addresses.len()];
        let keys = self.keys.iter().map(|key| gather.column(*key)).collect::<Result<Vec<_>>>()?;
        create_hashes(&keys, &HASHER, &mut hashes)?;
        Ok(hashes)
    }

    /// Addresses of a block's live rows, in order.
    pub(super) fn live_rows(&self, number: usize) -> Vec<Address> {
        let rows = self.store.block(number).map_or(0, Block::rows);
        (0..rows).map(|row| address(number, row)).filter(|at| self.index.is_live(*at)).collect()
    }

    /// Columns of a stored row, computed keys included.
    pub(super) fn width(&self) -> usize {
        self.schema.fields().len() + self.computed.len()
    }

    pub(super) fn size(&self) -> StateSize {
        let rows = self.live + self.spilled().rows;
        StateSize { rows, bytes: self.rows_bytes() + self.spilled_index() + self.store.kept() }
    }

    /// Bytes of memory of the rows that are not on disk, and of what is known of them.
    pub(super) fn rows_bytes(&self) -> usize {
        self.store.memory_size() + self.index_bytes() + self.changed.bytes()
    }

    fn index_bytes(&self) -> usize {
        self.index.memory_size() + self.identities.allocation_size()
    }
}

/// The rows for which the mask is true.
fn filtered(delta: &Delta, mask: &BooleanArray) -> Result<Delta> {
    let weights = match delta.weights() {
        Some(weights) => Some(filter(weights, mask)?.as_primitive::<Int64Type>().clone()),
        None => None,
    };
    Ok(Delta::new(filter_record_batch(delta.rows(), mask)?, weights))
}

/// The least and the greatest time; what has no time is never over.
fn range(times: &Int64Array) -> (i64, i64) {
    let latest = if times.null_count() > 0 { None } else { arrow::compute::max(times) };
    (arrow::compute::min(times).unwrap_or(i64::MAX), latest.unwrap_or(i64::MAX))
}
