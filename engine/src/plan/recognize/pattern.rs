//! The pattern of a MATCH_RECOGNIZE: a regular expression whose letters are variables.

use datafusion::sql::sqlparser::ast::{Ident, MatchRecognizePattern, MatchRecognizeSymbol, RepetitionQuantifier};

use crate::error::{Error, Result};
use crate::plan::fault::at_name;

/// What rows are, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// A row that this variable takes.
    Variable(usize),
    /// One after the other.
    Sequence(Vec<Pattern>),
    /// One of these; the first that leads to a match.
    Choice(Vec<Pattern>),
    /// Several times.
    Repeated {
        /// What.
        what: Box<Pattern>,
        /// How often at least.
        least: u32,
        /// How often at most.
        most: Option<u32>,
        /// Whether rather more often than less.
        greedy: bool,
    },
}

/// How many steps a pattern may have when its repetitions are written out.
const MOST_STEPS: usize = 10_000;

impl Pattern {
    /// How many rows a match has at least.
    pub fn shortest(&self) -> usize {
        self.fewest(&|_| 1)
    }

    /// How many rows this variable has in a match at least.
    pub fn fewest_of(&self, variable: usize) -> usize {
        self.fewest(&|other| usize::from(other == variable))
    }

    fn fewest(&self, of: &dyn Fn(usize) -> usize) -> usize {
        match self {
            Pattern::Variable(variable) => of(*variable),
            Pattern::Sequence(parts) => parts.iter().fold(0, |rows, part| rows.saturating_add(part.fewest(of))),
            Pattern::Choice(parts) => parts.iter().map(|part| part.fewest(of)).min().unwrap_or(0),
            Pattern::Repeated { what, least, .. } => what.fewest(of).saturating_mul(*least as usize),
        }
    }

    /// How many rows of a match stand before one of this variable at least; `None` if the pattern does not name it.
    pub fn rows_before(&self, variable: usize) -> Option<usize> {
        match self {
            Pattern::Variable(other) => (*other == variable).then_some(0),
            Pattern::Sequence(parts) => {
                let mut before = 0_usize;
                parts.iter().find_map(|part| {
                    let found = part.rows_before(variable).map(|within| before.saturating_add(within));
                    before = before.saturating_add(part.shortest());
                    found
                })
            }
            Pattern::Choice(parts) => parts.iter().filter_map(|part| part.rows_before(variable)).min(),
            Pattern::Repeated { what, .. } => what.rows_before(variable),
        }
    }

    /// How many steps it has with its repetitions written out.
    fn steps(&self) -> usize {
        match self {
            Pattern::Variable(_) => 1,
            Pattern::Sequence(parts) | Pattern::Choice(parts) => {
                parts.iter().fold(parts.len(), |steps, part| steps.saturating_add(part.steps()))
            }
            Pattern::Repeated { what, least, most, .. } => {
                let times = most.unwrap_or(least.saturating_add(1)).max(1) as usize;
                what.steps().saturating_add(2).saturating_mul(times)
            }
        }
    }

    /// A part that is repeated without an end and takes no row.
    fn runs_empty(&self) -> bool {
        match self {
            Pattern::Variable(_) => false,
            Pattern::Sequence(parts) | Pattern::Choice(parts) => parts.iter().any(Pattern::runs_empty),
            Pattern::Repeated { what, most, .. } => (most.is_none() && what.shortest() == 0) || what.runs_empty(),
        }
    }
}

/// The names of variables, in the order in which they were met.
#[derive(Debug, Default)]
pub(in crate::plan) struct Names(pub(in crate::plan) Vec<String>);

impl Names {
    /// The number of a variable.
    pub(in crate::plan) fn number(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name)
    }
}

/// Reads a pattern. `normal`: a name as it is meant, by its quotes.
pub(in crate::plan) fn read(
    pattern: &MatchRecognizePattern,
    normal: &dyn Fn(&Ident) -> String,
) -> Result<(Pattern, Names)> {
    let mut names = Names::default();
    let read = part(pattern, normal, &mut names)?;
    if read.shortest() == 0 {
        return Err(Error::not_supported("this PATTERN is met by no row at all")
            .with_hint("let one variable of it stand without *, ? or {0, …}"));
    }
    if read.runs_empty() {
        return Err(Error::not_supported("what is repeated in this PATTERN may itself be empty")
            .with_hint("write (A B*)* instead of (A* B*)*"));
    }
    if read.steps() > MOST_STEPS {
        return Err(Error::not_supported(format!(
            "this PATTERN has more than {MOST_STEPS} variables when its repetitions are written out"
        ))
        .with_hint("write + or * where the number of rows does not matter"));
    }
    Ok((read, names))
}

fn part(pattern: &MatchRecognizePattern, normal: &dyn Fn(&Ident) -> String, names: &mut Names) -> Result<Pattern> {
    let mut all = |parts: &[MatchRecognizePattern]| {
        parts.iter().map(|pattern| part(pattern, normal, names)).collect::<Result<Vec<_>>>()
    };
    Ok(match pattern {
        MatchRecognizePattern::Symbol(MatchRecognizeSymbol::Named(name)) => {
            let name = normal(name);
            let number = names.number(&name).unwrap_or_else(|| {
                names.0.push(name);
                names.0.len() - 1
            });
            Pattern::Variable(number)
        }
        MatchRecognizePattern::Symbol(MatchRecognizeSymbol::Start | MatchRecognizeSymbol::End) => {
            return Err(Error::not_supported("^ and $ in a PATTERN are not supported: a stream has no end")
                .with_hint("say in DEFINE which row is the first"));
        }
        MatchRecognizePattern::Exclude(symbol) => {
            return Err(at_symbol(symbol, Error::not_supported("{- … -} in a PATTERN is not supported"))
                .with_hint("it matters to ALL ROWS PER MATCH alone: write the variable without it"));
        }
        MatchRecognizePattern::Permute(_) => {
            return Err(Error::not_supported("PERMUTE in a PATTERN is not supported")
                .with_hint("write the orders out: (A B | B A)"));
        }
        MatchRecognizePattern::Concat(parts) => Pattern::Sequence(all(parts)?),
        MatchRecognizePattern::Alternation(parts) => Pattern::Choice(all(parts)?),
        MatchRecognizePattern::Group(inner) => part(inner, normal, names)?,
        MatchRecognizePattern::Repetition(what, quantifier) => {
            // A ? behind another quantifier: rather less often.
            let (what, quantifier, greedy) = match (&**what, quantifier) {
                (MatchRecognizePattern::Repetition(what, quantifier), RepetitionQuantifier::AtMostOne) => {
                    (&**what, quantifier, false)
                }
                (MatchRecognizePattern::Repetition(..), _) => {
                    return Err(Error::invalid("two quantifiers follow each other in a PATTERN")
                        .with_hint("put what is to be repeated in parentheses"));
                }
                (what, quantifier) => (what, quantifier, true),
            };
            if let MatchRecognizePattern::Repetition(..) = what {
                return Err(Error::invalid("two quantifiers follow each other in a PATTERN")
                    .with_hint("put what is to be repeated in parentheses"));
            }
            let (least, most) = match quantifier {
                RepetitionQuantifier::ZeroOrMore => (0, None),
                RepetitionQuantifier::OneOrMore => (1, None),
                RepetitionQuantifier::AtMostOne => (0, Some(1)),
                RepetitionQuantifier::Exactly(times) => (*times, Some(*times)),
                RepetitionQuantifier::AtLeast(least) => (*least, None),
                RepetitionQuantifier::AtMost(most) => (0, Some(*most)),
                RepetitionQuantifier::Range(least, most) => (*least, Some(*most)),
            };
            if most.is_some_and(|most| most == 0 || most < least) {
                return Err(Error::invalid(format!("the quantifier {quantifier} of a PATTERN allows nothing"))
                    .with_hint("the second number is at least 1 and not less than the first"));
            }
            Pattern::Repeated { what: Box::new(part(what, normal, names)?), least, most, greedy }
        }
    })
}

fn at_symbol(symbol: &MatchRecognizeSymbol, error: Error) -> Error {
    match symbol {
        MatchRecognizeSymbol::Named(name) => at_name(error, name),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(number: usize) -> Pattern {
        Pattern::Variable(number)
    }

    fn repeated(what: Pattern, least: u32, most: Option<u32>) -> Pattern {
        Pattern::Repeated { what: Box::new(what), least, most, greedy: true }
    }

    #[test]
    fn counts_rows_at_least() {
        // A B{2,3} (C | D E)? B
        let choice = Pattern::Choice(vec![variable(2), Pattern::Sequence(vec![variable(3), variable(4)])]);
        let pattern = Pattern::Sequence(vec![
            variable(0),
            repeated(variable(1), 2, Some(3)),
            repeated(choice, 0, Some(1)),
            variable(1),
        ]);
        assert_eq!(pattern.shortest(), 4);
        assert_eq!((pattern.fewest_of(0), pattern.fewest_of(1), pattern.fewest_of(2)), (1, 3, 0));
        assert_eq!(pattern.rows_before(0), Some(0));
        assert_eq!(pattern.rows_before(1), Some(1));
        assert_eq!(pattern.rows_before(4), Some(4));
        assert_eq!(pattern.rows_before(9), None);
    }

    #[test]
    fn a_part_without_rows_may_not_be_repeated_for_ever() {
        assert!(repeated(repeated(variable(0), 0, Some(1)), 0, None).runs_empty());
        assert!(!repeated(repeated(variable(0), 0, Some(1)), 0, Some(3)).runs_empty());
        assert!(!repeated(variable(0), 0, None).runs_empty());
    }
}
