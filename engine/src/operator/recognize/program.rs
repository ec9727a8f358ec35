//! A pattern as steps, with its repetitions written out.

use crate::plan::Pattern;

/// A step of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The next row is one of this variable.
    Row(usize),
    /// It goes on at the first place, or if that leads to no match, at the second.
    Fork(usize, usize),
    /// It goes on there.
    Go(usize),
    /// A match.
    End,
}

/// The steps of a pattern; the first is where it begins.
pub(super) fn compiled(pattern: &Pattern) -> Vec<Step> {
    let mut steps = Vec::new();
    add(pattern, &mut steps);
    steps.push(Step::End);
    steps
}

fn add(pattern: &Pattern, steps: &mut Vec<Step>) {
    match pattern {
        Pattern::Variable(variable) => steps.push(Step::Row(*variable)),
        Pattern::Sequence(parts) => parts.iter().for_each(|part| add(part, steps)),
        Pattern::Choice(parts) => {
            let mut ends = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                if number + 1 == parts.len() {
                    add(part, steps);
                    break;
                }
                let fork = steps.len();
                steps.push(Step::Go(0));
                add(part, steps);
                ends.push(steps.len());
                steps.push(Step::Go(0));
                steps[fork] = Step::Fork(fork + 1, steps.len());
            }
            let end = steps.len();
            ends.into_iter().for_each(|place| steps[place] = Step::Go(end));
        }
        Pattern::Repeated { what, least, most, greedy } => {
            let fork = |on: usize, out: usize| if *greedy { Step::Fork(on, out) } else { Step::Fork(out, on) };
            (0..*least).for_each(|_| add(what, steps));
            let Some(most) = most else {
                let begin = steps.len();
                steps.push(Step::Go(0));
                add(what, steps);
                steps.push(Step::Go(begin));
                steps[begin] = fork(begin + 1, steps.len());
                return;
            };
            let mut forks = Vec::new();
            for _ in *least..*most {
                forks.push(steps.len());
                steps.push(Step::Go(0));
                add(what, steps);
            }
            let out = steps.len();
            forks.into_iter().for_each(|place| steps[place] = fork(place + 1, out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_repetitions_out() {
        let what = || Box::new(Pattern::Variable(0));
        let pattern = Pattern::Repeated { what: what(), least: 1, most: Some(2), greedy: false };
        assert_eq!(compiled(&pattern), [Step::Row(0), Step::Fork(3, 2), Step::Row(0), Step::End]);
        let pattern = Pattern::Repeated { what: what(), least: 0, most: None, greedy: true };
        assert_eq!(compiled(&pattern), [Step::Fork(1, 3), Step::Row(0), Step::Go(0), Step::End]);
        let pattern = Pattern::Choice(vec![Pattern::Variable(0), Pattern::Variable(1)]);
        assert_eq!(compiled(&pattern), [Step::Fork(1, 3), Step::Row(0), Step::Go(4), Step::Row(1), Step::End]);
    }
}
