//! Keys that are bytes: one column of text or binary, or several columns in Arrow's row format.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BinaryViewBuilder, Float32Array, Float64Array, LargeBinaryBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::{Minting, NO_SLOT, Slot};
use crate::error::{Error, Result};

/// Byte strings and their slots.
#[derive(Debug, Default)]
struct ByteKeys {
    table: HashTable<(u64, Slot)>,
    /// By slot.
    keys: Vec<Box<[u8]>>,
    key_bytes: usize,
}

impl ByteKeys {
    fn intern(&mut self, key: &[u8], supply: &mut Minting<'_>) -> Slot {
        let hash = xxh3_64(key);
        if let Some((_, slot)) =
            self.table.find(hash, |(other, slot)| *other == hash && *self.keys[*slot as usize] == *key)
        {
            return *slot;
        }
        let slot = supply.mint();
        if self.keys.len() <= slot as usize {
            self.keys.resize_with(slot as usize + 1, Box::default);
        }
        self.keys[slot as usize] = key.into();
        self.key_bytes += key.len();
        self.table.insert_unique(hash, (hash, slot), |(hash, _)| *hash);
        slot
    }

    fn find(&self, key: &[u8]) -> Slot {
        let hash = xxh3_64(key);
        let found = self.table.find(hash, |(other, slot)| *other == hash && *self.keys[*slot as usize] == *key);
        found.map_or(NO_SLOT, |(_, slot)| *slot)
    }

    fn release(&mut self, slot: Slot) {
        let Some(key) = self.keys.get_mut(slot as usize) else { return };
        let key = std::mem::take(key);
        self.key_bytes -= key.len();
        if let Ok(entry) = self.table.find_entry(xxh3_64(&key), |(_, other)| *other == slot) {
            entry.remove();
        }
    }

    fn get(&self, slot: Slot) -> &[u8] {
        self.keys.get(slot as usize).map_or(&[], |key| key)
    }

    fn memory(&self) -> usize {
        self.key_bytes
            + self.keys.capacity() * size_of::<Box<[u8]>>()
            + self.table.capacity() * (size_of::<(u64, Slot)>() + 1)
    }
}

/// One column of text or binary.
#[derive(Debug)]
pub(super) struct TextKeys {
    data_type: DataType,
    keys: ByteKeys,
    null: Option<Slot>,
}

impl TextKeys {
    pub(super) fn fits(data_type: &DataType) -> bool {
        use DataType as D;
        matches!(data_type, D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Binary | D::LargeBinary | D::BinaryView)
    }

    pub(super) fn new(data_type: DataType) -> Self {
        Self { data_type, keys: ByteKeys::default(), null: None }
    }

    pub(super) fn intern(&mut self, column: &ArrayRef, out: &mut Vec<Slot>, supply: &mut Minting<'_>) -> Result<()> {
        for_each_bytes(column, |value| {
            out.push(match value {
                Some(key) => self.keys.intern(key, supply),
                None => *self.null.get_or_insert_with(|| supply.mint()),
            });
        })
    }

    pub(super) fn find(&self, column: &ArrayRef, out: &mut Vec<Slot>) -> Result<()> {
        for_each_bytes(column, |value| {
            out.push(value.map_or(self.null.unwrap_or(NO_SLOT), |key| self.keys.find(key)));
        })
    }

    pub(super) fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            if self.null == Some(*slot) {
                self.null = None;
            } else {
                self.keys.release(*slot);
            }
        }
    }

    pub(super) fn column(&self, slots: &[Slot]) -> Result<ArrayRef> {
        let values = slots.iter().map(|slot| (self.null != Some(*slot)).then(|| self.keys.get(*slot)));
        bytes_column(&self.data_type, values)
    }

    pub(super) fn memory(&self) -> usize {
        self.keys.memory()
    }
}

/// Calls `use_value` with each value's bytes, in row order.
pub(crate) fn for_each_bytes<'a>(column: &'a ArrayRef, mut use_value: impl FnMut(Option<&'a [u8]>)) -> Result<()> {
    use DataType as D;
    match column.data_type() {
        D::Utf8 => column.as_string::<i32>().iter().for_each(|value| use_value(value.map(str::as_bytes))),
        D::LargeUtf8 => column.as_string::<i64>().iter().for_each(|value| use_value(value.map(str::as_bytes))),
        D::Utf8View => column.as_string_view().iter().for_each(|value| use_value(value.map(str::as_bytes))),
        D::Binary => column.as_binary::<i32>().iter().for_each(use_value),
        D::LargeBinary => column.as_binary::<i64>().iter().for_each(use_value),
        D::BinaryView => column.as_binary_view().iter().for_each(use_value),
        other => return Err(Error::internal(format!("a column of type {other} came where text was expected"))),
    }
    Ok(())
}

/// A column of text or binary from the bytes of its values, which came from such a column.
pub(crate) fn bytes_column<'a>(
    data_type: &DataType,
    values: impl Iterator<Item = Option<&'a [u8]>>,
) -> Result<ArrayRef> {
    use DataType as D;
    let binary: ArrayRef = match data_type {
        D::Utf8 | D::Binary => {
            let mut builder = BinaryBuilder::new();
            values.for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        D::LargeUtf8 | D::LargeBinary => {
            let mut builder = LargeBinaryBuilder::new();
            values.for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        D::Utf8View | D::BinaryView => {
            let mut builder = BinaryViewBuilder::new();
            values.for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        other => return Err(Error::internal(format!("{other} is neither text nor binary"))),
    };
    Ok(if binary.data_type() == data_type { binary } else { cast(&binary, data_type)? })
}

/// Keys of several columns, or of a type without a fast path.
#[derive(Debug)]
pub(super) struct RowKeys {
    types: Vec<DataType>,
    converter: RowConverter,
    keys: ByteKeys,
}

impl RowKeys {
    pub(super) fn new(types: &[DataType]) -> Result<Self> {
        let fields: Vec<SortField> = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            let names: Vec<String> = types.iter().map(ToString::to_string).collect();
            return Err(Error::not_supported(format!("values of type ({}) cannot be keys", names.join(", ")))
                .with_hint("group, join or deduplicate by columns of simple types"));
        }
        Ok(Self { types: types.to_vec(), converter: RowConverter::new(fields)?, keys: ByteKeys::default() })
    }

    pub(super) fn intern(&mut self, columns: &[ArrayRef], out: &mut Vec<Slot>, supply: &mut Minting<'_>) -> Result<()> {
        let columns: Vec<ArrayRef> = columns.iter().map(one_zero_one_nan).collect();
        let rows = self.converter.convert_columns(&columns)?;
        out.extend(rows.iter().map(|row| self.keys.intern(row.data(), supply)));
        Ok(())
    }

    pub(super) fn find(&self, columns: &[ArrayRef], out: &mut Vec<Slot>) -> Result<()> {
        let columns: Vec<ArrayRef> = columns.iter().map(one_zero_one_nan).collect();
        let rows = self.converter.convert_columns(&columns)?;
        out.extend(rows.iter().map(|row| self.keys.find(row.data())));
        Ok(())
    }

    pub(super) fn release(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.keys.release(*slot));
    }

    pub(super) fn columns(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(slots.iter().map(|slot| parser.parse(self.keys.get(*slot))))?;
        // The row format gives a dictionary back as its values.
        let typed = columns.into_iter().zip(&self.types).map(|(column, data_type)| {
            if column.data_type() == data_type { Ok(column) } else { cast(&column, data_type) }
        });
        Ok(typed.collect::<Result<Vec<_>, _>>()?)
    }

    pub(super) fn memory(&self) -> usize {
        self.keys.memory() + self.converter.size()
    }
}

/// The column with −0 as 0 and every NaN as the one NaN, if it holds floats.
pub(crate) fn one_zero_one_nan(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => {
            let values: Float32Array =
                column.as_primitive::<Float32Type>().unary(|value| if value.is_nan() { f32::NAN } else { value + 0.0 });
            Arc::new(values)
        }
        DataType::Float64 => {
            let values: Float64Array =
                column.as_primitive::<Float64Type>().unary(|value| if value.is_nan() { f64::NAN } else { value + 0.0 });
            Arc::new(values)
        }
        _ => Arc::clone(column),
    }
}
