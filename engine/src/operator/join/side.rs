//! One side of a join: its rows, the index over their keys, and what lets them go.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, filter, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::physical_expr::expressions::Column;
use hashbrown::HashTable;

use super::super::columns::{canonical, holds_floats, same};
use super::super::consolidate::RowIdentity;
use super::super::expression::Expression;
use super::index::KeyIndex;
use super::probe::Pairs;
use super::store::{Address, Block, NOWHERE, Store, address, block_of, row_of};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::operator::StateSize;
use crate::time::{WatermarkId, Watermarks};

/// Fixed, so that two runs with one seed do the same; no checkpoint holds such a hash.
const HASHER: RandomState = RandomState::with_seed(0x5249_4e47);

/// A block that is still being filled is only compacted when it has this many rows.
const SMALLEST_COMPACTION: usize = 1024;

/// How rows of one side are let go: they match only rows of the other side that have the same time.
#[derive(Debug, Clone)]
pub(super) struct Release {
    /// This side's column.
    pub(super) column: usize,
    /// The other side's, equal to it in every match.
    pub(super) other_column: usize,
    /// The column's unit.
    pub(super) unit: TimeUnit,
    /// What the *other* side promises of its own column: watermarks and the delays behind them.
    pub(super) promises: Vec<(WatermarkId, i64)>,
}

/// A delta as a side sees it: keys evaluated and hashed, rows whose key is NULL gone.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The input's columns, then the keys that had to be computed.
    pub(super) columns: Vec<ArrayRef>,
    pub(super) weights: Option<Int64Array>,
    /// One hash of the key per row.
    pub(super) hashes: Vec<u64>,
}

impl Arrivals {
    fn filter(self, mask: &BooleanArray) -> Result<Self> {
        let columns = self.columns.iter().map(|column| Ok(filter(column, mask)?)).collect::<Result<_>>()?;
        let weights = match &self.weights {
            Some(weights) => Some(filter(weights, mask)?.as_primitive::<Int64Type>().clone()),
            None => None,
        };
        let hashes = self.hashes.iter().zip(mask.values()).filter(|(_, keep)| *keep).map(|(hash, _)| *hash).collect();
        Ok(Self { columns, weights, hashes })
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Side {
    pub(super) schema: SchemaRef,
    /// Whether rows may be retracted; then each stored row has a weight, and equal rows are one row.
    pub(super) changelog: bool,
    null_equals_null: bool,
    /// Keys that are not columns of the input as they stand.
    computed: Vec<Expression>,
    /// Where each key is among the columns (the input's, then the computed ones).
    pub(super) keys: Vec<usize>,
    release: Option<Release>,
    /// Rows whose time, in ticks of its column, lies below can't match any more.
    pub(super) released_below: i64,
    /// Something to tidy up at the end of the epoch.
    pub(super) untidy: bool,
    store: Store,
    index: KeyIndex,
    /// Of a changelog: finds a row by all its columns.
    identities: HashTable<Address>,
    live: usize,
}

impl Side {
    pub(super) fn new(
        schema: SchemaRef,
        changelog: bool,
        keys: Vec<Expression>,
        null_equals_null: bool,
        release: Option<Release>,
    ) -> Result<Self> {
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
        Ok(Self {
            schema,
            changelog,
            null_equals_null,
            computed,
            keys: places,
            release,
            released_below: i64::MIN,
            untidy: false,
            store: Store::default(),
            index: KeyIndex::default(),
            identities: HashTable::new(),
            live: 0,
        })
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
        let arrivals = Arrivals { columns, weights: delta.weights().cloned(), hashes };
        if self.null_equals_null {
            return Ok(arrivals);
        }
        let nulls = self.keys.iter().fold(None, |nulls: Option<NullBuffer>, key| {
            NullBuffer::union(nulls.as_ref(), arrivals.columns[*key].logical_nulls().as_ref())
        });
        match nulls {
            Some(nulls) if nulls.null_count() > 0 => arrivals.filter(&BooleanArray::new(nulls.inner().clone(), None)),
            _ => Ok(arrivals),
        }
    }

    fn hashes(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let mut hashes = vec![0; rows];
        create_hashes(self.keys.iter().map(|key| &columns[*key]), &HASHER, &mut hashes)?;
        Ok(hashes)
    }

    /// Takes rows into the state: new ones are copied, those of a changelog that are there change their weight.
    pub(super) fn absorb(&mut self, arrivals: &Arrivals) -> Result<()> {
        if arrivals.hashes.is_empty() {
            return Ok(());
        }
        if let Some(keep) = self.not_released(arrivals)? {
            if keep.true_count() == 0 {
                return Ok(());
            }
            if keep.true_count() < arrivals.hashes.len() {
                let copy = Arrivals {
                    columns: arrivals.columns.clone(),
                    weights: arrivals.weights.clone(),
                    hashes: arrivals.hashes.clone(),
                };
                return self.absorb_all(&copy.filter(&keep)?);
            }
        }
        self.absorb_all(arrivals)
    }

    fn absorb_all(&mut self, arrivals: &Arrivals) -> Result<()> {
        if self.changelog { self.change(arrivals) } else { self.insert(&arrivals.columns, &arrivals.hashes, &[], &[]) }
    }

    /// Which arrivals are worth storing; `None`: all.
    fn not_released(&self, arrivals: &Arrivals) -> Result<Option<BooleanArray>> {
        match &self.release {
            Some(release) => self.not_below(&arrivals.columns[release.column]),
            None => Ok(None),
        }
    }

    /// Which of the *other* side's rows are not late: rows of this side that they could match may be gone. `None`: all.
    pub(super) fn on_time(&self, others: &[ArrayRef]) -> Result<Option<BooleanArray>> {
        match &self.release {
            Some(release) => self.not_below(&others[release.other_column]),
            None => Ok(None),
        }
    }

    fn not_below(&self, times: &ArrayRef) -> Result<Option<BooleanArray>> {
        if self.released_below == i64::MIN {
            return Ok(None);
        }
        let times = ticks(times)?;
        if arrow::compute::min(&times).is_none_or(|least| least >= self.released_below) {
            return Ok(None);
        }
        Ok(Some(times.iter().map(|time| Some(time.is_none_or(|time| time >= self.released_below))).collect()))
    }

    /// Changes weights of rows that are stored, and inserts the others. The arrivals are consolidated: no two are equal.
    fn change(&mut self, arrivals: &Arrivals) -> Result<()> {
        let width = self.schema.fields().len();
        let count = arrivals.hashes.len();
        let identity = RowIdentity::new(&arrivals.columns[..width])?;
        let identities: Vec<u64> = (0..count).map(|row| identity.hash(row)).collect();
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
        let weight = |row: usize| arrivals.weights.as_ref().map_or(1, |weights| weights.value(row));
        let mut fresh: Vec<u32> = Vec::new();
        for (row, known) in known.into_iter().enumerate() {
            if known == NOWHERE {
                fresh.push(row as u32);
            } else {
                self.add_weight(known, arrivals.hashes[row], weight(row));
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let pick = |values: &[u64]| fresh.iter().map(|row| values[*row as usize]).collect::<Vec<_>>();
        let weights: Vec<i64> = fresh.iter().map(|row| weight(*row as usize)).collect();
        let (hashes, identities) = (pick(&arrivals.hashes), pick(&identities));
        if fresh.len() == count {
            return self.insert(&arrivals.columns, &hashes, &weights, &identities);
        }
        let fresh = UInt32Array::from(fresh);
        let columns =
            arrivals.columns.iter().map(|column| Ok(take(column, &fresh, None)?)).collect::<Result<Vec<_>>>()?;
        self.insert(&columns, &hashes, &weights, &identities)
    }

    fn add_weight(&mut self, address: Address, hash: u64, weight: i64) {
        let Some(block) = self.store.block_mut(block_of(address)) else { return };
        let sum = &mut block.weights[row_of(address)];
        *sum += weight;
        if *sum == 0 {
            self.remove(address, hash);
        }
    }

    /// Takes a row out of both indexes; its bytes go with its block.
    fn remove(&mut self, address: Address, hash: u64) {
        self.index.remove(address, hash);
        self.live -= 1;
        self.untidy = true;
        let identity = self.changelog.then(|| self.store.identity(address));
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

    /// Stores rows that are not there; of a changelog with their weights and identities.
    fn insert(&mut self, columns: &[ArrayRef], hashes: &[u64], weights: &[i64], identities: &[u64]) -> Result<()> {
        let mut from = 0;
        while from < hashes.len() {
            let (first, count) = self.store.append(columns, from)?;
            for (offset, hash) in hashes[from..from + count].iter().enumerate() {
                self.index.insert(first + offset as u32, *hash);
            }
            let (earliest, latest) = match &self.release {
                Some(release) => range(&ticks(&columns[release.column].slice(from, count))?),
                None => (i64::MAX, i64::MAX),
            };
            if let Some(block) = self.store.block_mut(block_of(first)) {
                block.live += count;
                block.earliest = block.earliest.min(earliest);
                block.latest = block.latest.max(latest);
                if self.changelog {
                    block.weights.extend_from_slice(&weights[from..from + count]);
                    block.identities.extend_from_slice(&identities[from..from + count]);
                }
            }
            if self.changelog {
                let store = &self.store;
                for (offset, identity) in identities[from..from + count].iter().enumerate() {
                    self.identities.insert_unique(*identity, first + offset as u32, |at| store.identity(*at));
                }
            }
            self.live += count;
            from += count;
        }
        Ok(())
    }

    /// Moves the time below which rows are let go; [`Side::tidy`] does it.
    pub(super) fn advance(&mut self, watermarks: &Watermarks) {
        let Some(release) = &self.release else { return };
        let reached = release.promises.iter().filter_map(|(id, delay)| {
            watermarks.get(*id).map(|at| if at == i64::MAX { at } else { at.saturating_sub(*delay) })
        });
        let Some(micros) = reached.max() else { return };
        let below = first_tick_at(micros, release.unit);
        if below > self.released_below {
            self.released_below = below;
            self.untidy = true;
        }
    }

    /// Lets rows of a block go that can't match any more, and moves the others when most of it is dead. Answers how
    /// many rows that touched.
    pub(super) fn tidy(&mut self, number: usize) -> Result<usize> {
        let Some(block) = self.store.block(number) else { return Ok(0) };
        let mut touched = 0;
        if block.latest < self.released_below && !self.changelog && self.index.is_unlinked(number) {
            self.live -= block.live;
            self.drop_block(number);
            return Ok(1);
        }
        if block.earliest < self.released_below {
            touched += block.rows();
            self.let_go(number)?;
        }
        let Some(block) = self.store.block(number) else { return Ok(touched) };
        let (live, rows) = (block.live, block.rows());
        if live == 0 {
            self.drop_block(number);
        } else if live * 2 <= rows && (!self.store.is_tail(number) || rows >= SMALLEST_COMPACTION) {
            touched += live;
            self.compact(number)?;
        }
        Ok(touched)
    }

    /// To be called when all blocks were tidied.
    pub(super) fn finish_tidying(&mut self) {
        self.untidy = false;
        self.index.shrink();
        if self.identities.capacity() > 1024 && self.identities.len() * 4 < self.identities.capacity() {
            let store = &self.store;
            self.identities.shrink_to(self.identities.len() * 2, |at| store.identity(*at));
        }
    }

    fn let_go(&mut self, number: usize) -> Result<()> {
        let (Some(release), Some(block)) = (&self.release, self.store.block(number)) else { return Ok(()) };
        let mut gone: Vec<Address> = Vec::new();
        let mut earliest = i64::MAX;
        for (start, piece) in block.pieces(release.column) {
            for (row, time) in ticks(piece)?.iter().enumerate() {
                let at = address(number, start + row);
                let Some(time) = time else { continue };
                if self.index.is_live(at) {
                    if time < self.released_below {
                        gone.push(at);
                    } else {
                        earliest = earliest.min(time);
                    }
                }
            }
        }
        let hashes = self.hashes_of(&gone)?;
        for (address, hash) in gone.into_iter().zip(hashes) {
            self.remove(address, hash);
        }
        if let Some(block) = self.store.block_mut(number) {
            block.earliest = earliest;
        }
        Ok(())
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

    fn drop_block(&mut self, number: usize) {
        self.index.free(number);
        self.store.release(number);
    }

    fn compact(&mut self, number: usize) -> Result<()> {
        if self.store.is_tail(number) {
            self.store.seal();
        }
        let live = self.live_rows(number);
        let gather = self.store.gather(&live);
        let columns = (0..self.width()).map(|column| gather.column(column)).collect::<Result<Vec<_>>>()?;
        let hashes = self.hashes(&columns, live.len())?;
        let (mut weights, mut identities) = (Vec::new(), Vec::new());
        if let (true, Some(block)) = (self.changelog, self.store.block(number)) {
            weights.extend(live.iter().map(|at| block.weights[row_of(*at)]));
            identities.extend(live.iter().map(|at| block.identities[row_of(*at)]));
        }
        for (address, hash) in live.into_iter().zip(&hashes) {
            self.remove(address, *hash);
        }
        self.drop_block(number);
        self.insert(&columns, &hashes, &weights, &identities)
    }

    /// Addresses of a block's live rows, in order.
    pub(super) fn live_rows(&self, number: usize) -> Vec<Address> {
        let rows = self.store.block(number).map_or(0, Block::rows);
        (0..rows).map(|row| address(number, row)).filter(|at| self.index.is_live(*at)).collect()
    }

    /// Columns of a stored row, computed keys included.
    fn width(&self) -> usize {
        self.schema.fields().len() + self.computed.len()
    }

    pub(super) fn size(&self) -> StateSize {
        let bytes = self.store.memory_size() + self.index.memory_size() + self.identities.allocation_size();
        StateSize { rows: self.live, bytes }
    }
}

/// A time column's numbers, in its own unit.
fn ticks(column: &ArrayRef) -> Result<Int64Array> {
    let ticks = cast(column, &DataType::Int64)?;
    ticks
        .as_primitive_opt::<Int64Type>()
        .cloned()
        .ok_or_else(|| Error::internal(format!("a time column is a timestamp, not {}", column.data_type())))
}

/// The least and the greatest time; what has no time is never over.
fn range(times: &Int64Array) -> (i64, i64) {
    let latest = if times.null_count() > 0 { None } else { arrow::compute::max(times) };
    (arrow::compute::min(times).unwrap_or(i64::MAX), latest.unwrap_or(i64::MAX))
}

/// The first tick of `unit` that does not lie below `micros`.
fn first_tick_at(micros: i64, unit: TimeUnit) -> i64 {
    let up = |length: i64| micros.div_euclid(length) + i64::from(micros.rem_euclid(length) > 0);
    match unit {
        _ if micros == i64::MAX => i64::MAX,
        TimeUnit::Second => up(1_000_000),
        TimeUnit::Millisecond => up(1_000),
        TimeUnit::Microsecond => micros,
        TimeUnit::Nanosecond => micros.saturating_mul(1_000),
    }
}

/// The unit of a time column, if it is one.
pub(super) fn time_unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Timestamp(unit, _) => Some(*unit),
        _ => None,
    }
}
