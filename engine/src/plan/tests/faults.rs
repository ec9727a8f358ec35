//! Errors of planning: what is wrong, where, and what to do.

use super::*;

fn fault(query: &str) -> Error {
    let query = sql::parse_query(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let planner = Planner::new(Arc::new(catalog()), Arc::new(Functions::builtin()));
    planner.plan_batch(&query, None).expect_err("it should be refused")
}

#[test]
fn names_that_do_not_exist_have_a_place_and_a_near_one() {
    for (query, sentence, column, hint) in [
        ("SELECT pric FROM bookings", "there is no column pric", 8, "do you mean price?"),
        ("SELECT b.zoen FROM bookings b", "there is no column b.zoen", 8, "do you mean zone?"),
        ("SELECT x.y FROM bookings", "there is no column x.y", 8, "columns here: bookings.id"),
        ("SELECT id FROM booking", "there is no stream or view named booking", 16, "do you mean bookings?"),
        ("SELECT rouund(price) FROM bookings", "there is no function rouund", 8, "do you mean round?"),
        ("SELECT coutn(*) FROM bookings", "there is no function coutn", 8, "do you mean count?"),
        ("SELECT 1 + frobnicate_all(id) FROM bookings", "there is no function frobnicate_all", 12, "docs/functions.md"),
    ] {
        let error = fault(query);
        assert!(error.message().starts_with(sentence), "{query}: {error}");
        assert_eq!(error.position().map(|at| (at.line, at.column)), Some((1, column)), "{query}: {error}");
        assert!(error.hint().is_some_and(|shown| shown.contains(hint)), "{query}: {:?}", error.hint());
    }
}

#[test]
fn types_that_do_not_fit_are_named_as_in_sql() {
    for (query, sentence) in [
        ("SELECT id + true FROM bookings", "the operator + does not take BIGINT and BOOLEAN"),
        ("SELECT event_timestamp + 1 FROM bookings", "the operator + does not take TIMESTAMP and BIGINT"),
    ] {
        let error = fault(query);
        assert_eq!(error.message(), sentence, "{query}");
        assert!(error.hint().is_some_and(|hint| hint.contains("::")), "{query}: {:?}", error.hint());
    }
}
