//! The rows of a match while it is looked for: which variable took each.

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Path {
    start: usize,
    /// The variable of each row from the first on.
    variables: Vec<usize>,
    /// The rows of all variables.
    all: Vec<usize>,
    /// The rows of each variable.
    rows: Vec<Vec<usize>>,
}

impl Path {
    /// No rows.
    pub(super) fn new(variables: usize) -> Self {
        Self { start: 0, variables: Vec::new(), all: Vec::new(), rows: vec![Vec::new(); variables] }
    }

    /// Begins anew at a row.
    pub(super) fn begin(&mut self, start: usize) {
        self.truncate(0);
        self.start = start;
    }

    /// The first row.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.variables.len()
    }

    /// The next row is taken by a variable.
    pub(super) fn push(&mut self, variable: usize) {
        let row = self.start + self.variables.len();
        self.variables.push(variable);
        self.all.push(row);
        self.rows[variable].push(row);
    }

    /// Gives back all rows but the first ones.
    pub(super) fn truncate(&mut self, len: usize) {
        for variable in self.variables.drain(len.min(self.variables.len())..).rev() {
            self.rows[variable].pop();
        }
        self.all.truncate(len);
    }

    /// The rows of a variable, or all.
    pub(super) fn rows_of(&self, variable: Option<usize>) -> &[usize] {
        match variable {
            None => &self.all,
            Some(variable) => self.rows.get(variable).map_or(&[], Vec::as_slice),
        }
    }

    /// A row of a variable, or of all, counted from the first.
    pub(super) fn nth(&self, variable: Option<usize>, number: usize) -> Option<usize> {
        self.rows_of(variable).get(number).copied()
    }

    /// The same, counted from the last.
    pub(super) fn nth_last(&self, variable: Option<usize>, number: usize) -> Option<usize> {
        let rows = self.rows_of(variable);
        rows.len().checked_sub(number + 1).and_then(|place| rows.get(place)).copied()
    }
}
