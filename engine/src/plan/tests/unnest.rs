//! UNNEST and series.

use super::*;

#[test]
fn a_list_in_select_multiplies_its_row() {
    let text = explained("SELECT id, unnest([price, 1.0]) AS p FROM bookings WHERE id > 3");
    assert!(text.contains("-> Unnest "), "{text}");
    assert!(text.contains("Filter bookings.id > 3"), "{text}");
}

#[test]
fn a_list_in_from_is_a_function_of_each_row() {
    // DataFusion knows no outer columns in `[…]`.
    for from in [
        "bookings AS b, unnest(make_array(b.id, 7)) AS u(x)",
        "bookings AS b CROSS JOIN unnest(make_array(b.id, 7)) AS u(x)",
        "bookings AS b JOIN LATERAL (SELECT unnest(make_array(b.id, 7)) AS x) AS u ON u.x > b.id",
    ] {
        let plan = planned(&format!("SELECT b.zone, u.x, b.event_timestamp FROM {from}"));
        let text = plan.explain();
        assert!(text.contains("-> Unnest ") && !text.contains("join"), "{from}\n{text}");
        assert!(!plan.properties().changelog && plan.properties().time_columns.len() == 1, "{from}\n{text}");
    }
    let left = explained("SELECT b.id, u.x FROM bookings b LEFT JOIN unnest(make_array(b.id)) AS u(x) ON true");
    assert!(left.contains(", empty ones kept"), "{left}");
}

#[test]
fn a_series_is_a_list() {
    for series in ["generate_series(1, 5)", "generate_series(1, 5) AS s(n)", "range(1, 5) AS n"] {
        let text = explained(&format!("SELECT * FROM {series}"));
        assert!(text.contains("Unnest ") && text.contains("Values: 1 rows"), "{series}\n{text}");
    }
    let joined = explained("SELECT id, n FROM bookings CROSS JOIN LATERAL (SELECT unnest(range(0, id)) AS n) AS r");
    assert!(joined.contains("Unnest "), "{joined}");
}
