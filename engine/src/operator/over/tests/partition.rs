use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::operator::over::limit::moved;
use crate::operator::over::partition::{Change, Partition};
use crate::state::row_numbers::RowNumbers;

/// A key of two letters, of which the first is the ORDER BY.
fn key(number: u32) -> Box<[u8]> {
    [b'a' + (number / 8) as u8, (number % 8) as u8].into()
}

#[test]
fn a_partition_is_a_sorted_list() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut partition = Partition::default();
    let mut model: Vec<Box<[u8]>> = Vec::new();
    let mut numbers = RowNumbers::default();
    for _ in 0..200 {
        let many = if rng.random_bool(0.1) { 3000 } else { 10 };
        for _ in 0..rng.random_range(1..many) {
            let key = key(rng.random_range(0..160));
            // Takes only what is there, or what came a moment ago.
            let weight = if rng.random_bool(0.5) && model.contains(&key) { -1 } else { rng.random_range(1..3) };
            match weight {
                -1 => {
                    let at = model.iter().position(|other| *other == key).unwrap();
                    model.remove(at);
                }
                more => model.extend((0..more).map(|_| key.clone())),
            }
            partition.pending.push(Change { key, order: 1, weight });
        }
        model.sort();
        let before = partition.len();
        let mut gone = Vec::new();
        let changed = partition.apply(&mut gone).unwrap();
        let keys: Vec<Box<[u8]>> = partition.range(0..partition.len()).map(|entry| entry.key().into()).collect();
        assert_eq!(keys, model);
        let came: usize = changed.iter().map(|change| change.came).sum();
        let went: usize = changed.iter().map(|change| change.went).sum();
        assert_eq!((before + came - went, gone.len()), (partition.len(), went));
        assert!(changed.windows(2).all(|pair| pair[0].at + pair[0].came <= pair[1].at));
        let bytes = partition.bytes();
        partition.measure();
        assert_eq!(bytes, partition.bytes());
        check_positions(&mut partition, &model, &mut rng);
        check_numbers(&mut partition, &mut numbers, before, came, went);
    }
}

/// What came and nothing else is written down, and equal rows stand in the order of their numbers.
fn check_numbers(partition: &mut Partition, numbers: &mut RowNumbers, before: usize, came: usize, went: usize) {
    partition.number(7, numbers);
    let new = partition.to_write(false).count();
    assert_eq!((new, partition.to_write(true).count()), (came, before + came - went));
    partition.written();
    assert_eq!(partition.to_write(false).count(), 0);
    let rows: Vec<(&[u8], u64)> =
        partition.range(0..partition.len()).map(|entry| (entry.key(), entry.number())).collect();
    assert!(rows.is_sorted());
}

fn check_positions(partition: &mut Partition, model: &[Box<[u8]>], rng: &mut SmallRng) {
    for _ in 0..10 {
        let order = [b'a' + rng.random_range(0..21)];
        assert_eq!(partition.lower(&order), model.iter().filter(|key| key[..1] < order[..]).count());
        assert_eq!(partition.upper(&order), model.iter().filter(|key| key[..1] <= order[..]).count());
        let at = rng.random_range(0..=model.len());
        let mut orders: Vec<u8> = model[..at].iter().map(|key| key[0]).collect();
        orders.dedup();
        assert_eq!(partition.groups_before(at), orders.len());
        assert_eq!(partition.entry(at).map(|entry| entry.key()), model.get(at).map(|key| &**key));
        let to = rng.random_range(at..=model.len());
        let range: Vec<&[u8]> = partition.range(at..to).map(|entry| entry.key()).collect();
        assert_eq!(range, model[at..to].iter().map(|key| &**key).collect::<Vec<_>>());
    }
}

#[test]
fn a_range_moves_with_the_rows_in_it() {
    let mut partition = Partition::default();
    let change = |number: u32, weight| Change { key: key(number), order: 1, weight };
    partition.pending = (0..10).map(|number| change(number * 2, 1)).collect();
    partition.apply(&mut Vec::new()).unwrap();
    // Rows 4 to 12 were shown. Two come before them, one of them goes, one comes among them, one goes behind them.
    partition.pending = vec![change(1, 1), change(3, 1), change(6, -1), change(9, 1), change(14, -1)];
    let changed = partition.apply(&mut Vec::new()).unwrap();
    let range = moved(&(2..7), &changed);
    let rows: Vec<&[u8]> = partition.range(range).map(|entry| entry.key()).collect();
    // What came just before the first of them may count as one of them or not: it was not shown.
    assert_eq!(rows, [3, 4, 8, 9, 10, 12].map(key).iter().map(|key| &**key).collect::<Vec<_>>());
}

#[test]
fn rows_are_forgotten_from_a_position_on() {
    let mut partition = Partition::default();
    partition.pending = (0..160)
        .flat_map(|number| (0..20).map(move |_| number))
        .map(|number| Change { key: key(number), order: 1, weight: 1 })
        .collect();
    partition.apply(&mut Vec::new()).unwrap();
    partition.truncate(3000, &mut RowNumbers::default());
    assert_eq!(
        (partition.len(), partition.entry(2999).map(|entry| entry.key().to_vec())),
        (3000, Some(key(149).to_vec()))
    );
    let bytes = partition.bytes();
    partition.measure();
    assert_eq!(bytes, partition.bytes());
}

#[test]
fn what_was_never_there_cannot_go() {
    let mut partition = Partition::default();
    partition.pending = vec![Change { key: key(1), order: 1, weight: 1 }, Change { key: key(2), order: 1, weight: -1 }];
    assert!(partition.apply(&mut Vec::new()).is_err());
}
