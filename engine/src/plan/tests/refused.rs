//! What is refused, and with which sentence.

use super::*;

/// The sentence and the hint.
fn sentence(text: &str) -> String {
    let error = refusal(text);
    assert!(
        matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::InvalidDefinition),
        "{text}: {:?} {error}",
        error.kind()
    );
    format!("{} | {}", error.message(), error.hint().unwrap_or("no hint"))
}

/// Kind, sentence, line and column.
fn placed(text: &str) -> (ErrorKind, String, Option<(u64, u64)>) {
    let error = refusal(text);
    (error.kind(), error.message().to_owned(), error.position().map(|position| (position.line, position.column)))
}

#[test]
fn constructs() {
    insta::assert_snapshot!(sentence("SELECT id FROM bookings ORDER BY id"), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings ORDER BY id LIMIT 3"), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings LIMIT 3"), @"");
    insta::assert_snapshot!(sentence("SELECT sum(price) OVER (PARTITION BY zone) FROM bookings"), @"");
    insta::assert_snapshot!(sentence("SELECT b.id FROM bookings b LEFT JOIN rides r ON b.id = r.booking"), @"");
    insta::assert_snapshot!(sentence("SELECT b.id FROM bookings b FULL JOIN rides r ON b.id = r.booking"), @"");
    insta::assert_snapshot!(sentence("SELECT b.id FROM bookings b LEFT SEMI JOIN rides r ON b.id = r.booking"), @"");
    insta::assert_snapshot!(sentence("SELECT b.id FROM bookings b CROSS JOIN rides r"), @"");
    insta::assert_snapshot!(sentence("SELECT b.id FROM bookings b JOIN rides r ON b.id > r.booking"), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings EXCEPT SELECT booking FROM rides"), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings INTERSECT SELECT booking FROM rides"), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings WHERE id IN (SELECT booking FROM rides)"), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings WHERE EXISTS (SELECT 1 FROM rides WHERE booking = id)"), @"");
    insta::assert_snapshot!(sentence("SELECT id, (SELECT max(booking) FROM rides) FROM bookings"), @"");
    insta::assert_snapshot!(sentence("SELECT DISTINCT ON (zone) zone, id FROM bookings ORDER BY zone, id"), @"");
    insta::assert_snapshot!(sentence("SELECT zone, count(*) FROM bookings GROUP BY ROLLUP (zone)"), @"");
    insta::assert_snapshot!(sentence("SELECT unnest([id, id]) FROM bookings"), @"");
    insta::assert_snapshot!(sentence(
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT n FROM t"
    ), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings WHERE id = $1"), @"");
}

#[test]
fn functions() {
    insta::assert_snapshot!(sentence("SELECT id FROM bookings WHERE event_timestamp > now()"), @"");
    insta::assert_snapshot!(sentence("SELECT current_date FROM bookings"), @"");
    insta::assert_snapshot!(sentence("SELECT first_value(id) FROM bookings"), @"");
    insta::assert_snapshot!(sentence("SELECT zone, last_value(id) FROM bookings GROUP BY zone"), @"");
    insta::assert_snapshot!(sentence("SELECT zone, total + random() FROM totals"), @"");
    insta::assert_snapshot!(sentence("SELECT zone FROM totals WHERE total > random()"), @"");
}

#[test]
fn corrected_rows() {
    insta::assert_snapshot!(sentence("SELECT max(total) FROM totals"), @"");
    insta::assert_snapshot!(sentence("SELECT DISTINCT total FROM totals"), @"");
    insta::assert_snapshot!(sentence("SELECT max(n) FROM (SELECT zone, count(*) AS n FROM bookings GROUP BY zone)"), @"");
}

#[test]
fn emit() {
    insta::assert_snapshot!(sentence("SELECT id FROM bookings EMIT STREAM"), @"");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings EMIT AFTER DELAY INTERVAL '1' SECOND AND AFTER WATERMARK"), @"");
    insta::assert_snapshot!(sentence("SELECT zone, count(*) FROM bookings GROUP BY zone EMIT AFTER WATERMARK"), @"");
    insta::assert_snapshot!(sentence(
        "SELECT count(*) FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_end EMIT AFTER WATERMARK"
    ), @"");
    insta::assert_snapshot!(sentence("SELECT zone FROM totals EMIT AFTER WATERMARK"), @"");
}

#[test]
fn windows() {
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MONTH)"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '0' MINUTE)"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, event_timestamp, INTERVAL '1' MINUTE)"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp))"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), size => INTERVAL '1' DAY, slide => INTERVAL '1' DAY)"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM SESSION(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM CUMULATE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '7' MINUTE, INTERVAL '1' HOUR)"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM HOP(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' SECOND, INTERVAL '30' DAY)"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1500 microseconds')"), @"");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE demand, DESCRIPTOR(window_end), INTERVAL '1' HOUR)"), @"");
    assert_eq!(
        placed("SELECT *\nFROM TUMBLE(TABLE bookings, DESCRIPTOR(zone), INTERVAL '1' MINUTE)"),
        (
            ErrorKind::DatatypeMismatch,
            "the column zone is no timestamp but Utf8, and windows are over event time".to_owned(),
            Some((2, 6))
        )
    );
}

#[test]
fn names_have_places() {
    assert_eq!(
        placed("SELECT id,\n  prise FROM bookings"),
        (ErrorKind::UndefinedColumn, "there is no column prise".to_owned(), Some((2, 3)))
    );
    assert_eq!(
        placed("SELECT id FROM\n booking"),
        (ErrorKind::UndefinedObject, "there is no stream or view named booking".to_owned(), Some((2, 2)))
    );
    assert_eq!(refusal("SELECT id FROM booking").hint(), Some("do you mean bookings?"));
    assert_eq!(
        placed("SELECT * FROM TUMBLE(TABLE bookings,\n DESCRIPTOR(tme), INTERVAL '1' MINUTE)"),
        (ErrorKind::UndefinedColumn, "there is no column tme".to_owned(), Some((2, 13)))
    );
    assert_eq!(
        placed("SELECT * FROM TUMBLE(TABLE nothing, DESCRIPTOR(at), INTERVAL '1' MINUTE)"),
        (ErrorKind::UndefinedObject, "there is no stream or view named nothing".to_owned(), Some((1, 28)))
    );
    assert_eq!(refusal("SELECT nosuch(id) FROM bookings").kind(), ErrorKind::UndefinedFunction);
    assert_eq!(
        refusal("SELECT zone FROM bookings b, rides r WHERE b.id = r.booking").kind(),
        ErrorKind::UndefinedColumn
    );
    assert_eq!(refusal("SELECT id FROM other.bookings").kind(), ErrorKind::UndefinedObject);
}
