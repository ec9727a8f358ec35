//! UPDATE, DELETE and TRUNCATE: a query finds the rows, with the keys by which they are kept.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Ident, ObjectName, TableWithJoins, Update,
    UpdateTableFromKind,
};

use super::insert::no_column;
use super::returning::named;
use super::rules::duplicate_key;
use super::{Affected, PlanAndTypes, Target, Work, is_default, parameter};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Planner, Relation};
use crate::sql::{self, quoted};
use crate::table::assign::assign;
use crate::table::{Table, TableView, key_of};

/// The table of an UPDATE, and its alias.
pub(super) fn updated(update: &Update) -> Result<(String, Option<String>)> {
    if !update.table.joins.is_empty() {
        return Err(Error::not_supported("UPDATE changes one table").with_hint("join others with FROM"));
    }
    named(&update.table.relation)
}

/// The table of a DELETE, and its alias.
pub(super) fn deleted(delete: &Delete) -> Result<(String, Option<String>)> {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    match tables.as_slice() {
        [table] if table.joins.is_empty() && delete.tables.is_empty() => named(&table.relation),
        _ => Err(Error::not_supported("DELETE removes rows of one table").with_hint("join others with USING")),
    }
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// What SET says, column by column.
pub(super) fn assignments(target: &Target, assignments: &[Assignment]) -> Result<Vec<(usize, Expr)>> {
    let mut all: Vec<(usize, Expr)> = Vec::new();
    let mut add = |name: &ObjectName, value: &Expr| {
        let column = match name.0.as_slice() {
            [part] => part.as_ident().map(folded),
            _ => None,
        };
        let Some(column) = column else {
            return Err(Error::new(ErrorKind::Syntax, format!("SET names a column of the table, and {name} is none")));
        };
        let place = target.table.definition().column(&column).ok_or_else(|| no_column(target, &column))?;
        if target.table.definition().columns[place].generated.is_some() && !is_default(value) {
            return Err(Error::invalid(format!("column \"{column}\" can only be updated to DEFAULT"))
                .with_code("428C9")
                .with_detail(format!("Column \"{column}\" is a generated column.")));
        }
        if all.iter().any(|(other, _)| *other == place) {
            return Err(Error::new(ErrorKind::Syntax, format!("multiple assignments to same column \"{column}\"")));
        }
        all.push((place, value.clone()));
        Ok(())
    };
    for assignment in assignments {
        match (&assignment.target, &assignment.value) {
            (AssignmentTarget::ColumnName(name), value) => add(name, value)?,
            (AssignmentTarget::Tuple(names), Expr::Tuple(values)) if names.len() == values.len() => {
                names.iter().zip(values).try_for_each(|(name, value)| add(name, value))?;
            }
            (AssignmentTarget::Tuple(names), value) if names.len() == 1 => add(&names[0], value)?,
            (AssignmentTarget::Tuple(_), _) => {
                return Err(Error::not_supported("SET (…) = … takes as many values as it names columns")
                    .with_hint("write one assignment for each column"));
            }
        }
    }
    Ok(all)
}

/// The query that finds the rows: its first column is the key, the table's columns follow, then `values`.
struct Finding {
    planner: Planner,
    text: String,
}

/// The parts of a statement that say which rows it means.
struct Where<'a> {
    table: &'a TableWithJoins,
    alias: Option<&'a str>,
    others: &'a [TableWithJoins],
    condition: Option<&'a Expr>,
}

fn finding(work: &Work<'_>, target: &Target, of: &Where<'_>, values: &[Expr]) -> Finding {
    let schema = target.schema();
    let fields = schema.fields().iter().cloned().chain([Table::key_field()]);
    let keyed = Relation { schema: Schema::new(fields.collect::<Vec<_>>()).into(), ..(*target.relation).clone() };
    let name = quoted(of.alias.unwrap_or(target.table.name()));
    let mut items = vec![format!("{name}.{} AS __row", quoted(Table::KEY_COLUMN))];
    let old = schema.fields().iter().enumerate();
    items.extend(old.map(|(at, field)| format!("{name}.{} AS __old_{at}", quoted(field.name()))));
    items.extend(values.iter().enumerate().map(|(at, value)| format!("({value}) AS __new_{at}")));
    let from: Vec<String> = std::iter::once(of.table).chain(of.others).map(ToString::to_string).collect();
    let condition = of.condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
    let text = format!("SELECT {} FROM {}{condition}", items.join(", "), from.join(", "));
    Finding { planner: work.planner.with_relation(keyed), text }
}

impl Work<'_> {
    fn update_finding(&self, target: &Target, update: &Update) -> Result<(Finding, Vec<(usize, Expr)>)> {
        if update.limit.is_some() || !update.order_by.is_empty() || update.or.is_some() || update.output.is_some() {
            return Err(Error::not_supported("UPDATE has SET, FROM, WHERE and RETURNING, and nothing else"));
        }
        let (_, alias) = updated(update)?;
        let others = match &update.from {
            None => &[][..],
            Some(UpdateTableFromKind::AfterSet(tables) | UpdateTableFromKind::BeforeSet(tables)) => tables,
        };
        let set = assignments(target, &update.assignments)?;
        let values: Vec<Expr> =
            set.iter().filter(|(_, value)| !is_default(value)).map(|(_, value)| value.clone()).collect();
        let of = Where { table: &update.table, alias: alias.as_deref(), others, condition: update.selection.as_ref() };
        Ok((finding(self, target, &of, &values), set))
    }

    fn delete_finding(&self, target: &Target, delete: &Delete) -> Result<Finding> {
        if delete.limit.is_some() || !delete.order_by.is_empty() || delete.output.is_some() {
            return Err(Error::not_supported("DELETE has USING, WHERE and RETURNING, and nothing else"));
        }
        let (_, alias) = deleted(delete)?;
        let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
        let table = tables.first().ok_or_else(|| Error::internal("a DELETE without a table"))?;
        let others = delete.using.as_deref().unwrap_or_default();
        let of = Where { table, alias: alias.as_deref(), others, condition: delete.selection.as_ref() };
        Ok(finding(self, target, &of, &[]))
    }

    /// The plan that finds a DELETE's rows.
    pub(super) fn delete_plan(&self, delete: &Delete) -> Result<LogicalPlan> {
        let target = self.target(&deleted(delete)?.0)?;
        self.found_plan(&self.delete_finding(&target, delete)?)
    }

    /// The plan that finds an UPDATE's rows, and the types of parameters that are assigned as they are.
    pub(super) fn update_parameters(&self, update: &Update) -> Result<PlanAndTypes> {
        let target = self.target(&updated(update)?.0)?;
        let (finding, set) = self.update_finding(&target, update)?;
        let direct = set
            .iter()
            .filter_map(|(place, value)| Some((parameter(value)?, target.schema().field(*place).data_type().clone())));
        Ok((Some(self.found_plan(&finding)?), direct.collect()))
    }

    fn found_plan(&self, finding: &Finding) -> Result<LogicalPlan> {
        sql::parse_query(&finding.text)
            .and_then(|query| finding.planner.plan_batch(&query, None))
            .map_err(Error::without_position)
    }

    /// The rows that a statement means, each once: keys, then rows, then values.
    async fn found(&self, finding: &Finding, view: &TableView) -> Result<Vec<(Vec<Vec<u8>>, RecordBatch)>> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for rows in self.rows_of_text(&finding.planner, &finding.text, view).await? {
            let all = rows.column(0).as_binary::<i32>();
            // A row that meets several others is changed by the first.
            let first: Vec<u32> =
                (0..all.len()).filter(|row| seen.insert(all.value(*row).to_vec())).map(|row| row as u32).collect();
            let keys = first.iter().map(|row| all.value(*row as usize).to_vec()).collect();
            let rows = match first.len() == all.len() {
                true => rows.clone(),
                false => take_record_batch(&rows, &UInt32Array::from(first))?,
            };
            found.push((keys, rows));
        }
        Ok(found)
    }

    /// UPDATE.
    pub(super) async fn update(&self, update: &Update, view: &mut TableView) -> Result<Affected> {
        let target = self.target(&updated(update)?.0)?;
        target.check_changeable("UPDATE")?;
        let (finding, set) = self.update_finding(&target, update)?;
        let schema = target.schema();
        let width = schema.fields().len();
        let mut affected = Affected { count: 0, rows: Vec::new() };
        let mut all_keys = Vec::new();
        for (keys, rows) in self.found(&finding, view).await? {
            let mut new: Vec<ArrayRef> = rows.columns()[1..=width].to_vec();
            let mut values = rows.columns()[1 + width..].iter();
            for (place, value) in &set {
                let field = schema.field(*place);
                new[*place] = match values.as_slice().first().filter(|_| !is_default(value)) {
                    Some(array) => {
                        values.next();
                        assign(array, field.data_type(), field.name())?
                    }
                    None => {
                        target.rules.default(self.planner, *place, rows.num_rows(), self.now_micros, self.parameters)?
                    }
                };
            }
            affected.rows.push(target.rules.complete(new, rows.num_rows())?);
            affected.count += keys.len();
            all_keys.extend(keys);
        }
        let all = arrow::compute::concat_batches(schema, &affected.rows)?;
        self.replace(&target, &all_keys, &all, view)?;
        Ok(affected)
    }

    /// Puts each row in the place of the one that has had the key. All old keys are free before the first new one is taken.
    pub(super) fn replace(
        &self,
        target: &Target,
        keys: &[Vec<u8>],
        rows: &RecordBatch,
        view: &mut TableView,
    ) -> Result<()> {
        let definition = target.table.definition();
        let key_columns = definition.key_columns();
        let mut moved = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            if key_columns.is_empty() {
                self.put(view, target, rows, row, key.clone())?;
                continue;
            }
            let new = key_of(&key_columns, rows, row)?;
            if new == *key {
                self.put(view, target, rows, row, new)?;
            } else {
                view.set(&target.table, key.clone(), None)?;
                moved.push((row, new));
            }
        }
        for (row, key) in moved {
            if view.get(&target.table, &key)?.is_some() {
                return Err(duplicate_key(definition, rows, row));
            }
            self.put(view, target, rows, row, key)?;
        }
        Ok(())
    }

    /// DELETE.
    pub(super) async fn delete(&self, delete: &Delete, view: &mut TableView) -> Result<Affected> {
        let target = self.target(&deleted(delete)?.0)?;
        target.check_changeable("DELETE")?;
        let finding = self.delete_finding(&target, delete)?;
        let width = target.schema().fields().len();
        let mut affected = Affected { count: 0, rows: Vec::new() };
        for (keys, rows) in self.found(&finding, view).await? {
            affected.count += keys.len();
            for key in keys {
                view.set(&target.table, key, None)?;
            }
            self.check_memory(view.pending().bytes())?;
            let columns = rows.columns()[1..=width].to_vec();
            affected.rows.push(crate::operator::expression::batch(target.schema(), columns, rows.num_rows())?);
        }
        Ok(affected)
    }

    /// TRUNCATE.
    pub(super) fn truncate(&self, names: &[String], view: &mut TableView) -> Result<Affected> {
        for name in names {
            let target = self.target(name)?;
            target.check_changeable("TRUNCATE")?;
            let keys = view.rows(&target.table);
            for entry in keys {
                let (key, _) = entry?;
                view.set(&target.table, key, None)?;
                self.check_memory(view.pending().bytes())?;
            }
        }
        Ok(Affected { count: 0, rows: Vec::new() })
    }
}
