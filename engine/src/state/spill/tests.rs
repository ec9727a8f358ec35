//! Rows on disk against a map in memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;

use super::cold::together;
use super::memory::MemorySpace;
use super::*;
use crate::error::ErrorKind;

/// Rows by the order of their key: a number each, and whether it has changed.
type Model = BTreeMap<u64, Vec<(i64, bool)>>;

fn rows(values: &[(u64, i64, bool)]) -> Rows {
    let texts = values
        .iter()
        .map(|(_, value, _)| (value % 3 > 0).then(|| "a text that fits no view ".repeat(*value as usize % 5)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(values.iter().map(|(_, value, _)| *value))),
        Arc::new(StringViewArray::from_iter(texts)),
    ];
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8View, true)];
    Rows {
        rows: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(),
        orders: values.iter().map(|(order, ..)| *order).collect(),
        changed: values.iter().map(|(.., changed)| *changed).collect(),
    }
}

fn values(rows: &Rows) -> Vec<(u64, i64, bool)> {
    let numbers = rows.rows.column(0).as_primitive::<Int64Type>();
    let texts = rows.rows.column(1).as_string_view();
    let each = rows.orders.iter().zip(&rows.changed).zip(numbers.values()).enumerate();
    each.map(|(row, ((order, changed), value))| {
        let text = "a text that fits no view ".repeat(*value as usize % 5);
        assert_eq!((!texts.is_null(row)).then(|| texts.value(row)), (value % 3 > 0).then_some(text.as_str()));
        (*order, *value, *changed)
    })
    .collect()
}

fn of(model: &Model, order: u64) -> Vec<(u64, i64, bool)> {
    model.get(&order).into_iter().flatten().map(|(value, changed)| (order, *value, *changed)).collect()
}

fn add(cold: &mut Cold, mut values: Vec<(u64, i64, bool)>, block: usize, latest: i64) {
    values.sort_unstable();
    let mut writer = SectionWriter::new(cold.space().create().unwrap(), latest);
    for piece in values.chunks(block) {
        writer.push(&rows(piece)).unwrap();
    }
    cold.add(writer.finish());
}

fn all_of(views: Vec<(u8, SectionView)>) -> Vec<(u64, i64, bool)> {
    let mut all = Vec::new();
    for (group, view) in views {
        view.read(|rows| {
            assert!(rows.orders.iter().all(|order| group_of(*order) == group));
            all.extend(values(&rows));
            Ok(())
        })
        .unwrap();
    }
    all.sort_unstable();
    all
}

/// Few keys in few groups; some that differ in no bit that is kept in memory.
fn orders() -> impl Strategy<Value = u64> {
    (0_u64..3, 0_u64..4, 0_u64..3).prop_map(|(group, high, low)| (group * 100) << 56 | high << 32 | low)
}

#[derive(Debug, Clone)]
enum Action {
    Add(Vec<(u64, i64, bool)>, usize),
    Take(Vec<u64>, usize),
    Tell(bool),
    Tidy(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let row = (orders(), 0_i64..100, any::<bool>());
    prop_oneof![
        3 => (proptest::collection::vec(row, 0..40), 1_usize..9).prop_map(|(rows, block)| Action::Add(rows, block)),
        2 => (proptest::collection::btree_set(orders(), 0..12), 0_usize..20_000)
            .prop_map(|(orders, most)| Action::Take(orders.into_iter().collect(), most)),
        1 => any::<bool>().prop_map(Action::Tell),
        2 => (0_usize..20_000).prop_map(Action::Tidy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rows_on_disk_are_those_of_a_map(actions in proptest::collection::vec(action(), 1..60)) {
        let space = MemorySpace::new(0, 1 << 20);
        let files = Arc::clone(&space.files);
        let mut cold = Cold::new(Arc::new(space));
        let mut model = Model::new();
        for action in actions {
            match action {
                Action::Add(values, block) => {
                    for (order, value, changed) in &values {
                        model.entry(*order).or_default().push((*value, *changed));
                    }
                    add(&mut cold, values, block, 0);
                }
                Action::Take(orders, most) => {
                    let (taken, done) = cold.take(&orders, most).unwrap();
                    prop_assert!(done > 0 || orders.is_empty());
                    let mut taken: Vec<_> = taken.iter().flat_map(values).collect();
                    taken.sort_unstable();
                    let mut expected: Vec<_> = orders[..done].iter().flat_map(|order| of(&model, *order)).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(taken, expected);
                    orders[..done].iter().for_each(|order| drop(model.remove(order)));
                }
                Action::Tell(only_changed) => {
                    let mut expected: Vec<_> = model.keys().flat_map(|order| of(&model, *order)).collect();
                    expected.retain(|(.., changed)| *changed || !only_changed);
                    expected.sort_unstable();
                    prop_assert_eq!(all_of(cold.told(only_changed)), expected);
                    model.values_mut().flatten().for_each(|(_, changed)| *changed = false);
                }
                Action::Tidy(most) => drop(cold.tidy(most, |_| Ok(None)).unwrap()),
            }
            prop_assert_eq!(cold.size().rows, model.values().map(Vec::len).sum::<usize>());
        }
        while !cold.tidy(1000, |_| Ok(None)).unwrap() {}
        prop_assert!(cold.sections_most() <= 8);
        let expected: Vec<_> = model.keys().flat_map(|order| of(&model, *order)).collect();
        let (taken, _) = cold.take(&model.keys().copied().collect::<Vec<_>>(), usize::MAX).unwrap();
        prop_assert_eq!(taken.iter().map(|rows| rows.orders.len()).sum::<usize>(), expected.len());
        prop_assert!(cold.is_empty());
        while !cold.tidy(1000, |_| Ok(None)).unwrap() {}
        prop_assert_eq!((files.load(Ordering::SeqCst), cold.memory_size()), (0, 0));
    }
}

/// An order of the first key group like no other's.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8
}

/// Ten sections of a key group, of five blocks each, with rows of these keys.
fn ten_sections(keys: impl Fn(u64, u64) -> u64) -> Cold {
    let mut cold = Cold::new(Arc::new(MemorySpace::new(0, 1 << 20)));
    for section in 0..10 {
        add(&mut cold, (0..1_000).map(|row| (scattered(keys(section, row)), 4, false)).collect(), 200, 0);
        tidy(&mut cold);
    }
    assert_eq!(cold.sections_most(), 10, "nobody has looked");
    cold
}

fn tidy(cold: &mut Cold) {
    while !cold.tidy(1, |_| Ok(None)).unwrap() {}
}

#[test]
fn sections_are_put_together_when_looking_has_cost_as_much() {
    let mut cold = ten_sections(|section, row| section * 1_000 + row);
    let bytes = cold.size().bytes;
    let mut looks = 0;
    while cold.sections_most() == 10 {
        // Nobody has these.
        let mut keys: Vec<u64> = (0..1_000).map(|key| scattered(20_000 + looks + key)).collect();
        keys.sort_unstable();
        assert!(cold.take(&keys, usize::MAX).unwrap().0.is_empty());
        tidy(&mut cold);
        looks += 1_000;
    }
    assert_eq!(cold.sections_most(), 1);
    assert!((bytes / 2..bytes * 2).contains(&(looks * 9 * 16)), "{looks} looks for {bytes} bytes");
}

/// Each block that is read besides the first tells as much as many looks.
#[test]
fn keys_with_rows_everywhere_bring_sections_together_soon() {
    let mut apart = ten_sections(|section, row| section * 1_000 + row);
    let mut together = ten_sections(|_, row| row);
    let mut taken = 0;
    while together.sections_most() == 10 {
        assert_eq!(apart.take(&[scattered(taken)], usize::MAX).unwrap().0.len(), 1);
        assert_eq!(together.take(&[scattered(taken)], usize::MAX).unwrap().0.len(), 10);
        tidy(&mut apart);
        tidy(&mut together);
        taken += 1;
    }
    assert!(taken < 20, "{taken}");
    assert_eq!((apart.sections_most(), together.sections_most()), (10, 1));
}

#[test]
fn small_sections_are_put_together_whoever_looks() {
    let mut cold = Cold::new(Arc::new(MemorySpace::new(0, 1 << 20)));
    for n in 0..100 {
        add(&mut cold, vec![(scattered(n), 4, false)], 8, 0);
        tidy(&mut cold);
        assert!(cold.sections_most() <= 8);
    }
    assert_eq!(cold.size().rows, 100);
}

#[test]
fn a_view_shows_rows_that_were_taken_out_later() {
    let mut cold = Cold::new(Arc::new(MemorySpace::new(0, 1 << 20)));
    add(&mut cold, vec![(5, 1, true), (6, 2, false)], 8, 0);
    let views = cold.told(false);
    assert_eq!(cold.take(&[5], usize::MAX).unwrap().1, 1);
    drop(cold);
    assert_eq!(all_of(views), [(5, 1, true), (6, 2, false)]);
}

#[test]
fn rows_whose_time_is_over_go() {
    let mut cold = Cold::new(Arc::new(MemorySpace::new(0, 1 << 20)));
    add(&mut cold, vec![(5, 1, false)], 8, 10);
    add(&mut cold, vec![(5, 2, false)], 8, 20);
    cold.drop_below(11);
    assert_eq!(cold.size().rows, 1);
    for value in 3..12 {
        add(&mut cold, vec![(5, value, false)], 8, 20);
    }
    let odd = |rows: &RecordBatch| {
        Ok(Some(BooleanArray::from_iter(
            rows.column(0).as_primitive::<Int64Type>().iter().map(|value| value.map(|value| value % 2 == 1)),
        )))
    };
    while !cold.tidy(1, odd).unwrap() {}
    let (taken, _) = cold.take(&[5], usize::MAX).unwrap();
    let mut numbers: Vec<i64> = taken.iter().flat_map(values).map(|(_, value, _)| value).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().filter(|value| **value % 2 == 1).count() >= 4, "{numbers:?}");
    assert!(numbers.len() < 10, "{numbers:?}");
}

#[test]
fn a_disk_that_is_full_or_damaged_says_so() {
    let space = MemorySpace::new(0, 1 << 20);
    let (is_full, is_damaged) = (Arc::clone(&space.is_full), Arc::clone(&space.is_damaged));
    let mut cold = Cold::new(Arc::new(MemorySpace { limit: 1000, ..space }));
    add(&mut cold, vec![(5, 1, false), (6, 1, false)], 8, 0);
    is_damaged.store(true, Ordering::SeqCst);
    let error = cold.take(&[6], usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert_eq!(error.message(), "a file in memory is not as it was written: state that was put there is lost");
    is_damaged.store(false, Ordering::SeqCst);
    is_full.store(true, Ordering::SeqCst);
    let mut writer = SectionWriter::new(cold.space().create().unwrap(), 0);
    assert_eq!(writer.push(&rows(&[(1, 1, false)])).unwrap_err().message(), "no space is left");
    is_full.store(false, Ordering::SeqCst);
    add(&mut cold, (0..200).map(|value| (7, value, false)).collect(), 8, 0);
    let error = cold.take(&[7], usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().starts_with("the rows of one key take 1 MiB, more than the limit of 0 MiB"), "{error}");
}

/// Each batch has a dictionary of its own.
#[test]
fn rows_with_dictionaries_come_back() {
    let mut cold = Cold::new(Arc::new(MemorySpace::new(0, 1 << 20)));
    let word = |n: u64| format!("word {n} of some");
    for n in 0..12 {
        let words: DictionaryArray<Int8Type> = [word(n), word(n + 1)].iter().map(|word| Some(word.as_str())).collect();
        let columns: [(&str, ArrayRef); 1] = [("w", Arc::new(words))];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        assert!(has_dictionaries(&rows.schema()));
        let mut writer = SectionWriter::new(cold.space().create().unwrap(), 0);
        writer.push(&Rows { rows, orders: vec![n, n + 1], changed: vec![n % 2 == 0, false] }).unwrap();
        cold.add(writer.finish());
    }
    tidy(&mut cold);
    assert!(cold.sections_most() <= 8);
    let (taken, _) = cold.take(&(0..=12).collect::<Vec<_>>(), usize::MAX).unwrap();
    let mut found: Vec<(u64, bool, String)> = Vec::new();
    for rows in &taken {
        let words = arrow::compute::cast(rows.rows.column(0), &DataType::Utf8).unwrap();
        let words = words.as_string::<i32>().iter().map(|word| word.unwrap().to_owned());
        found.extend(
            rows.orders.iter().zip(&rows.changed).zip(words).map(|((order, changed), word)| (*order, *changed, word)),
        );
    }
    found.sort_unstable();
    let mut expected: Vec<_> = (0..12).flat_map(|n| [(n, n % 2 == 0, word(n)), (n + 1, false, word(n + 1))]).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let plain = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
    assert!(!has_dictionaries(&plain));
    let column = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let inside = DataType::List(Arc::new(Field::new_list_field(column, true)));
    assert!(has_dictionaries(&Schema::new(vec![Field::new("l", inside, true)])));
}

#[test]
fn rows_that_come_back_do_not_keep_their_blocks() {
    let mut cold = Cold::new(Arc::new(MemorySpace::new(0, 1 << 20)));
    // Texts of 100 bytes, each in a view.
    add(&mut cold, (0..10_000).map(|order| (order, 4, false)).collect(), 400, 0);
    let (taken, _) = cold.take(&(0..25).map(|block| block * 400).collect::<Vec<_>>(), usize::MAX).unwrap();
    assert_eq!(taken.iter().map(|rows| rows.orders.len()).sum::<usize>(), 25);
    let held: usize = taken.iter().map(|rows| rows.rows.get_array_memory_size()).sum();
    assert!(held < 25 * 1000, "{held}");
    let whole = together(&taken).unwrap().unwrap();
    assert_eq!(whole.rows.column(1).as_string_view().data_buffers().len(), 1);
}

#[test]
fn pieces_are_put_together() {
    let pieces = [rows(&[(1, 1, true)]), rows(&[(2, 2, false)])];
    assert_eq!(values(&together(&pieces).unwrap().unwrap()), [(1, 1, true), (2, 2, false)]);
    assert!(together(&[]).unwrap().is_none());
}
