//! Every file under `sql/` is run: by what is said here.

/// The files, and the test that runs each.
pub(crate) const RUN: &[(&str, &str)] = &[
    ("nexmark/kafka-narrow.sql", "nexmark::bids_from_kafka_pass_the_filters"),
    ("nexmark/kafka-stream.sql", "nexmark::bids_from_kafka_pass_the_filters"),
    ("nexmark/kafka-wide.sql", "nexmark::bids_from_kafka_pass_the_filters"),
    ("nexmark/q0.sql", "nexmark::the_queries_answer_as_a_batch_does"),
    ("nexmark/q1.sql", "nexmark::the_queries_answer_as_a_batch_does"),
    ("nexmark/q2.sql", "nexmark::the_queries_answer_as_a_batch_does"),
    ("nexmark/q5.sql", "nexmark::the_queries_answer_as_a_batch_does"),
    ("nexmark/q7.sql", "nexmark::the_queries_answer_as_a_batch_does"),
    ("tour/01-streams.sql", "documents::the_tour_runs"),
    ("tour/02-windows.sql", "documents::the_tour_runs"),
    ("tour/03-join.sql", "documents::the_tour_runs"),
    ("tour/04-sink.sql", "documents::the_tour_runs"),
];
