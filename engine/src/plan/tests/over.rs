//! OVER and top-N: what the planner makes of them.

use super::*;

/// EXPLAIN's lines for the operator that begins with `start`, without their indentation.
fn operator(text: &str, start: &str) -> Vec<String> {
    let text = explained(text);
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("-> ").to_owned());
    let from = lines.skip_while(|line| !line.starts_with(start));
    let operator: Vec<String> =
        from.enumerate().take_while(|(number, line)| *number == 0 || is_detail(line)).map(|(_, line)| line).collect();
    assert!(!operator.is_empty(), "no {start} in\n{text}");
    operator
}

fn is_detail(line: &str) -> bool {
    ["append-only", "changelog", "exchange", "state", "one change"].iter().any(|start| line.starts_with(start))
}

#[test]
fn a_condition_on_a_row_number_is_a_top() {
    let top = operator(
        "SELECT zone, id FROM (SELECT zone, id, row_number() OVER (PARTITION BY zone ORDER BY price DESC) AS n FROM bookings)
         WHERE n <= 3",
        "Top",
    );
    assert_eq!(
        top,
        [
            "Top 3 partition by bookings.zone order by bookings.price desc, bookings.id",
            "changelog",
            "exchange by bookings.zone",
            "state: the first 3 rows of each partition: not bounded",
        ]
    );
}

#[test]
fn deduplication_keeps_one_row_and_has_a_key() {
    for condition in ["n = 1", "n < 2", "1 >= n", "n BETWEEN 1 AND 1"] {
        let text = format!(
            "SELECT id, zone FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY event_timestamp DESC) AS n FROM bookings)
             WHERE {condition}"
        );
        let top = operator(&text, "Top");
        assert_eq!(top[0], "Top 1 partition by bookings.id order by bookings.event_timestamp desc, bookings.zone");
        assert_eq!(top[1], "changelog; key (id)");
    }
}

#[test]
fn a_limit_may_stand_over_a_projection_of_its_order() {
    // The order's columns are dropped between the two.
    let text = "SELECT DISTINCT zone FROM (SELECT zone, price, id FROM bookings ORDER BY price LIMIT 3) AS few";
    let top = operator(text, "Top");
    assert_eq!(top[0], "Top 3 order by bookings.price, bookings.zone");
}

#[test]
fn numbers_that_are_read_are_said() {
    let top = operator(
        "SELECT * FROM (SELECT zone, rank() OVER (PARTITION BY zone ORDER BY price) AS n FROM bookings) WHERE n <= 3 AND n > 1",
        "Top",
    );
    assert_eq!(top[0], "Top 3 by rank partition by bookings.zone order by bookings.price: rank()");
    assert_eq!(top[3], "state: the first 3 rows and their peers of each partition: not bounded");
    let offset = operator(
        "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY price) AS n FROM bookings) WHERE n > 2 AND n <= 5",
        "Rows",
    );
    assert_eq!(offset[0], "Rows 3 to 5 order by bookings.price, bookings.id");
}

#[test]
fn qualify_distinct_on_and_limit() {
    let top = operator(
        "SELECT zone, id FROM bookings QUALIFY row_number() OVER (PARTITION BY zone ORDER BY price) = 1",
        "Top",
    );
    assert_eq!(top[0], "Top 1 partition by bookings.zone order by bookings.price, bookings.id");
    let first = operator("SELECT DISTINCT ON (zone) zone, id FROM bookings ORDER BY zone, price DESC", "Top");
    assert_eq!(first[0], "Top 1 partition by bookings.zone order by bookings.price desc, bookings.id");
    let limit =
        operator("SELECT zone, count(*) AS n FROM bookings GROUP BY zone ORDER BY n DESC LIMIT 10 OFFSET 5", "Rows");
    assert_eq!(limit[0], "Rows 6 to 15 order by n desc, bookings.zone");
    assert_eq!(limit[2], "exchange by nothing: one worker");
    assert_eq!(limit[3], "state: all rows of each partition: not bounded");
    // What is sorted by need not be shown.
    let hidden = operator("SELECT zone FROM bookings ORDER BY price LIMIT 1", "Top");
    assert_eq!(hidden[..2], ["Top 1 order by bookings.price, bookings.zone", "changelog; one row"]);
}

#[test]
fn a_window_closes_its_partitions() {
    let text = "SELECT window_end, zone, n FROM (
           SELECT *, row_number() OVER (PARTITION BY window_start, window_end ORDER BY n DESC) AS place FROM (
             SELECT window_start, window_end, zone, count(*) AS n
             FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, zone
         )) WHERE place <= 3";
    let top = operator(text, "Top");
    assert_eq!(top[3], "state: all rows of each partition, released by watermark of bookings.event_timestamp");
    let last = operator(&format!("{text} EMIT AFTER WATERMARK"), "Top");
    assert!(last[0].ends_with("shown once at the watermark"), "{}", last[0]);
    assert!(last[1].starts_with("append-only"), "{}", last[1]);
    assert_eq!(last[3], "state: the first 3 rows of each partition, released by watermark of bookings.event_timestamp");
}

#[test]
fn what_may_rewrite_a_partition_says_so() {
    let over = |call: &str| operator(&format!("SELECT id, {call} FROM bookings"), "Over");
    let near = over("sum(price) OVER (PARTITION BY zone ORDER BY event_timestamp ROWS 3 PRECEDING)");
    assert_eq!(near.len(), 4, "{near:?}");
    let far = over("ntile(4) OVER (PARTITION BY zone ORDER BY price)");
    assert_eq!(far[4], "one change may rewrite the partition: ntile(4)");
    let running = over("sum(price) OVER (PARTITION BY zone ORDER BY price)");
    assert_eq!(
        running[0],
        "Over partition by bookings.zone order by bookings.price: sum(bookings.price) RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    );
}

#[test]
fn event_time_settles_rows() {
    let text =
        "SELECT id, lag(id) OVER (PARTITION BY zone ORDER BY event_timestamp) AS before, event_timestamp FROM bookings";
    let lag = operator(text, "Over");
    let released = "state: rows that a later one's frame may reach, released by watermark of bookings.event_timestamp";
    assert_eq!(lag[3], released);
    assert_eq!(lag[1], "changelog; event_timestamp grows with watermark of bookings.event_timestamp");
    let last = operator(&format!("{text} EMIT AFTER WATERMARK"), "Over");
    assert_eq!(last[1], "append-only; event_timestamp grows with watermark of bookings.event_timestamp");
    // A running sum needs all that came before, but its rows are final too.
    let sum = "SELECT sum(price) OVER (PARTITION BY zone ORDER BY event_timestamp) FROM bookings";
    assert_eq!(operator(sum, "Over")[3], "state: all rows of each partition: not bounded");
    assert!(operator(&format!("{sum} EMIT AFTER WATERMARK"), "Over")[1].starts_with("append-only"));
    // Rows in another order, or rows that are corrected, are never final.
    refusal("SELECT lag(id) OVER (ORDER BY event_timestamp DESC) FROM bookings EMIT AFTER WATERMARK");
    refusal("SELECT lag(id) OVER (ORDER BY event_timestamp NULLS FIRST) FROM bookings EMIT AFTER WATERMARK");
}

#[test]
fn several_windows_are_several_operators() {
    let text = explained(
        "SELECT id, row_number() OVER (PARTITION BY zone ORDER BY price) AS a, rank() OVER (PARTITION BY zone ORDER BY price) AS b,
         lag(id) OVER (ORDER BY event_timestamp) AS c FROM bookings",
    );
    assert_eq!(text.matches("Over ").count(), 3, "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("row_number")).collect();
    assert!(!rows.is_empty(), "{text}");
}
