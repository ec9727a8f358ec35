//! All columns of a batch that is being written, by kind, and the tables that they belong to.
//!
//! A *table* is a set of columns that share row numbers: the record's own, and one for the elements of each list or
//! map. The columns of a nested message belong to its parent's table.

use super::column::{Bits, Blob, Fixed, List};
use super::error::Reason;
use super::text::{Labels, Text};

/// Memory that one table may fill ahead, in bytes. A repeated empty message takes two bytes of a record and a whole row
/// of its table, so that a small record could otherwise unfold to anything.
const MAX_TABLE_BYTES: usize = 1 << 28;

/// A column, by its kind and its number in that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnId {
    /// `Int32`, `Float32`, and which member of a oneof is set.
    Word(usize),
    /// `Int64`, `Float64`, `Timestamp`, `Duration`.
    Long(usize),
    /// `Decimal128`.
    Wide(usize),
    /// `Boolean`, and presence.
    Bits(usize),
    /// `Utf8View`.
    Text(usize),
    /// `Utf8View`, names of an enum's values.
    Labels(usize),
    /// `Binary`.
    Blob(usize),
    /// `List` and `Map`.
    List(usize),
}

/// A set of columns that share row numbers.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Rows that are in use.
    pub(super) rows: usize,
    /// Rows that the columns are filled for.
    filled: usize,
    /// All columns, those of nested messages, presence and oneofs included.
    pub(super) columns: Vec<ColumnId>,
}

/// All columns and tables; table 0 is the record's.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) words: Vec<Fixed<i32>>,
    pub(super) longs: Vec<Fixed<i64>>,
    pub(super) wides: Vec<Fixed<i128>>,
    pub(super) bits: Vec<Bits>,
    pub(super) texts: Vec<Text>,
    pub(super) labels: Vec<Labels>,
    pub(super) blobs: Vec<Blob>,
    pub(super) lists: Vec<List>,
    pub(super) tables: Vec<Table>,
}

impl Store {
    /// Forgets all rows and fills the record's table for `rows` rows, if that is not too much to fill ahead. `bytes` is
    /// about how many bytes of text and bytes will come.
    pub(super) fn begin(&mut self, rows: usize, bytes: usize) {
        // A guess that is right for one column and within reach for several; the memory is taken again next time.
        let bytes = bytes / (self.texts.len() + self.blobs.len()).max(1);
        self.empty_tables();
        self.words.iter_mut().for_each(Fixed::begin);
        self.longs.iter_mut().for_each(Fixed::begin);
        self.wides.iter_mut().for_each(Fixed::begin);
        self.bits.iter_mut().for_each(Bits::begin);
        self.texts.iter_mut().for_each(|text| text.begin(bytes));
        self.labels.iter_mut().for_each(|labels| labels.views.begin());
        self.blobs.iter_mut().for_each(|blob| blob.begin(bytes));
        self.lists.iter_mut().for_each(|list| list.ends.begin());
        // Too many rows are not filled ahead: the table grows as they come, and is full at some point.
        let _ = self.fill(0, rows);
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.empty_tables();
        self.words.iter_mut().for_each(Fixed::clear);
        self.longs.iter_mut().for_each(Fixed::clear);
        self.wides.iter_mut().for_each(Fixed::clear);
        self.bits.iter_mut().for_each(Bits::clear);
        self.texts.iter_mut().for_each(Text::clear);
        self.labels.iter_mut().for_each(|labels| labels.views.clear());
        self.blobs.iter_mut().for_each(Blob::clear);
        self.lists.iter_mut().for_each(|list| list.ends.clear());
    }

    fn empty_tables(&mut self) {
        for table in &mut self.tables {
            table.rows = 0;
            table.filled = 0;
        }
    }

    /// Takes a new row of a table, all default.
    #[inline(always)]
    pub(super) fn add_row(&mut self, table: usize) -> Result<usize, Reason> {
        let place = &mut self.tables[table];
        if place.rows < place.filled {
            place.rows += 1;
            return Ok(place.rows - 1);
        }
        self.add_row_grown(table)
    }

    #[cold]
    #[inline(never)]
    fn add_row_grown(&mut self, table: usize) -> Result<usize, Reason> {
        self.grow_to(table, 32)?;
        self.tables[table].rows += 1;
        Ok(self.tables[table].rows - 1)
    }

    /// Doubles the table, or more if it has to hold so many rows.
    #[cold]
    #[inline(never)]
    fn grow_to(&mut self, table: usize, rows: usize) -> Result<(), Reason> {
        let rows = (self.tables[table].filled * 2).max(rows);
        self.fill(table, rows)
    }

    fn fill(&mut self, table: usize, rows: usize) -> Result<(), Reason> {
        let columns = std::mem::take(&mut self.tables[table].columns);
        let bytes: usize = columns.iter().map(|column| column.width()).sum::<usize>().saturating_mul(rows);
        let fits = bytes <= MAX_TABLE_BYTES;
        if fits {
            columns.iter().for_each(|column| self.extend(*column, rows));
            self.tables[table].filled = rows;
        }
        self.tables[table].columns = columns;
        if fits { Ok(()) } else { Err(Reason::TooLarge) }
    }

    fn extend(&mut self, column: ColumnId, rows: usize) {
        match column {
            ColumnId::Word(n) => self.words[n].extend(rows),
            ColumnId::Long(n) => self.longs[n].extend(rows),
            ColumnId::Wide(n) => self.wides[n].extend(rows),
            ColumnId::Bits(n) => self.bits[n].extend(rows),
            ColumnId::Text(n) => self.texts[n].extend(rows),
            ColumnId::Labels(n) => self.labels[n].views.extend(rows),
            ColumnId::Blob(n) => self.blobs[n].extend(rows),
            ColumnId::List(n) => self.lists[n].ends.extend(rows),
        }
    }

    /// Sets one row of a column back to its default; the elements of a list are taken back.
    pub(super) fn reset(&mut self, column: ColumnId, row: usize) {
        match column {
            ColumnId::Word(n) => self.words[n].reset(row),
            ColumnId::Long(n) => self.longs[n].reset(row),
            ColumnId::Wide(n) => self.wides[n].reset(row),
            ColumnId::Bits(n) => self.bits[n].reset(row),
            ColumnId::Text(n) => self.texts[n].reset(row),
            ColumnId::Labels(n) => self.labels[n].views.reset(row),
            ColumnId::Blob(n) => self.blobs[n].reset(row),
            ColumnId::List(n) => {
                if let Some(elements) = self.lists[n].ends.reset(row) {
                    self.truncate(self.lists[n].table, elements);
                }
            }
        }
    }

    /// Whether the row has the column's default: of columns of numbers, texts and bytes.
    pub(super) fn is_default(&self, column: ColumnId, row: usize) -> bool {
        match column {
            ColumnId::Word(n) => self.words[n].is_default(row),
            ColumnId::Long(n) => self.longs[n].is_default(row),
            ColumnId::Wide(n) => self.wides[n].is_default(row),
            ColumnId::Bits(n) => !self.bits[n].get(row),
            ColumnId::Text(n) => self.texts[n].is_empty(row),
            ColumnId::Labels(n) => self.labels[n].views.is_default(row),
            ColumnId::Blob(n) => self.blobs[n].is_empty(row),
            ColumnId::List(_) => false,
        }
    }

    /// Takes back all rows from `rows` on, the last first.
    pub(super) fn truncate(&mut self, table: usize, rows: usize) {
        let columns = std::mem::take(&mut self.tables[table].columns);
        for row in (rows..self.tables[table].rows).rev() {
            // Backwards here as well: what was written last stands last in the buffers.
            columns.iter().rev().for_each(|column| self.reset(*column, row));
        }
        self.tables[table].rows = self.tables[table].rows.min(rows);
        self.tables[table].columns = columns;
    }

    /// Adds an element to the list at `row`, as is usual: there is room for it. Gives the element's row.
    #[inline(always)]
    pub(super) fn usual_append(&mut self, list: usize, row: usize) -> Option<usize> {
        let list = self.lists.get_mut(list)?;
        let table = self.tables.get_mut(list.table).filter(|table| table.rows < table.filled)?;
        list.ends.put(row, table.rows + 1)?;
        table.rows += 1;
        Some(table.rows - 1)
    }

    /// Adds an element to the list at `row`; gives the element's row.
    #[cold]
    #[inline(never)]
    pub(super) fn append(&mut self, list: usize, row: usize) -> Result<usize, Reason> {
        let element = self.add_row(self.lists[list].table)?;
        self.lists[list].ends.note(row, element + 1);
        Ok(element)
    }

    /// Adds so many elements to the list at `row`; gives the first one's row.
    #[inline(always)]
    pub(super) fn append_many(&mut self, list: usize, row: usize, count: usize) -> Result<usize, Reason> {
        let table = self.lists[list].table;
        let elements = self.tables[table].rows;
        let end = elements.saturating_add(count);
        if end > self.tables[table].filled {
            self.grow_to(table, end.max(32))?;
        }
        self.lists[list].ends.note(row, end);
        self.tables[table].rows = end;
        Ok(elements)
    }
}

impl ColumnId {
    /// Its number among the columns of its kind.
    pub(super) fn number(self) -> usize {
        match self {
            Self::Word(n)
            | Self::Long(n)
            | Self::Wide(n)
            | Self::Bits(n)
            | Self::Text(n)
            | Self::Labels(n)
            | Self::Blob(n)
            | Self::List(n) => n,
        }
    }

    /// Bytes that a row fills ahead; bits count as a whole byte.
    fn width(self) -> usize {
        match self {
            Self::Word(_) | Self::Blob(_) | Self::List(_) => 4,
            Self::Long(_) => 8,
            Self::Wide(_) | Self::Text(_) | Self::Labels(_) => 16,
            Self::Bits(_) => 1,
        }
    }
}
