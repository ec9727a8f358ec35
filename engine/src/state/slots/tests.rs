use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Float64Array, Int64Array, StringArray, StringViewArray};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn interned(slots: &mut Slots, columns: &[ArrayRef]) -> (Vec<Slot>, Vec<Slot>) {
    let (mut out, mut created) = (Vec::new(), Vec::new());
    slots.intern(columns, columns.first().map_or(0, Array::len), &mut out, &mut created).unwrap();
    (out, created)
}

#[test]
fn equal_keys_share_a_slot_and_null_is_a_key() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(0), Some(7), None]));
    let mut slots = Slots::new(&[DataType::Int64]).unwrap();
    let (out, created) = interned(&mut slots, &[Arc::clone(&column)]);
    assert_eq!((out, created), (vec![0, 1, 2, 0, 1], vec![0, 1, 2]));
    assert_eq!(slots.keys(&[1, 0, 2]).unwrap()[0].as_ref(), &Int64Array::from(vec![None, Some(7), Some(0)]));

    let column: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None, Some(""), Some("a")]));
    let mut slots = Slots::new(&[DataType::Utf8View]).unwrap();
    assert_eq!(interned(&mut slots, &[Arc::clone(&column)]).0, vec![0, 1, 2, 0]);
    assert_eq!(slots.keys(&[2, 1]).unwrap()[0].as_ref(), &StringViewArray::from(vec![Some(""), None]));
}

#[test]
fn floats_have_one_zero_and_one_nan() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
    let other: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 1, 1]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "a", "a"]));
    for (types, columns) in [
        (vec![DataType::Float64], vec![Arc::clone(&column)]),
        (vec![DataType::Float64, DataType::Int64], vec![Arc::clone(&column), other]),
        (vec![DataType::Float64, DataType::Utf8], vec![column, texts]),
    ] {
        let mut slots = Slots::new(&types).unwrap();
        assert_eq!(interned(&mut slots, &columns).0, vec![0, 0, 1, 1]);
        let zero = slots.keys(&[0]).unwrap();
        assert!(zero[0].as_any().downcast_ref::<Float64Array>().unwrap().value(0).is_sign_positive());
    }
}

#[test]
fn no_columns_are_one_key() {
    let mut slots = Slots::new(&[]).unwrap();
    let (mut out, mut created) = (Vec::new(), Vec::new());
    slots.intern(&[], 3, &mut out, &mut created).unwrap();
    assert_eq!((out.as_slice(), created.as_slice()), (&[0, 0, 0][..], &[0][..]));
    slots.release(&[0]);
    assert!(slots.is_empty());
}

#[test]
fn types_without_an_order_are_refused_by_name() {
    let map = DataType::Map(
        Arc::new(arrow::datatypes::Field::new(
            "entries",
            DataType::Struct(
                vec![
                    arrow::datatypes::Field::new("k", DataType::Utf8, false),
                    arrow::datatypes::Field::new("v", DataType::Utf8, true),
                ]
                .into(),
            ),
            false,
        )),
        false,
    );
    let fields = [arrow::row::SortField::new(map.clone())];
    if !arrow::row::RowConverter::supports_fields(&fields) {
        assert!(Slots::new(&[map]).unwrap_err().message().contains("cannot be keys"));
    }
}

/// Random interning, finding and releasing against a map, for every kind of key.
#[test]
fn slots_agree_with_a_map() {
    for (seed, kind) in (0..60).flat_map(|seed| (0..4).map(move |kind| (seed, kind))) {
        let mut random = StdRng::seed_from_u64(seed);
        let types = match kind {
            0 => vec![DataType::Int64],
            1 => vec![DataType::Utf8],
            2 => vec![DataType::Int64, DataType::Int64, DataType::Boolean],
            _ => vec![DataType::Int64, DataType::Utf8],
        };
        let columns = |keys: &[i64]| -> Vec<ArrayRef> {
            let numbers: ArrayRef =
                Arc::new(Int64Array::from_iter(keys.iter().map(|key| (key % 13 != 5).then_some(*key % 13))));
            let texts: ArrayRef = Arc::new(StringArray::from_iter(keys.iter().map(|key| Some(format!("k{key}")))));
            let wide: ArrayRef =
                Arc::new(Int64Array::from_iter(keys.iter().map(|key| (*key != 0).then_some(*key << 40))));
            match kind {
                0 => vec![wide],
                1 => vec![texts],
                2 => {
                    let odd: ArrayRef = Arc::new(BooleanArray::from_iter(
                        keys.iter().map(|key| (key % 5 != 1).then_some(key % 2 == 1)),
                    ));
                    vec![numbers, wide, odd]
                }
                _ => vec![numbers, texts],
            }
        };
        let mut slots = Slots::new(&types).unwrap();
        let mut model: HashMap<i64, Slot> = HashMap::new();
        for _ in 0..30 {
            let keys: Vec<i64> = (0..random.random_range(0..200)).map(|_| random.random_range(0..150)).collect();
            let (out, created) = interned(&mut slots, &columns(&keys));
            for (key, slot) in keys.iter().zip(&out) {
                let known = *model.entry(*key).or_insert(*slot);
                assert_eq!(known, *slot);
            }
            assert!(created.iter().all(|slot| out.contains(slot)));
            assert_eq!(slots.len(), model.len());
            let gone: Vec<i64> = model.keys().copied().filter(|_| random.random_bool(0.3)).collect();
            let freed: Vec<Slot> = gone.iter().filter_map(|key| model.remove(key)).collect();
            slots.release(&freed);
            let all: Vec<i64> = (0..150).collect();
            let mut found = Vec::new();
            slots.find(&columns(&all), all.len(), &mut found).unwrap();
            for (key, slot) in all.iter().zip(&found) {
                assert_eq!(model.get(key).copied().unwrap_or(NO_SLOT), *slot, "key {key}");
            }
            let mut live = slots.live();
            let mut expected: Vec<Slot> = model.values().copied().collect();
            live.sort_unstable();
            expected.sort_unstable();
            assert_eq!(live, expected);
        }
        let (keys, held): (Vec<i64>, Vec<Slot>) = model.into_iter().unzip();
        for (left, right) in slots.keys(&held).unwrap().iter().zip(columns(&keys)) {
            assert_eq!(left, &right);
        }
        assert!(slots.bytes() > 0);
        assert!(slots.bound() <= 150, "freed slots are used again");
    }
}

#[test]
fn room_made_ahead_changes_no_answer() {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..10_000).map(|n| (n * 37) % 3_001)));
    let (mut plain, mut roomy) = (Slots::new(&[DataType::Int64]).unwrap(), Slots::new(&[DataType::Int64]).unwrap());
    roomy.reserve(5_000);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    plain.intern(&[Arc::clone(&column)], 10_000, &mut one, &mut Vec::new()).unwrap();
    roomy.intern(&[Arc::clone(&column)], 10_000, &mut other, &mut Vec::new()).unwrap();
    assert_eq!((one, plain.len()), (other.clone(), roomy.len()));
    roomy.reserve(10);
    let mut again = Vec::new();
    roomy.find(&[column], 10_000, &mut again).unwrap();
    assert_eq!(again, other);
}
