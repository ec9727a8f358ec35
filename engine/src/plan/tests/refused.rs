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
    insta::assert_snapshot!(sentence("(SELECT id FROM bookings ORDER BY price) UNION ALL SELECT id FROM bookings"), @r"ORDER BY without LIMIT has no meaning in a part of a continuous query: rows that change have no order | leave ORDER BY out here");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings LIMIT 3"), @r"LIMIT without ORDER BY does not say which rows, so a continuous query cannot have it | write ORDER BY before it, or leave LIMIT out here, and write it when you SELECT from the view");
    insta::assert_snapshot!(sentence("SELECT array_agg(id) OVER (PARTITION BY zone ORDER BY price) FROM bookings"), @r"array_agg over a RANGE frame depends on the order of rows that tie | write ROWS BETWEEN … AND …: then rows that tie are ordered by their other columns");
    insta::assert_snapshot!(sentence("SELECT row_number() OVER (PARTITION BY zone ORDER BY id) FROM bookings EMIT AFTER WATERMARK"), @r"EMIT AFTER WATERMARK needs partitions that a watermark completes, and these never end | put window_start and window_end into PARTITION BY, order by the event time alone, or leave EMIT out");
    insta::assert_snapshot!(sentence("SELECT unnest(unnest([[id], [id]])) FROM bookings"), @r"unnest inside unnest is not supported in a continuous query | unnest the outer list in a subquery, and its elements around it");
    insta::assert_snapshot!(sentence(
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT n FROM t"
    ), @r"WITH RECURSIVE is not supported in a continuous query | write the levels out as joins with UNION ALL");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings WHERE id = $1"), @r"a continuous query has no parameters, and $1 is one | write the value itself");
}

#[test]
fn subqueries() {
    for (refused, why) in [
        (
            "SELECT b.id FROM bookings b LEFT JOIN rides r ON EXISTS (SELECT 1 FROM clicks c WHERE c.id = b.id AND c.id < r.booking)",
            "names one of its sides at most",
        ),
        (
            "SELECT id FROM bookings b WHERE EXISTS (SELECT 1 FROM rides r FULL JOIN clicks c ON r.booking = c.id AND c.id < b.id)",
            "cannot be made a join",
        ),
    ] {
        assert!(sentence(refused).contains(why), "{}", sentence(refused));
    }
    let unstable =
        sentence("SELECT b.id FROM bookings b JOIN rides r ON b.id = r.booking AND b.price > random() * r.booking");
    assert!(unstable.contains("does not say which rows belong together"), "{unstable}");
}

#[test]
fn functions() {
    insta::assert_snapshot!(sentence("SELECT first_value(id) FROM bookings"), @r"first_value without ORDER BY depends on the order in which rows come | write first_value(column ORDER BY event_time)");
    insta::assert_snapshot!(sentence("SELECT zone, last_value(id) FROM bookings GROUP BY zone"), @r"last_value without ORDER BY depends on the order in which rows come | write last_value(column ORDER BY event_time)");
    insta::assert_snapshot!(sentence("SELECT zone, total + random() FROM totals"), @r"totals.total + random() gives another value each time, and its rows may be retracted: the retraction would not match | call it below the aggregate, where rows are only added");
    insta::assert_snapshot!(sentence("SELECT zone FROM totals WHERE total > random()"), @r"totals.total > random() gives another value each time, and its rows may be retracted: the retraction would not match | call it below the aggregate, where rows are only added");
}

#[test]
fn the_time_of_day() {
    insta::assert_snapshot!(sentence("SELECT current_date FROM bookings"), @r"current_date() cannot stand in SELECT of a continuous query: its value would change without any row | compare it with a time in WHERE or HAVING, as in ts > now() - INTERVAL '5' MINUTE, or call it when you SELECT from the view");
    for (elsewhere, place) in [
        ("SELECT id, now() - event_timestamp FROM bookings", "now() cannot stand in SELECT"),
        ("SELECT count(*) FROM bookings GROUP BY date_trunc('day', now())", "now() cannot stand in GROUP BY"),
        (
            "SELECT max(event_timestamp) FILTER (WHERE event_timestamp < localtimestamp) FROM bookings",
            "in GROUP BY and aggregates",
        ),
        ("SELECT id FROM bookings ORDER BY now() LIMIT 3", "now() cannot stand in"),
        (
            "SELECT b.id FROM bookings b LEFT JOIN rides r ON b.id = r.booking AND b.event_timestamp + (r.at - b.event_timestamp) > now()",
            "outer join",
        ),
        (
            "SELECT b.id FROM bookings b JOIN clicks c ON b.event_timestamp = now() + (c.at - TIMESTAMP '2024-01-01 00:00:00')",
            "from one moment on, or until one",
        ),
    ] {
        assert!(sentence(elsewhere).contains(place), "{elsewhere}: {}", sentence(elsewhere));
    }
    for condition in [
        "event_timestamp > now() - INTERVAL '1' MONTH",
        "event_timestamp > now() OR id = 3",
        "event_timestamp <> now()",
        "NOT event_timestamp BETWEEN now() - INTERVAL '1' HOUR AND now()",
        "date_part('hour', now()) > id",
        "CAST(now() AS TEXT) > note",
        "CASE WHEN now() > event_timestamp THEN id > 3 ELSE id < 3 END",
        "now() > now() - INTERVAL '1' HOUR",
        "current_time > CAST(event_timestamp AS TIME)",
        "now() - event_timestamp < INTERVAL '1' MONTH",
    ] {
        let refused = sentence(&format!("SELECT id FROM bookings WHERE {condition}"));
        assert!(refused.contains("from one moment on, or until one"), "{condition}: {refused}");
    }
}

#[test]
fn emit() {
    insta::assert_snapshot!(sentence("SELECT id FROM bookings EMIT AFTER DELAY INTERVAL '1' SECOND AND AFTER WATERMARK"), @r"EMIT AFTER WATERMARK needs groups that a watermark completes, and these never end | group by window_start and window_end of TUMBLE, HOP or CUMULATE over a stream with a WATERMARK, or leave AFTER WATERMARK out");
    insta::assert_snapshot!(sentence("SELECT zone, sum(total) FROM totals GROUP BY zone EMIT DISCARDING"), @r"DISCARDING shows what has come since the last time, and this query reads rows that are taken back or corrected | write it over a stream, or over a view with EMIT AFTER WATERMARK; or leave DISCARDING out");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings EMIT LATE ROWS TO late"), @r"LATE ROWS TO wants rows that come too late, and in this query none can | windows and groups over a stream with a WATERMARK drop late rows; leave LATE ROWS out");
    insta::assert_snapshot!(sentence("SELECT zone, count(*) FROM bookings GROUP BY zone HAVING count(*) > 1 EMIT AFTER DELAY INTERVAL '0' SECOND"), @r"the interval of AFTER DELAY must be greater than zero | no hint");
    insta::assert_snapshot!(sentence("SELECT zone, count(*) FROM bookings GROUP BY zone EMIT AFTER WATERMARK"), @r"EMIT AFTER WATERMARK needs groups that a watermark completes, and these never end | group by window_start and window_end of TUMBLE, HOP or CUMULATE over a stream with a WATERMARK, or leave EMIT out");
    insta::assert_snapshot!(sentence(
        "SELECT count(*) FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE) GROUP BY window_end EMIT AFTER WATERMARK"
    ), @r"EMIT AFTER WATERMARK needs a watermark on at, and nothing says how late its rows may be | give the stream a WATERMARK FOR at AS at - INTERVAL '10' SECOND");
    insta::assert_snapshot!(sentence("SELECT id FROM bookings EMIT AFTER WATERMARK ALLOWED LATENESS INTERVAL '1' HOUR"), @r"ALLOWED LATENESS corrects aggregates of windows, and this query has none | group by window_start and window_end of TUMBLE, HOP or CUMULATE, or leave it out");
    insta::assert_snapshot!(sentence("SELECT zone FROM totals EMIT AFTER WATERMARK"), @r"EMIT AFTER WATERMARK shows final rows only, and this query reads rows that are still corrected | create the view that it reads with EMIT AFTER WATERMARK as well, or leave EMIT out here");
}

#[test]
fn windows() {
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MONTH)"), @r"an interval of months or years has no fixed length | write it in days, for instance INTERVAL '30' DAY");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '0' MINUTE)"), @r"the window's size must be greater than zero | no hint");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, event_timestamp, INTERVAL '1' MINUTE)"), @r"the event-time column is named by DESCRIPTOR(column) | write DESCRIPTOR(event_time)");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp))"), @r"the arguments do not fit TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE [, offset]) | no hint");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), size => INTERVAL '1' DAY, slide => INTERVAL '1' DAY)"), @r"slide => INTERVAL '1' DAY is no argument of TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE [, offset]) | no hint");
    insta::assert_snapshot!(sentence("SELECT * FROM CUMULATE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '7' MINUTE, INTERVAL '1' HOUR)"), @r"the size of CUMULATE must be a multiple of its step, and 1 h is none of 7 min | no hint");
    insta::assert_snapshot!(sentence("SELECT * FROM HOP(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' SECOND, INTERVAL '30' DAY)"), @r"each row would be in 2592000 windows, and 100000 is the most that is allowed | no hint");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1500 microseconds')"), @r"the window's 1500 µs cannot be said in the unit of the column at, which counts in 1 ms | no hint");
    insta::assert_snapshot!(sentence("SELECT * FROM TUMBLE(TABLE demand, DESCRIPTOR(window_end), INTERVAL '1' HOUR)"), @r"the rows to be windowed have a column window_start already | give it another name in a subquery, or leave it out");
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
