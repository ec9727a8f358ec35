//! What stands at the bottom: tables, VALUES, and relations that are made of each row of another one.

use rand::Rng;

use super::super::expression::{Column, Kind, literal, mild, scalar};
use super::{Author, Query, Relation};

/// The columns of a table.
pub(super) fn table_columns(alias: &str) -> Vec<Column> {
    let column = |name: &str, kind| Column::new(format!("{alias}.{name}"), kind);
    vec![
        column("ts", Kind::Time),
        column("k", Kind::Int),
        column("g", Kind::Int),
        column("s", Kind::Text),
        column("x", Kind::Int),
        column("d", Kind::Float),
        column("b", Kind::Bool),
        column("y", Kind::Great),
        column("f", Kind::Odd),
        column("m", Kind::Decimal),
        column("u", Kind::Time),
        column("i", Kind::Int),
    ]
}

impl Author<'_> {
    pub(super) fn table(&mut self) -> Relation {
        let table = self.rng.random_range(0..self.tables.len());
        self.table_of(table)
    }

    fn table_of(&mut self, table: usize) -> Relation {
        let table = &self.tables[table];
        let (name, rows, append_only) = (table.name.clone(), table.rows, !table.changing);
        let alias = self.name("a");
        let columns = table_columns(&alias);
        Relation { from: format!("{name} AS {alias}"), columns, append_only, rows }
    }

    /// A table; for a query whose rows are final one whose rows only come, if there is one.
    pub(super) fn growing(&mut self) -> Relation {
        let tables: Vec<usize> = (0..self.tables.len()).filter(|table| !self.tables[*table].changing).collect();
        match self.after_watermark && !tables.is_empty() {
            true => {
                let table = tables[self.rng.random_range(0..tables.len())];
                self.table_of(table)
            }
            false => self.table(),
        }
    }

    /// A table whose rows only come, if there is one.
    pub(super) fn growing_table(&mut self) -> Option<Relation> {
        let tables: Vec<usize> = (0..self.tables.len()).filter(|table| !self.tables[*table].changing).collect();
        (!tables.is_empty()).then(|| {
            let table = tables[self.rng.random_range(0..tables.len())];
            self.table_of(table)
        })
    }

    /// Constant rows.
    pub(super) fn values(&mut self) -> Relation {
        let alias = self.name("a");
        let kinds = [Kind::Int, Kind::Text, Kind::Float];
        let columns: Vec<Column> =
            kinds.iter().map(|kind| Column::new(format!("{alias}.{}", self.name("v")), *kind)).collect();
        let count = self.rng.random_range(1..5);
        let rows: Vec<String> = (0..count)
            .map(|row| {
                let cells: Vec<String> = kinds
                    .iter()
                    .map(|kind| match row > 0 && self.rng.random_bool(0.15) {
                        true => "NULL".to_owned(),
                        false => literal(&mut self.rng, *kind),
                    })
                    .collect();
                format!("({})", cells.join(", "))
            })
            .collect();
        let own: Vec<&str> = columns.iter().map(own_name).collect();
        let from = format!("(VALUES {}) AS {alias}({})", rows.join(", "), own.join(", "));
        Relation { from, columns, append_only: true, rows: count }
    }

    /// A row for each element of a list that is made of a row.
    pub(super) fn unnested(&mut self, from: &Relation) -> Query {
        let kind = [Kind::Int, Kind::Text, Kind::Time][self.rng.random_range(0..3)];
        let element = self.name("e");
        let items: Vec<String> = (0..self.rng.random_range(1..4))
            .map(|_| format!("CAST({} AS {})", scalar(&mut self.rng, &from.columns, kind, 0), kind.type_name()))
            .collect();
        let (mut list, mut kind) = (format!("make_array({})", items.join(", ")), kind);
        if self.chance(0.25) {
            (list, kind) = (format!("generate_series(0, {})", self.rng.random_range(0..3)), Kind::Int);
        }
        let rows = from.rows * 3;
        let mut columns = from.columns.clone();
        columns.push(Column::new(element.clone(), kind));
        match self.rng.random_range(0..3) {
            // In SELECT.
            0 => {
                let mut query = self.projection(from, true);
                query.text = query.text.replacen("SELECT ", &format!("SELECT unnest({list}) AS {element}, "), 1);
                query.columns.insert(0, Column::new(element, kind));
                Query { rows, ..query }
            }
            // In FROM, which plain DataFusion can't plan with columns of the rows before it.
            1 => {
                let (alias, all) = (self.name("a"), self.name("a"));
                let (carried, handed) = carried(&from.columns);
                let streamed = format!("{}, unnest({list}) AS {alias}({element})", from.from);
                let batched = format!("(SELECT {carried}, unnest({list}) AS {element} FROM {}) AS {all}", from.from);
                self.over_twin(from, columns, handed, &all, (streamed, batched), rows)
            }
            // As before; rows without elements stay.
            _ => {
                let (alias, all) = (self.name("a"), self.name("a"));
                let (carried, handed) = carried(&from.columns);
                let condition = scalar(&mut self.rng, &from.columns, Kind::Bool, 1);
                let streamed = format!(
                    "{} LEFT JOIN unnest(CASE WHEN {condition} THEN {list} END) AS {alias}({element}) ON true",
                    from.from
                );
                let nothing = format!("make_array(CAST(NULL AS {}))", kind.type_name());
                let batched = format!(
                    "(SELECT {carried}, unnest(CASE WHEN {condition} THEN {list} ELSE {nothing} END) AS {element} FROM {}) AS {all}",
                    from.from
                );
                self.over_twin(from, columns, handed, &all, (streamed, batched), rows)
            }
        }
    }

    /// Rows of the left side with what a query over the right makes of each.
    pub(super) fn lateral(&mut self, depth: u32) -> Query {
        let outer = self.relation(depth);
        let inner = self.table();
        let keys = |columns: &[Column]| columns.iter().any(|column| column.kind == Kind::Int && column.exact);
        if !keys(&outer.columns) || outer.rows * inner.rows > super::MOST_JOINED * 4 {
            let from = self.table();
            return self.unnested(&from);
        }
        let (key, inner_key) =
            (scalar(&mut self.rng, &outer.columns, Kind::Int, 0), scalar(&mut self.rng, &inner.columns, Kind::Int, 0));
        let own = mild(&mut self.rng, &inner.columns);
        let (alias, all, hidden) = (self.name("a"), self.name("a"), self.name("h"));
        let (number, text) = (self.name("l"), self.name("l"));
        let value = scalar(&mut self.rng, &inner.columns, Kind::Int, 0);
        let mut columns = outer.columns.clone();
        columns.push(Column::new(number.clone(), Kind::Int));
        let condition = format!("{key} = {inner_key} AND {own}");
        let (carried, handed) = carried(&outer.columns);
        if self.chance(0.5) {
            // One row, whatever the inner rows are: in the batch a value.
            let call = ["count(*)".to_owned(), format!("max({value})"), format!("sum({value})")]
                [self.rng.random_range(0..3)]
            .clone();
            let query = format!("SELECT {call} AS {number} FROM {} WHERE {condition}", inner.from);
            let streamed = format!("{}, LATERAL ({query}) AS {alias}", outer.from);
            let batched = format!("(SELECT {carried}, ({query}) AS {number} FROM {}) AS {all}", outer.from);
            let rows = outer.rows;
            let mut query = self.over_twin(&outer, columns, handed, &all, (streamed, batched), rows);
            query.append_only = false;
            return query;
        }
        columns.push(Column::new(text.clone(), Kind::Text));
        let other = scalar(&mut self.rng, &inner.columns, Kind::Text, 0);
        let items = format!("{value} AS {number}, {other} AS {text}");
        let lateral = format!("LATERAL (SELECT {items} FROM {} WHERE {condition}) AS {alias}", inner.from);
        let (streamed, how) = match self.chance(0.4) {
            true => (format!("{} LEFT JOIN {lateral} ON true", outer.from), "LEFT JOIN"),
            false => (format!("{}, {lateral}", outer.from), "JOIN"),
        };
        let batched = format!(
            "(SELECT {carried}, {number}, {text} FROM {} {how} (SELECT {items}, {inner_key} AS {hidden} FROM {} WHERE {own}) AS {alias} ON {key} = {hidden}) AS {all}",
            outer.from, inner.from
        );
        let rows = outer.rows * inner.rows / 5;
        let mut query = self.over_twin(&outer, columns, handed, &all, (streamed, batched), rows);
        query.append_only = outer.append_only && inner.append_only && how == "JOIN";
        query
    }

    /// A projection of a relation that is said in two ways. In the batch the columns of `from` are handed on under other
    /// names, in the relation `all`.
    pub(super) fn over_twin(
        &mut self,
        from: &Relation,
        columns: Vec<Column>,
        handed: Vec<(String, String)>,
        all: &str,
        (streamed, batched): (String, String),
        rows: usize,
    ) -> Query {
        let text = self.twin(streamed, batched);
        let mut relation = Relation { from: text, columns, append_only: from.append_only, rows };
        // Each handed column is written as the stream's side knows it, or as the batch's.
        for column in &mut relation.columns {
            if let Some((_, name)) = handed.iter().find(|(original, _)| *original == column.name) {
                column.name = self.twin(column.name.clone(), format!("{all}.{name}"));
            }
        }
        self.projection(&relation, true)
    }
}

/// The columns with names of their own, as items of a SELECT, and which is which.
pub(super) fn carried(columns: &[Column]) -> (String, Vec<(String, String)>) {
    let handed: Vec<(String, String)> =
        columns.iter().map(|column| (column.name.clone(), column.name.replace('.', "_"))).collect();
    let items: Vec<String> = handed.iter().map(|(original, name)| format!("{original} AS {name}")).collect();
    (items.join(", "), handed)
}

/// A column's name without its relation's.
pub(super) fn own_name(column: &Column) -> &str {
    column.name.rsplit('.').next().unwrap_or(&column.name)
}
