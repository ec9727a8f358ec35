//! Every file under `sql/` is run: by what is said here.

/// The files, and the test that runs each.
pub(crate) const RUN: &[(&str, &str)] = &[
    ("tour/01-streams.sql", "documents::the_tour_runs"),
    ("tour/02-windows.sql", "documents::the_tour_runs"),
    ("tour/03-join.sql", "documents::the_tour_runs"),
    ("tour/04-sink.sql", "documents::the_tour_runs"),
];
