use arrow::datatypes::{DataType, Field, Schema};

use super::decoder::{Envelope, JsonDecoder};
use super::encoder::JsonEncoder;
use super::read::TimeNumbers;
use crate::format::decoder::RowDecoder;
use crate::format::testing::{schema, shown};

fn decoder(envelope: Envelope) -> JsonDecoder {
    JsonDecoder::new(schema(DataType::Int32), TimeNumbers::Millis, envelope)
}

#[test]
fn there_and_back() {
    let mut decoder = decoder(Envelope::None);
    let whole = br#"{"id": "7", "NAME": "a\"b", "price": 1.5, "at": "2026-01-02T03:04:05.5Z", "day": "2026-01-02",
        "parts": [1, null], "leg": {"lat": -0.5, "other": 1}, "live": true, "unknown": {}}"#;
    decoder.push(whole).unwrap();
    decoder.push(br#"{"id": 8, "name": {"x": [1]}, "at": 1500, "day": 1}"#).unwrap();
    assert_eq!(
        shown(&decoder.finish().unwrap()),
        [
            r#"{"id":7,"name":"a\"b","price":1.50,"at":"2026-01-02T03:04:05.500Z","day":"2026-01-02","parts":[1,null],"leg":{"lat":-0.5},"live":true}"#,
            r#"{"id":8,"name":"{\"x\":[1]}","price":null,"at":"1970-01-01T00:00:01.500Z","day":"1970-01-02","parts":null,"leg":null,"live":null}"#,
        ]
    );
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_no_trace() {
    let mut decoder = decoder(Envelope::None);
    let mut refused = |record: &str| decoder.push(record.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused("{}"), "field id, byte 0: is NULL or missing");
    assert_eq!(refused(r#"{"id": 1.5}"#), "field id, byte 0: 1.5 is not a BIGINT");
    assert_eq!(refused(r#"{"id": 1, "parts": [1, "x"]}"#), "field parts.2, byte 0: \"x\" is not an INTEGER");
    assert_eq!(refused(r#"{"id": 1, "leg": {"lat": []}}"#), "field leg.lat, byte 0: [] is not a number");
    assert_eq!(refused(r#"{"id": 1, "at": "yesterday"}"#), "field at, byte 0: \"yesterday\" is not a TIMESTAMP");
    assert_eq!(refused("[1]"), "byte 0: the record is no JSON object");
    assert!(refused("{\"id\": 1").starts_with("byte 7: no JSON"));
    assert!(shown(&decoder.finish().unwrap()).is_empty());
}

#[test]
fn changes_of_debezium() {
    let mut decoder = decoder(Envelope::Debezium);
    decoder.push(br#"{"before": null, "after": {"id": 1, "name": "a"}, "op": "c", "source": {}}"#).unwrap();
    decoder.push(br#"{"schema": {}, "payload": {"before": {"id": 1}, "after": null, "op": "d"}}"#).unwrap();
    assert_eq!(decoder.deleted(), [false, true]);
    let mut refused = |record: &str| decoder.push(record.as_bytes()).unwrap_err().to_string();
    assert!(refused(r#"{"id": 1}"#).starts_with("field op"));
    assert!(refused(r#"{"before": null, "op": "d"}"#).starts_with("field before"));
    assert!(refused(r#"{"op": "t"}"#).contains("truncated"));
    assert_eq!(decoder.finish().unwrap().num_rows(), 2);
}

#[test]
fn bytes_are_refused() {
    let bytes = Schema::new(vec![Field::new("raw", DataType::Binary, true)]);
    assert!(JsonEncoder::new(&bytes).err().unwrap().hint().unwrap().contains("base64"));
}
