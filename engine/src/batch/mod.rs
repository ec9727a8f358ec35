//! Bounded queries.
