//! Aggregates over results that change, grouping sets, sessions: what EXPLAIN says of them.

use super::*;

fn says(query: &str, parts: &[&str]) {
    let text = explained(query);
    for part in parts {
        assert!(text.contains(part), "{query} says nothing of '{part}':\n{text}");
    }
}

#[test]
fn over_results_that_change() {
    says(
        "SELECT max(total), median(total), sum(total) FROM totals",
        &["for median(totals.total): all read again when the group changes", "changelog; one row"],
    );
    says(
        "SELECT n, count(*) AS zones FROM (SELECT zone, count(*) AS n FROM bookings GROUP BY zone) GROUP BY n",
        &["exchange by", "grows with the number of groups"],
    );
    assert!(!explained("SELECT median(price) FROM bookings").contains("read again"));
}

#[test]
fn grouping_sets_are_aggregates_over_one_input() {
    let text = explained("SELECT zone, note, grouping(zone) AS g, sum(price) FROM bookings GROUP BY CUBE (zone, note)");
    assert_eq!(text.matches("Aggregate").count(), 4, "{text}");
    assert_eq!(text.matches("Scan").count(), 1, "{text}");
    says(
        "SELECT window_end, zone, count(*) FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         GROUP BY window_start, window_end, ROLLUP (zone) EMIT AFTER WATERMARK",
        &["WindowAggregate TUMBLE 1 min", "append-only"],
    );
}

#[test]
fn sessions() {
    let query = "SELECT zone, window_start, window_end, count(*) FROM
         SESSION(TABLE bookings PARTITION BY zone, DESCRIPTOR(event_timestamp), INTERVAL '5' MINUTE)
         GROUP BY zone, window_start, window_end";
    says(
        query,
        &[
            "Session of event_timestamp by bookings.zone, gap 5 min, shown at once and corrected",
            "window_end grows with watermark of bookings.event_timestamp",
            "the rows of open sessions, released by watermark of bookings.event_timestamp",
        ],
    );
    says(&format!("{query} EMIT AFTER WATERMARK"), &["gap 5 min, shown once at the watermark"]);
    says(
        "SELECT * FROM SESSION(DATA => TABLE bookings PARTITION BY (zone, id), TIMECOL => DESCRIPTOR(event_timestamp),
         GAP => INTERVAL '1' MINUTE) WHERE zone = 'a' AND price > 1",
        &["by bookings.zone, bookings.id", "Filter"],
    );
    says("SELECT * FROM SESSION(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)", &["one worker"]);
}

#[test]
fn late_rows_may_correct_windows() {
    says(
        "SELECT window_end, count(*) FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         GROUP BY window_start, window_end EMIT AFTER WATERMARK ALLOWED LATENESS INTERVAL '1' HOUR RETRACTING",
        &[
            "shown at the watermark and corrected by late rows",
            "the open windows, released by watermark of bookings.event_timestamp less 1 h",
            "changelog",
        ],
    );
}
