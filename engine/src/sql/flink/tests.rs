use crate::error::Position;
use crate::sql::{Dialect, Query, Statement, parse_in, parse_one, parse_one_in};

fn read(text: &str) -> crate::error::Result<Query> {
    match parse_one_in(text, Dialect::Flink)?.statement {
        Statement::Query(query) => Ok(query),
        other => panic!("{text} is {}", other.tag()),
    }
}

/// The query in PostgreSQL's dialect, which reads back as itself.
#[track_caller]
fn rewritten(text: &str) -> String {
    let query = read(text).unwrap_or_else(|error| panic!("{text}: {error} ({:?})", error.hint()));
    let shown = query.to_string();
    match parse_one(&shown).unwrap_or_else(|error| panic!("{shown}: {error}")).statement {
        Statement::Query(again) => assert_eq!(again.to_string(), shown),
        other => panic!("{shown} is {}", other.tag()),
    }
    shown
}

#[test]
fn a_group_of_windows_is_a_relation_around_from() {
    let minute = "INTERVAL '60' SECOND";
    assert_eq!(
        rewritten(&format!(
            "SELECT count(1) AS c, Tumble_end(rowtime, {minute}) AS window_timestamp FROM `data-stream` AS t WHERE x > 1 \
             GROUP BY Tumble (rowtime, {minute}), t.zone HAVING count(1) > 2"
        )),
        format!(
            "SELECT count(1) AS c, \"window end\" AS window_timestamp FROM \"GROUP BY TUMBLE\"((SELECT * FROM \
             \"data-stream\" AS t), DESCRIPTOR(rowtime), {minute}) WHERE x > 1 GROUP BY \"window start\", \"window end\", \
             t.zone HAVING count(1) > 2 EMIT AFTER WATERMARK"
        )
    );
    let text = rewritten(
        "SELECT HOP_START(a.rowtime, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE), \
         HOP_ROWTIME(rowtime, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE) FROM a, b \
         GROUP BY a.k, HOP(a.rowtime, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE) \
         ORDER BY HOP_START(a.rowtime, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)",
    );
    assert!(
        text.starts_with("SELECT \"window start\" AS \"hop_start\", (\"window end\" - INTERVAL '1' MILLISECOND) AS"),
        "{text}"
    );
    assert!(
        text.contains("((SELECT * FROM a, b), DESCRIPTOR(a.rowtime), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)"),
        "{text}"
    );
    assert!(text.contains("ORDER BY \"window start\""), "{text}");
}

#[test]
fn sessions_are_kept_apart_by_the_other_groups_and_are_of_the_rows_that_are_left() {
    assert_eq!(
        rewritten(
            "SELECT LOWER(u), SESSION_END(rowtime, INTERVAL '1' MINUTE) AS e FROM t WHERE x > 1 \
             GROUP BY 1, SESSION(rowtime, INTERVAL '1' MINUTE)"
        ),
        "SELECT LOWER(u), \"window end\" AS e FROM \"GROUP BY SESSION\"(\"TABLE PARTITION BY\"((SELECT * FROM t WHERE x > 1), \
         LOWER(u)), DESCRIPTOR(rowtime), INTERVAL '1' MINUTE) GROUP BY 1, \"window start\", \"window end\" EMIT AFTER WATERMARK"
    );
}

#[test]
fn windows_in_subqueries_unions_and_ctes_are_found() {
    let inner = "SELECT k, TUMBLE_ROWTIME(rowtime, INTERVAL '1' MINUTE) AS rowtime FROM t \
                 GROUP BY TUMBLE(rowtime, INTERVAL '1' MINUTE), k";
    for text in [
        format!("SELECT * FROM ({inner}) AS x WHERE k > 1"),
        format!("WITH x AS ({inner}) SELECT * FROM x"),
        format!("SELECT 1, now() UNION ALL {inner}"),
        format!("SELECT count(*) FROM ({inner}) GROUP BY TUMBLE(rowtime, INTERVAL '1' HOUR)"),
    ] {
        let text = rewritten(&text);
        assert!(text.contains("\"GROUP BY TUMBLE\"") && text.ends_with("EMIT AFTER WATERMARK"), "{text}");
    }
    assert!(
        rewritten("SELECT count(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(rowtime), INTERVAL '1' HOUR))")
            .ends_with("EMIT AFTER WATERMARK")
    );
    assert!(!rewritten("SELECT k, count(*) FROM t GROUP BY k").contains("EMIT"));
    assert!(
        rewritten(&format!("{inner} EMIT AFTER WATERMARK ALLOWED LATENESS INTERVAL '1' HOUR"))
            .ends_with("LATENESS INTERVAL '1' HOUR")
    );
}

#[test]
fn window_time_is_the_last_moment() {
    let text = rewritten(
        "SELECT window_time, w.k FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(rowtime), INTERVAL '1' HOUR)) AS w \
         GROUP BY window_start, window_end, window_time, w.k",
    );
    assert!(text.starts_with("SELECT (window_end - INTERVAL '1' MILLISECOND) AS window_time, w.k FROM"), "{text}");
    assert!(text.contains("GROUP BY window_start, window_end, w.k "), "{text}");
}

#[test]
fn names_keep_their_case_and_functions_have_none() {
    assert_eq!(
        rewritten("Select Upper(`user`) As userName, T.Value2, `timestamp` From Clicks T Where T.x Is Not Null"),
        "SELECT Upper(\"user\") AS \"userName\", \"T\".\"Value2\", \"timestamp\" FROM \"Clicks\" \"T\" WHERE \"T\".x IS NOT NULL"
    );
    assert_eq!(
        rewritten("SELECT Baskets.Sku FROM t, UNNEST(t.items) AS Baskets (Sku, Amount)"),
        "SELECT \"Baskets\".\"Sku\" FROM t, UNNEST(t.items) AS \"Baskets\" (\"Sku\", \"Amount\")"
    );
}

#[test]
fn table_functions_are_lists() {
    let lateral = "SELECT b FROM t, UNNEST(HistogramBucket(x, '1,2')) AS";
    assert_eq!(
        rewritten("SELECT b FROM t, LATERAL TABLE(HistogramBucket(x, '1,2')) AS h(b)"),
        format!("{lateral} h (b)")
    );
    assert_eq!(rewritten("SELECT b FROM t, LATERAL TABLE(HistogramBucket(x, '1,2'))"), format!("{lateral} f (f0)"));
    assert_eq!(
        rewritten("SELECT * FROM t LEFT JOIN LATERAL TABLE(g(x)) AS h(b) ON TRUE"),
        "SELECT * FROM t LEFT JOIN UNNEST(g(x)) AS h (b) ON true"
    );
    assert_eq!(rewritten("SELECT * FROM TABLE(g(1))"), "SELECT * FROM UNNEST(g(1)) AS f (f0)");
}

#[test]
fn types_and_functions() {
    for (flink, postgres) in [
        ("CAST(a AS FLOAT)", "CAST(a AS REAL)"),
        ("CAST(a AS STRING)", "CAST(a AS TEXT)"),
        ("CAST(a AS BYTES)", "CAST(a AS BYTEA)"),
        ("CAST(a AS TIMESTAMP(3))", "CAST(a AS TIMESTAMP(3))"),
        ("CAST(a AS TIMESTAMP_LTZ(3))", "CAST(a AS TIMESTAMPTZ(3))"),
        ("CAST(a AS TIMESTAMP(3) WITH LOCAL TIME ZONE)", "CAST(a AS TIMESTAMP(3) WITH TIME ZONE)"),
        ("IF(a > 1, 'x', b)", "CASE WHEN a > 1 THEN 'x' ELSE b END"),
        ("FLOOR(a TO HOUR)", "date_trunc('hour', a)"),
        ("FLOOR(a)", "FLOOR(a)"),
        ("LISTAGG(DISTINCT a)", "string_agg(DISTINCT a, ',')"),
        (
            "TIMESTAMPDIFF(MINUTE, a, b)",
            "CAST(trunc((EXTRACT(EPOCH FROM (b)) - EXTRACT(EPOCH FROM (a))) / 60) AS INTEGER)",
        ),
    ] {
        assert_eq!(rewritten(&format!("SELECT {flink} FROM t")), format!("SELECT {postgres} FROM t"));
    }
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    for (text, column, sentence) in [
        ("SELECT TUMBLE_END(rowtime, INTERVAL '1' HOUR) FROM t", 8, "needs a window in GROUP BY"),
        (
            "SELECT TUMBLE_END(rowtime, INTERVAL '1' HOUR) FROM t GROUP BY TUMBLE(rowtime, INTERVAL '1' DAY)",
            8,
            "is of no window in this GROUP BY",
        ),
        (
            "SELECT k FROM t GROUP BY TUMBLE(rowtime)",
            26,
            "the arguments do not fit TUMBLE(rowtime, INTERVAL '1' MINUTE)",
        ),
        (
            "SELECT k FROM t GROUP BY TUMBLE(r, INTERVAL '1' DAY), HOP(r, INTERVAL '1' DAY, INTERVAL '2' DAY)",
            55,
            "a query groups by one window, and this is a second",
        ),
        (
            "SELECT TUMBLE_PROCTIME(r, INTERVAL '1' DAY) FROM t GROUP BY TUMBLE(r, INTERVAL '1' DAY)",
            8,
            "TUMBLE_PROCTIME is processing time",
        ),
        ("SELECT PROCTIME() FROM t", 8, "there is no processing time"),
        ("SELECT TIMESTAMPDIFF(MONTH, a, b) FROM t", 8, "does not count in MONTH"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.message().contains(sentence), "{text}: {error}");
        assert_eq!(error.position(), Some(Position { line: 1, column }), "{text}: {error}");
        assert!(error.hint().is_some() || sentence.contains("arguments"), "{text}");
    }
}

#[test]
fn the_dialect_changes_in_the_middle_of_a_text() {
    let statements = parse_in(
        "SELECT 1;\nSET dialect = 'flink'; SELECT `a`\nFROM t;\nRESET dialect; SELECT A FROM t",
        Dialect::Postgres,
    )
    .unwrap();
    let shown: Vec<_> = statements.iter().map(|one| (one.text.as_str(), one.dialect, one.position.line)).collect();
    assert_eq!(
        shown,
        [
            ("SELECT 1", Dialect::Postgres, 1),
            ("SET dialect = 'flink'", Dialect::Postgres, 2),
            ("SELECT `a`\nFROM t", Dialect::Flink, 2),
            ("RESET dialect", Dialect::Flink, 4),
            ("SELECT A FROM t", Dialect::Postgres, 4),
        ]
    );
    let error = parse_in("SET dialect = flink;\nSELECT `a` FROM;", Dialect::Postgres).unwrap_err();
    assert_eq!(error.position(), Some(Position { line: 2, column: 16 }), "{error}");
}
