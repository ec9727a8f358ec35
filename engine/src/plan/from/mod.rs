//! What stands in FROM and is no table: windows, lists of rows, series, joins with USING, joins that need parentheses.

pub(super) mod aliases;
pub(super) mod bare;
pub(super) mod elements;
pub(super) mod match_recognize;
pub(super) mod merged;
pub(super) mod nest;
pub(super) mod series;
pub(super) mod window_functions;
