use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray, NullArray, StringArray,
    StringViewArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, i256};

use super::*;

fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
    let mut out = vec![7; 3];
    hash_keys(columns, columns.first().map_or(1, |column| column.len()), &mut out).unwrap();
    out
}

fn one(array: impl Array + 'static) -> Vec<u64> {
    hashes(&[Arc::new(array)])
}

/// The cases of the vector file, by name.
fn cases() -> Vec<(&'static str, Vec<ArrayRef>)> {
    let text = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    vec![
        ("empty", vec![]),
        ("null", vec![Arc::new(NullArray::new(1))]),
        ("boolean", vec![Arc::new(BooleanArray::from(vec![Some(false), Some(true), None]))]),
        (
            "int64",
            vec![Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), Some(i64::MAX), Some(i64::MIN), None]))],
        ),
        ("uint64", vec![Arc::new(UInt64Array::from(vec![0, u64::MAX]))]),
        ("float64", vec![Arc::new(Float64Array::from(vec![0.0, -0.0, 1.5, f64::NAN, f64::INFINITY]))]),
        (
            "decimal",
            vec![Arc::new(Decimal128Array::from(vec![0, 1, 1500, -7]).with_precision_and_scale(20, 3).unwrap())],
        ),
        ("string", vec![text(vec![Some(""), Some("a"), Some("müsli"), Some(&"x".repeat(300)), None])]),
        ("binary", vec![Arc::new(arrow::array::BinaryArray::from(vec![&b"a"[..], b"\x00\xff"]))]),
        ("date", vec![Arc::new(Date32Array::from(vec![0, 20_000]))]),
        ("timestamp", vec![Arc::new(TimestampMicrosecondArray::from(vec![0, 1_700_000_000_123_456]))]),
        ("two columns", vec![Arc::new(Int32Array::from(vec![1, 2])), text(vec![Some("a"), None])]),
        (
            "list",
            vec![Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                Some(vec![Some(1), None]),
                Some(vec![]),
                None,
            ]))],
        ),
        (
            "struct",
            vec![Arc::new(StructArray::from(vec![(
                Arc::new(Field::new("a", DataType::Int32, true)),
                Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef,
            )]))],
        ),
    ]
}

#[test]
fn hashes_are_frozen() {
    let expected = include_str!("../key_group_vectors.txt");
    let mut actual = String::new();
    for (name, columns) in cases() {
        let values: Vec<String> = hashes(&columns).iter().map(|hash| format!("{hash:016x}")).collect();
        actual.push_str(&format!("{name}: {}\n", values.join(" ")));
    }
    assert_eq!(actual, expected, "a key's hash must never change: restored state would meet no new row");
}

#[test]
fn encoding_and_width_do_not_matter() {
    let words = vec![Some("a"), None, Some("a longer word than twelve bytes"), Some("a")];
    let plain = one(StringArray::from(words.clone()));
    assert_eq!(plain, one(LargeStringArray::from(words.clone())));
    assert_eq!(plain, one(StringViewArray::from(words.clone())));
    assert_eq!(plain, one(words.iter().copied().collect::<DictionaryArray<Int8Type>>()));
    assert_eq!(plain[0], plain[3]);
    assert_eq!(plain[1], one(Int64Array::from(vec![None]))[0], "NULL is NULL");

    assert_eq!(one(Int8Array::from(vec![-3, 7])), one(Int64Array::from(vec![-3, 7])));
    assert_eq!(one(Int64Array::from(vec![7])), one(UInt64Array::from(vec![7])));
    assert_eq!(one(Float32Array::from(vec![1.5, -0.0, -f32::NAN])), one(Float64Array::from(vec![1.5, 0.0, f64::NAN])));
    let decimals =
        |values: Vec<i128>, scale| Decimal128Array::from(values).with_precision_and_scale(30, scale).unwrap();
    assert_eq!(one(decimals(vec![150, 0], 2)), one(decimals(vec![1500, 0], 3)));
    let wide = Decimal256Array::from(vec![i256::from_i128(1500), i256::ZERO]).with_precision_and_scale(60, 3).unwrap();
    assert_eq!(one(decimals(vec![150, 0], 2)), one(wide));
    assert_eq!(
        one(TimestampMillisecondArray::from(vec![1_700_000_000_123])),
        one(TimestampMicrosecondArray::from(vec![1_700_000_000_123_000]).with_timezone("+02:00"))
    );
    assert_eq!(one(Date32Array::from(vec![3])), one(Date64Array::from(vec![3 * 86_400_000])));
}

#[test]
fn different_keys_differ() {
    let a = hashes(&[Arc::new(StringArray::from(vec!["ab"])), Arc::new(StringArray::from(vec!["c"]))]);
    let b = hashes(&[Arc::new(StringArray::from(vec!["a"])), Arc::new(StringArray::from(vec!["bc"]))]);
    assert_ne!(a, b);
    assert_ne!(one(Int64Array::from(vec![1])), one(BooleanArray::from(vec![true])));
    let lists = one(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![]), None, Some(vec![None])]));
    assert_ne!(lists[0], lists[1]);
    assert_ne!(lists[0], lists[2]);
}

#[test]
fn slices_hash_as_their_own_rows() {
    let whole: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..20).map(|row| (row % 3 != 0).then(|| vec![Some(row); row as usize % 4])),
    ));
    assert_eq!(hashes(&[whole.slice(5, 9)]), hashes(&[whole])[5..14]);
}

#[test]
fn groups_are_spread_and_every_worker_owns_some() {
    let all = one(Int64Array::from_iter_values(0..100_000));
    for workers in [1, 2, 3, 4, 7, 256] {
        let mut rows = vec![0_usize; workers];
        for hash in &all {
            rows[worker_of(key_group(*hash), workers)] += 1;
        }
        let fair = all.len() / workers;
        assert!(rows.iter().all(|rows| *rows > fair / 2 && *rows < fair * 2), "{workers} workers: {rows:?}");
    }
}
