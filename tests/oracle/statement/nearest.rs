//! Random as-of joins and temporal joins.
//!
//! The batch says each of them as a join of all pairs, numbered by their distance for each left row.

use rand::Rng;

use super::super::expression::Column;
use super::sources::table_columns;
use super::{Author, Query, Relation};

/// The columns of a table by their place in [`table_columns`].
const TIME: usize = 0;
const K: usize = 1;
const G: usize = 2;
const X: usize = 4;

/// Columns of a table that stand in a SELECT: its names for them, in the table's order.
struct Chosen {
    items: Vec<String>,
    columns: Vec<Column>,
    places: Vec<usize>,
}

impl Author<'_> {
    /// Each row of one table with the nearest of another. `finally`: only its final rows are shown.
    pub(super) fn nearest(&mut self, finally: bool) -> Query {
        let (left, right) = (self.table(), self.table());
        let (l, r) = (alias(&left), alias(&right));
        let temporal = finally && left.append_only && self.chance(0.5);
        // Only the event time says when a row is final.
        let (of_left, of_right) = match self.rng.random_range(0..4) {
            _ if finally => (TIME, TIME),
            0 => (G, X),
            1 => (X, K),
            _ => (TIME, TIME),
        };
        let keys: &[(usize, usize)] = match self.rng.random_range(0..5) {
            0 if !temporal => &[],
            1 => &[(K, K), (G, G)],
            2 => &[(K, G)],
            _ => &[(K, K)],
        };
        let sign = if temporal { ">=" } else { [">=", ">", "<=", "<"][self.rng.random_range(0..4)] };
        let kept = self.chance(0.5);
        let names = |columns: &Relation, place: usize| columns.columns[place].name.clone();
        let times = format!("{} {sign} {}", names(&left, of_left), names(&right, of_right));
        let on: Vec<String> =
            keys.iter().map(|(one, other)| format!("{} = {}", names(&left, *one), names(&right, *other))).collect();
        let (ours, theirs) = (self.chosen(&left), self.chosen(&right));
        let items = [ours.items.clone(), theirs.items.clone()].concat().join(", ");
        let streamed = match temporal {
            true => {
                let (join, table) =
                    (if kept { "LEFT JOIN" } else { "JOIN" }, right.from.replacen(&format!(" AS {r}"), "", 1));
                let as_of = format!("FOR SYSTEM_TIME AS OF {l}.ts AS {r}");
                format!("SELECT {items} FROM {} {join} {table} {as_of} ON {}", left.from, on.join(" AND "))
            }
            false => {
                let join = if kept { "LEFT ASOF JOIN" } else { "ASOF JOIN" };
                let on = if on.is_empty() { String::new() } else { format!(" ON {}", on.join(" AND ")) };
                format!("SELECT {items} FROM {} {join} {} MATCH_CONDITION ({times}){on}", left.from, right.from)
            }
        };
        // Ties are broken by the columns that are read, in the order of the table.
        let mut read = theirs.places.clone();
        read.extend(keys.iter().map(|(_, key)| *key).chain([of_right]));
        let direction = if sign.starts_with('>') { "DESC NULLS LAST" } else { "ASC NULLS LAST" };
        let order = self.completed(&right, &format!("{} {direction}", names(&right, of_right)), &read, &[of_right]);
        let on: Vec<String> = on.into_iter().chain([times]).collect();
        let batch = self.numbered((&left, &right), (&ours, &theirs), (&on.join(" AND "), &order), (kept, "= 1"));
        let text = self.twin_of_ours(streamed, batch);
        shown(text, (ours, theirs), left.rows)
    }

    /// Each row of one table with the first rows of another that have its key.
    pub(super) fn first_of_each(&mut self) -> Query {
        let (left, right) = (self.table(), self.table());
        let name = |relation: &Relation, place: usize| relation.columns[place].name.clone();
        let keys: &[(usize, usize)] = [&[(K, K)][..], &[(G, G)], &[(K, G), (G, K)]][self.rng.random_range(0..3)];
        let on: Vec<String> =
            keys.iter().map(|(one, other)| format!("{} = {}", name(&left, *one), name(&right, *other))).collect();
        let on = on.join(" AND ");
        let (ours, theirs) = (self.chosen(&left), self.chosen(&right));
        let by = [TIME, X][self.rng.random_range(0..2)];
        let direction = ["ASC NULLS LAST", "DESC NULLS LAST", "DESC NULLS FIRST"][self.rng.random_range(0..3)];
        let order = self.completed(&right, &format!("{} {direction}", name(&right, by)), &theirs.places, &[by]);
        let (kept, limit) = (self.chance(0.4), self.rng.random_range(1..4));
        let (join, behind) = if kept { (" LEFT JOIN LATERAL", " ON true") } else { (", LATERAL", "") };
        let found = self.name("first");
        let outer: Vec<String> =
            theirs.columns.iter().map(|column| format!("{found}.{0} AS {0}", column.name)).collect();
        let streamed = format!(
            "SELECT {} FROM {}{join} (SELECT {} FROM {} WHERE {on} ORDER BY {order} LIMIT {limit}) AS {found}{behind}",
            [ours.items.clone(), outer].concat().join(", "),
            left.from,
            theirs.items.join(", "),
            right.from,
        );
        let numbers = format!("<= {limit}");
        let batch = self.numbered((&left, &right), (&ours, &theirs), (&on, &order), (kept, &numbers));
        let text = self.twin(streamed, batch);
        shown(text, (ours, theirs), left.rows * limit)
    }

    /// Some columns of a table, in its order; floats excepted, which are equal in more ways than one.
    fn chosen(&mut self, table: &Relation) -> Chosen {
        let mut chosen = Chosen { items: Vec::new(), columns: Vec::new(), places: Vec::new() };
        for (place, column) in table.columns.iter().enumerate() {
            let is_last = place + 1 == table.columns.len() && chosen.items.is_empty();
            let is_float = [".d", ".f"].iter().any(|float| column.name.ends_with(float));
            if is_float || !(is_last || self.chance(0.4)) {
                continue;
            }
            let name = self.name("c");
            chosen.items.push(format!("{} AS {name}", column.name));
            chosen.columns.push(Column { name, ..column.clone() });
            chosen.places.push(place);
        }
        chosen
    }

    /// An order completed by the columns that are read.
    fn completed(&self, table: &Relation, order: &str, read: &[usize], ordered: &[usize]) -> String {
        let rest = (0..table.columns.len()).filter(|place| read.contains(place) && !ordered.contains(place));
        let rest = rest.map(|place| format!("{} ASC NULLS LAST", table.columns[place].name));
        std::iter::once(order.to_owned()).chain(rest).collect::<Vec<_>>().join(", ")
    }

    /// All pairs, numbered for each left row, and those of them that have some numbers.
    fn numbered(
        &mut self,
        (left, right): (&Relation, &Relation),
        (ours, theirs): (&Chosen, &Chosen),
        (on, order): (&str, &str),
        (kept, numbers): (bool, &str),
    ) -> String {
        let (l, outer, number) = (alias(left), self.name("a"), self.name("n"));
        let join = if kept { "LEFT JOIN" } else { "JOIN" };
        let table = left.from.replacen(&format!(" AS {l}"), "", 1);
        let items: Vec<String> = ours.items.iter().chain(&theirs.items).cloned().collect();
        let names: Vec<&str> = ours.columns.iter().chain(&theirs.columns).map(|column| column.name.as_str()).collect();
        format!(
            "SELECT {} FROM (SELECT {}, row_number() OVER (PARTITION BY {l}.lid ORDER BY {order}) AS {number} \
             FROM (SELECT *, row_number() OVER () AS lid FROM {table}) AS {l} {join} {} ON {on}) AS {outer} \
             WHERE {number} {numbers}",
            names.join(", "),
            items.join(", "),
            right.from
        )
    }
}

fn shown(text: String, (ours, theirs): (Chosen, Chosen), rows: usize) -> Query {
    Query { text, columns: [ours.columns, theirs.columns].concat(), append_only: false, rows }
}

/// What a table is called.
fn alias(table: &Relation) -> String {
    let first = table_columns("").remove(TIME).name;
    table.columns[TIME].name.replacen(&first, "", 1)
}
