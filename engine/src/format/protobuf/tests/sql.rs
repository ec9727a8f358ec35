//! The types are chosen for what DataFusion does with them: this holds the choices to it.

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use prost::Message;
use prost_reflect::DynamicMessage;

use crate::format::protobuf::ProtobufDecoder;
use crate::format::protobuf::oracle::protos::message;
use crate::schema::arrow_schema;

/// Decodes messages given in protobuf's text format, and runs a query over them as the table `t`.
fn query(name: &str, messages: &[&str], sql: &str) -> String {
    let descriptor = message(name);
    let all: Vec<usize> = (0..arrow_schema(&descriptor).unwrap().fields().len()).collect();
    let mut decoder = ProtobufDecoder::new(&descriptor, &all).unwrap();
    for text in messages {
        let message = DynamicMessage::parse_text_format(descriptor.clone(), text).unwrap();
        decoder.push(&message.encode_to_vec()).unwrap();
    }
    let batch = decoder.finish().unwrap();
    let context = SessionContext::new();
    context.register_batch("t", batch).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(async { context.sql(sql).await.unwrap().collect().await.unwrap() });
    let table = pretty_format_batches(&rows).unwrap().to_string();
    let lines: Vec<&str> = table.lines().skip(3).filter(|line| line.starts_with('|')).collect();
    lines
        .iter()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned())
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn fields_of_an_absent_message_are_null() {
    let messages = ["h { a: 5 n: 'x' }", "h { }", ""];
    let sql = "SELECT h IS NULL AS absent, coalesce(t.h.a, -1) AS a, t.h['n'] IS NULL AS n FROM t";
    assert_eq!(query("p3.Optionals", messages.as_slice(), sql), "false 5 false; false 0 false; true -1 true");
}

#[test]
fn maps_are_read_by_key() {
    let messages = ["a { key: 'x' value: 7 } b { key: 3 value: 'three' }", "a { key: 'y' value: 8 }"];
    let sql = "SELECT coalesce(a['x'], 0) AS x, coalesce(b[3], '-') AS three, cardinality(a) AS n FROM t";
    assert_eq!(query("p3.Maps", messages.as_slice(), sql), "7 three 1; 0 - 1");
}

#[test]
fn lists_are_indexed_and_unnested() {
    let messages = ["a: [1, 2] g: 'p' g: 'q' j { lat: 0.5 }", "a: 3"];
    let sql = "SELECT coalesce(a[1], 0), coalesce(g[2], '-'), coalesce(j[1]['lat'], 9), cardinality(a) FROM t";
    assert_eq!(query("p3.Lists", messages.as_slice(), sql), "1 q 0.5 2; 3 - 9.0 1");
    let sql = "SELECT sum(x) FROM (SELECT unnest(a) AS x FROM t)";
    assert_eq!(query("p3.Lists", messages.as_slice(), sql), "6");
}

#[test]
fn enums_and_text_are_compared_and_grouped() {
    let messages = ["p: GREEN n: 'a'", "p: GREEN n: 'b'", "n: 'c'", "p: A_COLOR_WITH_A_LONG_NAME", "p: 55"];
    let sql = "SELECT p, count(*) FROM t WHERE p <> 'RED' GROUP BY p ORDER BY p";
    assert_eq!(query("p3.Scalars", messages.as_slice(), sql), "55 1; A_COLOR_WITH_A_LONG_NAME 1; GREEN 2");
    let sql = "SELECT max(n) || '!' FROM t WHERE p IN ('GREEN', 'RED') AND n LIKE '%_'";
    assert_eq!(query("p3.Scalars", messages.as_slice(), sql), "c!");
}

#[test]
fn times_and_lengths_of_time() {
    let messages = ["a { seconds: 60 } b { seconds: 30 }", "a { seconds: 120 nanos: 500000000 } b { seconds: 90 }"];
    let sql = "SELECT a + b, b > INTERVAL '1' MINUTE, a < TIMESTAMP '1970-01-01 00:01:30' FROM t";
    let expected = "1970-01-01T00:01:30 false true; 1970-01-01T00:03:30.500 true false";
    assert_eq!(query("p3.Times", messages.as_slice(), sql), expected);
    let sql = "SELECT sum(b) = INTERVAL '2' MINUTE, avg(b) = INTERVAL '1' MINUTE, max(a) FROM t";
    assert_eq!(query("p3.Times", messages.as_slice(), sql), "true true 1970-01-01T00:02:00.500");
}

#[test]
fn unsigned_numbers_go_below_zero() {
    let messages = ["d: 1 i: 18446744073709551615", "d: 4294967295 i: 2"];
    let sql = "SELECT sum(i), min(i) - max(i), sum(d), min(d) - max(d) FROM t";
    let expected = "18446744073709551617 -18446744073709551613 4294967296 -4294967294";
    assert_eq!(query("p3.Scalars", messages.as_slice(), sql), expected);
}
