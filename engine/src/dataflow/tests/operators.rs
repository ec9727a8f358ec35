//! Operators that tests know by the plan node's name.

use super::*;
use crate::operator::{EpochContext, Output, StatePart, StateSize, Step};
use arrow::array::UInt8Array;

type Make = Box<dyn Fn(Role) -> Box<dyn Operator> + Send + Sync>;

/// What is known of a node by name.
struct Recipe {
    make: Make,
    /// Rows are exchanged by the column; an empty list: all to one worker.
    keys: Option<Vec<usize>>,
    local_half: bool,
}

#[derive(Default)]
pub(super) struct TestOperators {
    recipes: Mutex<HashMap<String, Arc<Recipe>>>,
}

impl TestOperators {
    /// Nodes named `pass` hand rows on, `by_key` after an exchange by the key, `sum` adds the values up by key,
    /// `order` checks what every operator is promised.
    pub(super) fn new() -> Arc<Self> {
        let this = Self::default();
        this.add("pass", None, false, |_| Box::new(Pass));
        this.add("by_key", Some(vec![0]), false, |_| Box::new(Pass));
        this.add("sum", Some(vec![0]), true, |role| Box::new(Sum::new(role)));
        this.add("count", Some(vec![]), false, |_| Box::new(Count::default()));
        Arc::new(this)
    }

    pub(super) fn add(
        &self,
        name: &str,
        keys: Option<Vec<usize>>,
        local_half: bool,
        make: impl Fn(Role) -> Box<dyn Operator> + Send + Sync + 'static,
    ) {
        let recipe = Recipe { make: Box::new(make), keys, local_half };
        self.recipes.lock().unwrap().insert(name.to_owned(), Arc::new(recipe));
    }

    fn recipe(&self, plan: &FlowPlan, node: NodeIndex) -> Option<Arc<Recipe>> {
        self.recipes.lock().unwrap().get(&plan.nodes[node].id).cloned()
    }
}

impl OperatorFactory for TestOperators {
    fn operator(&self, plan: &FlowPlan, node: NodeIndex, role: Role) -> Result<Box<dyn Operator>> {
        match self.recipe(plan, node) {
            Some(recipe) => Ok((recipe.make)(role)),
            None => Err(Error::not_supported(format!("no operator {}", plan.nodes[node].id))),
        }
    }

    fn exchange(&self, plan: &FlowPlan, node: NodeIndex, _input: usize) -> Result<Exchange> {
        let keys = self.recipe(plan, node).and_then(|recipe| recipe.keys.clone());
        let column = |key| Arc::new(Column::new(schema().field(key).name(), key)) as Arc<dyn PhysicalExpr>;
        Ok(keys.map_or(Exchange::Stay, |keys| Exchange::ByKeys(keys.into_iter().map(column).collect())))
    }

    fn has_local_half(&self, plan: &FlowPlan, node: NodeIndex) -> bool {
        self.recipe(plan, node).is_some_and(|recipe| recipe.local_half)
    }
}

/// Hands rows on.
pub(super) struct Pass;

impl Operator for Pass {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        out.push(delta);
        Ok(Step::Done)
    }
}

/// The sum of the values by key: `(key, sum)`, corrected at the end of each epoch. The local half adds up within the
/// epoch; the final half emits one group a call, to be resumed.
struct Sum {
    role: Role,
    sums: BTreeMap<i64, (i64, i64)>,
    shown: BTreeMap<i64, i64>,
    touched: Vec<i64>,
}

impl Sum {
    fn new(role: Role) -> Self {
        Self { role, sums: BTreeMap::new(), shown: BTreeMap::new(), touched: Vec::new() }
    }

    fn emit(&mut self, out: &mut Output) -> Result<Step> {
        while let Some(key) = self.touched.pop() {
            let (sum, count) = self.sums[&key];
            let old = self.shown.remove(&key);
            let new = (count != 0).then_some(sum);
            if let Some(old) = old.filter(|old| Some(*old) != new) {
                out.push(Delta::weighted(batch(&[(key, old, 0)]), Int64Array::from(vec![-1])));
            }
            if let Some(new) = new {
                if old != Some(new) {
                    out.push(Delta::weighted(batch(&[(key, new, 0)]), Int64Array::from(vec![1])));
                }
                self.shown.insert(key, new);
            } else {
                self.sums.remove(&key);
            }
            if !self.touched.is_empty() && self.touched.len().is_multiple_of(3) {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }
}

impl Operator for Sum {
    fn on_delta(&mut self, _input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
        let column = |index: usize| delta.rows().column(index).as_primitive::<Int64Type>();
        for row in 0..delta.num_rows() {
            let (key, weight) = (column(0).value(row), delta.weight(row));
            let sum = self.sums.entry(key).or_default();
            // Local halves hand over a sum with the number of rows behind it, as the third column.
            let rows = match self.role {
                Role::Final => {
                    delta.rows().column(2).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row)
                }
                _ => 1,
            };
            sum.0 += column(1).value(row) * weight;
            sum.1 += rows * weight;
            if !self.touched.contains(&key) {
                self.touched.push(key);
            }
        }
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, _epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if self.role == Role::Local {
            self.touched.clear();
            for (key, (sum, rows)) in std::mem::take(&mut self.sums) {
                out.push(Delta::append(batch(&[(key, sum, rows)])));
            }
            return Ok(Step::Done);
        }
        self.emit(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.emit(out)
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(self.sums.keys().copied()));
        let mut hashes = Vec::new();
        crate::state::key_group::hash_keys(&[Arc::clone(&keys)], keys.len(), &mut hashes)?;
        let groups: UInt8Array = hashes.iter().map(|hash| crate::state::key_group::key_group(*hash)).collect();
        let rows = RecordBatch::try_from_iter([
            ("_group", Arc::new(groups) as ArrayRef),
            ("k", keys),
            ("sum", Arc::new(Int64Array::from_iter_values(self.sums.values().map(|sum| sum.0)))),
            ("rows", Arc::new(Int64Array::from_iter_values(self.sums.values().map(|sum| sum.1)))),
        ])?;
        Ok(vec![StatePart { name: "sums".to_owned(), rows }])
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            let column = |index: usize| part.rows.column(index).as_primitive::<Int64Type>();
            for row in 0..part.rows.num_rows() {
                let key = column(1).value(row);
                self.sums.insert(key, (column(2).value(row), column(3).value(row)));
                self.shown.insert(key, column(2).value(row));
            }
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        StateSize { rows: self.sums.len(), bytes: self.sums.len() * 64 }
    }
}

/// How many rows there are: exactly one row `(0, count)`, from the first epoch on.
#[derive(Default)]
struct Count {
    count: i64,
    shown: Option<i64>,
}

impl Operator for Count {
    fn on_delta(&mut self, _input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
        self.count += (0..delta.num_rows()).map(|row| delta.weight(row)).sum::<i64>();
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, _epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        if self.shown != Some(self.count) {
            if let Some(old) = self.shown {
                out.push(Delta::weighted(batch(&[(0, old, 0)]), Int64Array::from(vec![-1])));
            }
            out.push(Delta::weighted(batch(&[(0, self.count, 0)]), Int64Array::from(vec![1])));
            self.shown = Some(self.count);
        }
        Ok(Step::Done)
    }
}
