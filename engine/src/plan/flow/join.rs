//! Joins.

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
