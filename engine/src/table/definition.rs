//! A table as the catalog keeps it.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A table's columns, key and constraints. Expressions and types are SQL text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// The columns, in order.
    pub columns: Vec<ColumnDefinition>,
    /// The primary key: numbers of columns. Empty: a multiset of rows.
    pub primary_key: Vec<u32>,
    /// The name of the primary key's constraint.
    #[serde(default)]
    pub primary_key_name: String,
    /// `CHECK`s.
    pub checks: Vec<CheckDefinition>,
    /// Rows are only ever added.
    pub append_only: bool,
    /// `WATERMARK FOR`: the clause's column and expression.
    pub watermark: Option<(String, String)>,
    /// The number of the next column.
    pub next_number: u32,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDefinition {
    /// Its number, which it keeps whatever happens to its name and place; never given twice in one table.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: String,
    /// No row may have NULL here.
    pub not_null: bool,
    /// The value of a row that is inserted without one.
    pub default: Option<String>,
    /// `GENERATED ALWAYS AS (…) STORED`.
    pub generated: Option<String>,
    /// What rows have that were there before the column was added, encoded as in a stored row.
    pub missing: Option<Vec<u8>>,
}

/// A `CHECK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDefinition {
    /// The constraint's name.
    pub name: String,
    /// The condition.
    pub expression: String,
}

impl TableDefinition {
    /// The bytes that the catalog keeps.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::internal(error.to_string()))
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::internal(format!("a table's definition cannot be read: {error}")))
    }

    /// The place of the column of this number.
    pub fn place(&self, number: u32) -> Option<usize> {
        self.columns.iter().position(|column| column.number == number)
    }

    /// The place of the column of this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The key's columns by place.
    pub fn key_columns(&self) -> Vec<usize> {
        self.primary_key.iter().filter_map(|number| self.place(*number)).collect()
    }

    /// The columns' numbers, in order.
    pub fn numbers(&self) -> Vec<u32> {
        self.columns.iter().map(|column| column.number).collect()
    }

    /// The Arrow schema: `types` are the columns' types, in order. A column is nullable unless it is NOT NULL.
    pub fn schema(&self, types: &Schema) -> SchemaRef {
        let fields = self
            .columns
            .iter()
            .zip(types.fields())
            .map(|(column, field)| field.as_ref().clone().with_name(&column.name).with_nullable(!column.not_null));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}
