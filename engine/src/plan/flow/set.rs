//! Set operations.

use std::fmt;

/// The kinds of set operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Each row of one input once.
    Distinct,
    /// Rows that are in both inputs: once, or as often as in the one that has fewer.
    Intersect {
        /// Whether copies count.
        all: bool,
    },
    /// Rows of the first input that are not in the second: once, or as often as there are more.
    Except {
        /// Whether copies count.
        all: bool,
    },
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetKind::Distinct => "Distinct",
            SetKind::Intersect { all: false } => "Intersect",
            SetKind::Intersect { all: true } => "Intersect all",
            SetKind::Except { all: false } => "Except",
            SetKind::Except { all: true } => "Except all",
        })
    }
}
