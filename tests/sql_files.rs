//! Every file under `sql/` is run: by what is said here.

/// The files, and the test that runs each.
pub(crate) const RUN: &[(&str, &str)] = &[];
