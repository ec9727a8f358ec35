//! Jobs: lifecycle and supervision.
