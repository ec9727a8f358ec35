//! MATCH_RECOGNIZE: finds the matches of a pattern in the rows of a partition.
//!
//! At a row the pattern is followed as a regular expression is: a part that may be taken or left is taken first where it is
//! greedy, and what was taken is given back where the rest finds no match (SQL:2016, 4.18: the first match in the order of
//! preference). Conditions that look at a row and its neighbours alone are computed for many rows at once, and no place of
//! the pattern is tried twice at a row then; others are computed row by row over what was taken so far.
//!
//! The search goes from row to row, and of each at which it tried it is known how far it looked ([`Attempt`]): when rows
//! change behind that, the attempt need not be made again.

mod found;
mod path;
mod program;
mod rows;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StructArray};
use arrow::datatypes::{DataType, Fields};
use hashbrown::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Recognition, Recognize, Skip};

use self::found::{Found, Noted};
use self::path::Path;
use self::program::{Step, compiled};
pub(crate) use self::rows::Rows;

/// Steps that are tried at one row at most, where conditions look at what was taken before.
const MOST_STEPS: usize = 10_000_000;

/// Ways that lead nowhere of which one remembers so many before one looks which of them still matter.
const MANY_WAYS: usize = 64 * 1024;

/// An attempt to find a match at a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The row at which it was made.
    pub(crate) start: usize,
    /// Behind which row nothing was looked at; behind the last row's next, if that was missed.
    pub(crate) seen: usize,
    /// The time in microseconds that no row of a match at it has or is behind: by WITHIN; without one the greatest.
    pub(crate) ends: i64,
}

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Search {
    /// The attempts, by their rows.
    pub(crate) attempts: Vec<Attempt>,
    /// The rows at which a match begins.
    pub(crate) matches: Vec<usize>,
    /// The measures of each match: a row per match.
    pub(crate) measures: StructArray,
    /// Where it would go on.
    pub(crate) next: usize,
}

/// Whether a search goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    On,
    /// What was just tried does not count.
    Out,
}

/// See the [module](self).
pub(crate) struct Recognizer {
    recognition: Arc<Recognition>,
    fields: Fields,
    steps: Vec<Step>,
    conditions: Vec<Condition>,
    measures: Vec<Found>,
    /// Whether no condition looks at what was taken before.
    is_regular: bool,
    path: Path,
    dead: DeadEnds,
}

/// Places of the pattern, each at a row, from which no match is found, and behind which row nothing was looked at there. Where
/// conditions are of a row and its neighbours alone, that holds from wherever one comes; with a WITHIN, in one attempt.
#[derive(Debug, Default)]
struct DeadEnds {
    known: HashMap<(usize, usize), usize>,
    /// Those of the attempt that is made.
    tried: HashMap<(usize, usize), usize>,
    many: usize,
}

impl DeadEnds {
    /// Whether a place was tried at a row, and if so, how far that looked. It is tried now.
    fn meets(&mut self, step: usize, row: usize) -> Option<usize> {
        if let Some(seen) = self.known.get(&(step, row)) {
            return Some(*seen);
        }
        // What the attempt has seen so far counts for it anyway.
        self.tried.insert((step, row), 0)
    }

    /// An attempt has found nothing, and looked so far.
    fn nothing(&mut self, start: usize, seen: usize) {
        if self.known.len() >= self.many.max(MANY_WAYS) {
            self.known.retain(|(_, row), _| *row > start);
            self.many = self.known.len() * 2;
        }
        self.known.extend(self.tried.drain().map(|(place, _)| (place, seen)));
    }
}

/// The condition of a variable.
enum Condition {
    /// It takes any row.
    Any,
    /// It looks at a row and its neighbours, so many ahead.
    Neighbours(Found, usize),
    /// It looks at rows of the match.
    Match(Found),
}

impl std::fmt::Debug for Recognizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recognizer").field("recognition", &self.recognition).finish_non_exhaustive()
    }
}

impl Recognizer {
    /// A search for what the function looks for. `types`: of its arguments.
    pub(crate) fn new(function: &Recognize, types: &[DataType]) -> Result<Self> {
        let recognition = Arc::clone(function.recognition());
        let conditions = recognition.variables.iter().enumerate().map(|(number, variable)| {
            let Some(condition) = &variable.condition else { return Ok(Condition::Any) };
            let condition = Found::new(condition, types)?;
            Ok(match condition.is_of_neighbours(number) {
                Some(ahead) => Condition::Neighbours(condition, ahead),
                None => Condition::Match(condition),
            })
        });
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        let measures = recognition.measures.iter().map(|(_, measure)| Found::new(measure, types));
        Ok(Self {
            fields: function.fields().clone(),
            steps: compiled(&recognition.pattern),
            is_regular: !conditions.iter().any(|condition| matches!(condition, Condition::Match(_))),
            conditions,
            measures: measures.collect::<Result<_>>()?,
            path: Path::new(recognition.variables.len()),
            dead: DeadEnds::default(),
            recognition,
        })
    }

    /// What is looked for.
    pub(crate) fn recognition(&self) -> &Recognition {
        &self.recognition
    }

    /// Searches from a row on. `stops_at` is asked before each attempt about its row, `counts` after it about the attempt.
    pub(crate) fn search(
        &mut self,
        rows: &mut Rows<'_>,
        from: usize,
        mut stops_at: impl FnMut(usize) -> bool,
        mut counts: impl FnMut(Attempt) -> Goes,
    ) -> Result<Search> {
        self.forget();
        let mut noted: Vec<Noted> = self.measures.iter().map(|_| Noted::default()).collect();
        let (mut attempts, mut matches, mut next) = (Vec::new(), Vec::new(), from);
        while next < rows.end() && !stops_at(next) {
            let start = next;
            let begin = match self.recognition.within {
                Some(_) => rows.time(start)?,
                None => None,
            };
            let (found, mut seen) = self.attempt(rows, start, begin)?;
            if found {
                // A measure may look at rows behind the match.
                seen = seen.max(self.look_behind());
            }
            let seen = if seen > rows.end() { rows.end() + 1 } else { seen };
            let ends = match (self.recognition.within, begin) {
                (Some(within), Some(begin)) => begin.saturating_add(within),
                _ => i64::MAX,
            };
            let attempt = Attempt { start, seen, ends };
            if counts(attempt) == Goes::Out {
                break;
            }
            attempts.push(attempt);
            next = start + 1;
            if found {
                for (measure, noted) in self.measures.iter_mut().zip(&mut noted) {
                    measure.note(rows, &self.path, noted)?;
                }
                matches.push(start);
                next = self.behind().max(start + 1);
            }
        }
        let measures = self.measures.iter().zip(&noted).zip(&self.fields).map(|((measure, noted), field)| {
            let column = measure.of_noted(rows, noted)?;
            let same = column.data_type() == field.data_type();
            Ok(if same { column } else { arrow::compute::cast(&column, field.data_type())? })
        });
        let measures = measures.collect::<Result<Vec<ArrayRef>>>()?;
        let measures = StructArray::try_new(self.fields.clone(), measures, None)?;
        Ok(Search { attempts, matches, measures, next })
    }

    fn forget(&mut self) {
        self.dead = DeadEnds::default();
        for condition in &mut self.conditions {
            if let Condition::Match(condition) = condition {
                condition.forget();
            }
        }
        self.measures.iter_mut().for_each(Found::forget);
    }

    /// Behind which row no measure looks at the match of the path.
    fn look_behind(&self) -> usize {
        self.measures.iter().map(|measure| measure.sees(&self.path)).max().unwrap_or(0)
    }

    /// Where the search goes on behind the match of the path.
    fn behind(&self) -> usize {
        match self.recognition.skip {
            Skip::PastLastRow => self.path.start() + self.path.len(),
            Skip::ToNextRow => self.path.start() + 1,
            Skip::ToFirst(variable) => self.path.nth(Some(variable), 0).unwrap_or(0),
            Skip::ToLast(variable) => self.path.nth_last(Some(variable), 0).unwrap_or(0),
        }
    }

    /// Tries to find a match at a row: it is the path then. The second value: behind which row nothing was looked at.
    /// `begin`: the row's time, if there is a WITHIN.
    fn attempt(&mut self, rows: &mut Rows<'_>, start: usize, begin: Option<i64>) -> Result<(bool, usize)> {
        self.path.begin(start);
        let mut seen = start + 1;
        // Where to go on if this leads to no match: a step, and how many rows are taken.
        let mut others: Vec<(usize, usize)> = vec![(0, 0)];
        self.dead.tried.clear();
        let mut count = 0_usize;
        while let Some((mut step, taken)) = others.pop() {
            self.path.truncate(taken);
            loop {
                count += 1;
                if !self.is_regular && count > MOST_STEPS {
                    return Err(too_many(start));
                }
                match self.steps[step] {
                    Step::End => return Ok((true, seen)),
                    Step::Go(to) => step = to,
                    Step::Fork(first, second) => {
                        // The rest of the way does not depend on how it came here.
                        let row = start + self.path.len();
                        if self.is_regular
                            && let Some(looked) = self.dead.meets(step, row)
                        {
                            seen = seen.max(looked);
                            break;
                        }
                        others.push((second, self.path.len()));
                        step = first;
                    }
                    Step::Row(variable) => {
                        let row = start + self.path.len();
                        seen = seen.max(row + 1);
                        if row >= rows.end() || !self.is_within(rows, begin, row)? {
                            break;
                        }
                        let (takes, looked) = self.takes(rows, variable, row)?;
                        seen = seen.max(looked);
                        if !takes {
                            break;
                        }
                        step += 1;
                    }
                }
            }
        }
        if self.is_regular && self.recognition.within.is_none() {
            self.dead.nothing(start, seen);
        }
        Ok((false, seen))
    }

    /// A row without a time is not within any length.
    fn is_within(&self, rows: &mut Rows<'_>, begin: Option<i64>, row: usize) -> Result<bool> {
        let Some(within) = self.recognition.within else { return Ok(true) };
        let times = begin.zip(rows.time(row)?);
        Ok(times.is_some_and(|(begin, time)| time.saturating_sub(begin) < within))
    }

    /// Whether a variable takes the next row: it is part of the path then. The second value: behind which row nothing was
    /// looked at.
    fn takes(&mut self, rows: &mut Rows<'_>, variable: usize, row: usize) -> Result<(bool, usize)> {
        let path = &mut self.path;
        let len = path.len();
        path.push(variable);
        let (takes, seen) = match &mut self.conditions[variable] {
            Condition::Any => (true, 0),
            Condition::Neighbours(condition, ahead) => {
                let of = |rows: &mut Rows<'_>, range| condition.of_rows(rows, range);
                (rows.satisfies(row, variable, of)?, row + 1 + *ahead)
            }
            Condition::Match(condition) => condition.holds(rows, path)?,
        };
        if !takes {
            path.truncate(len);
        }
        Ok((takes, seen))
    }
}

fn too_many(row: usize) -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        format!(
            "the PATTERN of MATCH_RECOGNIZE was followed {MOST_STEPS} steps from row {} of a partition on without an end",
            row + 1
        ),
    )
    .with_hint("let fewer rows satisfy the conditions in DEFINE, or write WITHIN")
}
