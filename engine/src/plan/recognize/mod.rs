//! `MATCH_RECOGNIZE`: a pattern of rows that follow each other.
//!
//! A clause becomes a window function, [`Recognize`], over the rows of a partition in their order: of a row at which a match
//! begins it gives the MEASURES as a row of their own, of all others NULL. What is shown are the rows where it is not NULL
//! ([`super::from::match_recognize`]). So a match is a row of OVER like others: it has a place in a partition, may be taken
//! back, and is released when a watermark has settled it.
//!
//! The conditions of DEFINE and the MEASURES look at rows of the match by navigations (`LAST(a.x, 1)`, `PREV(x)`,
//! `sum(a.x)`). A [`Formula`] is such an expression over the values that its navigations find.

mod formula;
mod function;
mod pattern;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{AggregateUDF, Expr};
use datafusion::scalar::ScalarValue;

pub(super) use formula::Formulas;
pub use function::Recognize;
pub use pattern::Pattern;
pub(super) use pattern::{Names, read as read_pattern};

/// What a MATCH_RECOGNIZE looks for, and what it shows of a match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recognition {
    /// The variables, in the order in which the pattern names them first.
    pub variables: Vec<Variable>,
    /// What the rows of a match are, one after the other. It takes one row at least.
    pub pattern: Pattern,
    /// Where the search goes on behind a match.
    pub skip: Skip,
    /// In microseconds, how far the last row of a match may be from its first: less than this. The first argument of the
    /// function is the time then.
    pub within: Option<i64>,
    /// What is shown of a match, by name.
    pub measures: Vec<(String, Formula)>,
    /// How it is written, for EXPLAIN and to know its state by.
    pub text: String,
}

/// A variable of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Which rows it takes; `None`: any.
    pub condition: Option<Formula>,
}

/// Where the search goes on behind a match. It goes on at the row behind the match's first in any case, or further on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Behind its last row.
    PastLastRow,
    /// At the row behind its first.
    ToNextRow,
    /// At the first row that this variable took.
    ToFirst(usize),
    /// At the last row that this variable took.
    ToLast(usize),
}

/// An expression over what navigations find: its columns are theirs, by their texts ([`Formula::schema`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Formula {
    /// With its types made to fit.
    pub expr: Expr,
    /// What it looks at.
    pub navigations: Vec<Navigation>,
}

/// A value that is found in the rows of a match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Navigation {
    /// How.
    pub finds: Finds,
    /// Of what type.
    pub data_type: DataType,
    /// As it is written: the column's name, by which errors call it.
    pub text: String,
}

/// How a value is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Finds {
    /// An argument of the function, in one row.
    Value {
        /// The argument's place.
        argument: usize,
        /// Of the rows of this variable; `None`: of all rows of the match.
        variable: Option<usize>,
        /// From which end of them.
        from: End,
        /// How many of them are passed over.
        offset: usize,
        /// And from there, how many rows of the partition on (or back, where it is negative).
        shift: i64,
    },
    /// An aggregate over rows.
    Aggregate {
        /// Which.
        function: Arc<AggregateUDF>,
        /// Whether equal arguments count once.
        distinct: bool,
        /// What it is given.
        arguments: Vec<Operand>,
        /// Of the rows of this variable; `None`: of all rows of the match.
        variable: Option<usize>,
    },
}

/// What an aggregate is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operand {
    /// An argument of the function, by its place, in each row.
    Argument(usize),
    /// The same in all rows.
    Constant(ScalarValue),
}

/// An end of the rows of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The oldest.
    First,
    /// The newest.
    Last,
}

impl Formula {
    /// The columns of the expression: what the navigations find.
    pub fn schema(&self) -> PlanResult<DFSchema> {
        schema_of(&self.navigations)
    }
}

/// A column for each navigation.
fn schema_of(navigations: &[Navigation]) -> PlanResult<DFSchema> {
    let fields = navigations.iter().map(|navigation| {
        let field = Field::new(&navigation.text, navigation.data_type.clone(), true);
        (None::<TableReference>, Arc::new(field))
    });
    DFSchema::new_with_metadata(fields.collect(), HashMap::new())
}

impl Recognition {
    /// How many rows before the first row of a match a condition or a measure may look at.
    pub fn looks_before(&self) -> usize {
        let conditions =
            self.variables.iter().enumerate().filter_map(|(number, variable)| {
                variable.condition.as_ref().map(|condition| (Some(number), condition))
            });
        let formulas = conditions.chain(self.measures.iter().map(|(_, measure)| (None, measure)));
        let looks = formulas.flat_map(|(current, formula)| {
            formula.navigations.iter().map(move |navigation| self.navigation_looks_before(current, navigation))
        });
        looks.max().unwrap_or(0)
    }

    /// `current`: the variable whose condition it is in.
    fn navigation_looks_before(&self, current: Option<usize>, navigation: &Navigation) -> usize {
        let Finds::Value { variable, from, offset, shift, .. } = &navigation.finds else { return 0 };
        let Ok(back) = usize::try_from(shift.saturating_neg()) else { return 0 };
        // Before the row that it starts from there are so many rows of the match at least.
        let there = match (variable, from) {
            (Some(variable), _) => self.pattern.rows_before(*variable).unwrap_or(0),
            (None, End::Last) if *offset == 0 => match current {
                Some(current) => self.pattern.rows_before(current).unwrap_or(0),
                None => self.pattern.shortest() - 1,
            },
            (None, _) => 0,
        };
        back.saturating_sub(there)
    }

    /// Whether settled rows may be forgotten: nothing looks at rows before a match.
    pub fn forgets_settled_rows(&self) -> bool {
        self.looks_before() == 0
    }
}

impl fmt::Display for Recognition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
