//! Windows over event time.

use datafusion::logical_expr::Expr;

/// Windows over event time. All lengths in microseconds; windows start at multiples of the slide since 1970, plus the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowSpec {
    /// One window after the other.
    Tumble {
        /// Length.
        size: i64,
        /// Shift.
        offset: i64,
    },
    /// Overlapping windows, a new one every `slide`. `size` need not be a multiple of `slide`.
    Hop {
        /// Distance of starts.
        slide: i64,
        /// Length.
        size: i64,
        /// Shift.
        offset: i64,
    },
    /// Windows that share a start and grow by `step` up to `size` (a multiple of `step`).
    Cumulate {
        /// Distance of ends.
        step: i64,
        /// Length of the longest.
        size: i64,
        /// Shift.
        offset: i64,
    },
}

/// A group expression of a windowed aggregate.
#[derive(Debug, Clone)]
pub enum WindowKey {
    /// `window_start`
    Start,
    /// `window_end`
    End,
    /// Any other, over the input's schema (before the window).
    Key(Expr),
}
