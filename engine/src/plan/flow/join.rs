//! Joins.

use super::{FlowOp, FlowPlan, NodeIndex};

/// The kinds of joins. A row *matches* if the other side has a row with which the conditions are true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// All pairs.
    Inner,
    /// All pairs, and left rows without a match with NULLs for the right columns.
    Left,
    /// All pairs, and right rows without a match with NULLs for the left columns.
    Right,
    /// All pairs, and rows of both sides without a match.
    Full,
    /// Left rows with a match, each once.
    LeftSemi,
    /// Left rows without a match.
    LeftAnti,
    /// All left rows, with one column more: whether they have a match.
    LeftMark,
}

impl JoinKind {
    /// Whether pairs of rows come out.
    pub fn has_pairs(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full)
    }

    /// Whether rows of a side (0: left, 1: right) come out without a match.
    pub fn shows_unmatched(self, side: usize) -> bool {
        match self {
            JoinKind::Inner | JoinKind::LeftSemi => false,
            JoinKind::Left | JoinKind::LeftAnti | JoinKind::LeftMark => side == 0,
            JoinKind::Right => side == 1,
            JoinKind::Full => true,
        }
    }

    /// Whether rows of a side come out for their own sake because they have a match.
    pub fn shows_matched(self, side: usize) -> bool {
        matches!(self, JoinKind::LeftSemi | JoinKind::LeftMark) && side == 0
    }
}

impl FlowPlan {
    /// The input of a join without keys whose rows every worker has: so each row of the other input, which is on one worker,
    /// meets all that it can. It is an input of which nothing but pairs is shown: the one that has a single row, if there is
    /// such a one, or else the right one. `None`: all rows are compared on one worker.
    pub fn replicated_input(&self, node: NodeIndex) -> Option<usize> {
        let this = self.nodes.get(node)?;
        let FlowOp::Join { kind, on, .. } = &this.op else { return None };
        if !on.is_empty() {
            return None;
        }
        let is_single = |side: &usize| {
            let input = this.inputs.get(*side).and_then(|input| self.nodes.get(*input));
            input.is_some_and(|input| input.properties.keys.iter().any(Vec::is_empty))
        };
        let only_pairs = |side: &usize| !kind.shows_unmatched(*side) && !kind.shows_matched(*side);
        let sides: Vec<usize> = [1, 0].into_iter().filter(only_pairs).collect();
        sides.iter().copied().find(is_single).or(sides.first().copied())
    }
}
