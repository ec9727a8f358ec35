//! What operators remember.
