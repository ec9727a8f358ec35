//! What Kafka promises, of the log in memory.

use proptest::prelude::*;

use crate::connector::log::cluster::{Cluster, Isolation, ProducerEpoch, Refusal};
use crate::connector::log::partition::StoredRecord;

fn record(text: &str) -> StoredRecord {
    StoredRecord { key: Some(text.as_bytes().to_vec()), value: Some(text.as_bytes().to_vec()) }
}

fn texts(cluster: &Cluster, topic: &str, partition: i32, isolation: Isolation) -> Vec<String> {
    let fetched = cluster.fetch((topic, partition), 0, isolation, usize::MAX).unwrap();
    let text = |(_, record): &(i64, StoredRecord)| String::from_utf8(record.value.clone().unwrap()).unwrap();
    fetched.records.iter().map(text).collect()
}

/// The broker of the tests proves the same of Kafka (`TransactionProof.java`).
#[test]
fn one_committed_one_aborted_one_fenced() {
    let cluster = Cluster::new();
    cluster.create_topic("t", 1);
    let first = cluster.init("proof", 60_000).unwrap();
    cluster.produce(first, ("t", 0), 0, record("committed")).unwrap();
    cluster.end(first, true).unwrap();
    cluster.produce(first, ("t", 0), 1, record("aborted")).unwrap();
    cluster.end(first, false).unwrap();
    cluster.produce(first, ("t", 0), 2, record("fenced")).unwrap();
    let second = cluster.init("proof", 60_000).unwrap();
    assert_eq!(cluster.end(first, true), Err(Refusal::Fenced));
    assert_eq!(cluster.produce(first, ("t", 0), 3, record("late")), Err(Refusal::Fenced));
    assert_eq!(texts(&cluster, "t", 0, Isolation::Committed), ["committed"]);
    assert_eq!(texts(&cluster, "t", 0, Isolation::Uncommitted), ["committed", "aborted", "fenced"]);
    // Three records and three marks.
    assert_eq!(cluster.end_offset("t", 0, Isolation::Uncommitted), Ok(6));
    // A transaction without records can't be ended, and one that has ended can be asked about again.
    assert_eq!(cluster.end(second, true), Err(Refusal::InvalidState));
    cluster.produce(second, ("t", 0), 0, record("again")).unwrap();
    for _ in 0..2 {
        assert_eq!(cluster.end(second, true), Ok(()));
    }
    assert_eq!(cluster.end(second, false), Err(Refusal::InvalidState));
}

#[test]
fn an_open_transaction_holds_the_stable_end() {
    let cluster = Cluster::new();
    cluster.create_topic("t", 1);
    let slow = cluster.init("slow", 1_000).unwrap();
    let quick = cluster.init("quick", 1_000_000).unwrap();
    cluster.produce(slow, ("t", 0), 0, record("slow")).unwrap();
    cluster.produce(quick, ("t", 0), 0, record("quick")).unwrap();
    cluster.end(quick, true).unwrap();
    assert_eq!(cluster.end_offset("t", 0, Isolation::Committed), Ok(0));
    assert_eq!(texts(&cluster, "t", 0, Isolation::Committed), Vec::<String>::new());
    // Its time is over: it is aborted and fenced.
    cluster.advance_millis(1_001);
    assert_eq!(texts(&cluster, "t", 0, Isolation::Committed), ["quick"]);
    assert_eq!(cluster.end(slow, true), Err(Refusal::Fenced));
}

#[test]
fn partitions_are_marked_one_after_the_other() {
    let cluster = Cluster::new();
    cluster.create_topic("a", 1);
    cluster.create_topic("b", 1);
    cluster.set_lazy_marks(true);
    let producer = cluster.init("p", 60_000).unwrap();
    cluster.produce(producer, ("a", 0), 0, record("in a")).unwrap();
    cluster.produce(producer, ("b", 0), 0, record("in b")).unwrap();
    cluster.end(producer, true).unwrap();
    assert_eq!(cluster.produce(producer, ("a", 0), 1, record("early")), Err(Refusal::ConcurrentTransactions));
    assert_eq!(cluster.init("p", 60_000), Err(Refusal::ConcurrentTransactions));
    assert_eq!(texts(&cluster, "a", 0, Isolation::Committed), Vec::<String>::new());
    assert!(cluster.write_mark(0));
    assert_eq!(texts(&cluster, "a", 0, Isolation::Committed), ["in a"]);
    assert_eq!(texts(&cluster, "b", 0, Isolation::Committed), Vec::<String>::new());
    assert!(cluster.write_mark(0));
    assert_eq!(texts(&cluster, "b", 0, Isolation::Committed), ["in b"]);
    assert!(!cluster.write_mark(0));
    assert_eq!(cluster.init("p", 60_000).unwrap().epoch, producer.epoch + 1);
}

#[test]
fn a_record_that_is_sent_again_is_there_once() {
    let cluster = Cluster::new();
    cluster.create_topic("t", 1);
    let producer = cluster.init("p", 60_000).unwrap();
    for _ in 0..3 {
        cluster.produce(producer, ("t", 0), 0, record("once")).unwrap();
    }
    assert_eq!(cluster.produce(producer, ("t", 0), 2, record("gap")), Err(Refusal::OutOfOrder));
    cluster.end(producer, true).unwrap();
    assert_eq!(texts(&cluster, "t", 0, Isolation::Committed), ["once"]);
    assert_eq!(cluster.produce(producer, ("nowhere", 0), 0, record("x")), Err(Refusal::UnknownPartition));
    assert_eq!(cluster.produce(producer, ("t", 1), 0, record("x")), Err(Refusal::UnknownPartition));
}

#[test]
fn compaction_keeps_the_last_committed_record_of_a_key_at_its_offset() {
    let cluster = Cluster::new();
    cluster.create_topic("t", 1);
    let producer = cluster.init("p", 60_000).unwrap();
    for (sequence, commit) in [true, true, false].into_iter().enumerate() {
        cluster.produce(producer, ("t", 0), sequence as i64, record("key")).unwrap();
        cluster.end(producer, commit).unwrap();
    }
    cluster.produce(producer, ("t", 0), 3, record("key")).unwrap();
    cluster.compact("t");
    let fetched = cluster.fetch(("t", 0), 0, Isolation::Committed, 10).unwrap();
    assert_eq!(fetched.records.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [2]);
    assert_eq!((fetched.next, fetched.end), (6, 6));
    assert_eq!(cluster.fetch(("t", 0), 0, Isolation::Uncommitted, 10).unwrap().records.len(), 2);
}

/// What one of three producers does.
#[derive(Debug, Clone)]
enum Step {
    Produce(usize, i32),
    End(usize, bool),
    Init(usize),
    Plain(i32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 0..2_i32).prop_map(|(who, partition)| Step::Produce(who, partition)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(who, commit)| Step::End(who, commit)),
        1 => (0..3_usize).prop_map(Step::Init),
        1 => (0..2_i32).prop_map(Step::Plain),
    ]
}

/// The same told plainly: what each transaction wrote, and how it ended.
#[derive(Default)]
struct Model {
    /// By partition, in order: text, and the transaction it belongs to.
    written: [Vec<(String, Option<usize>)>; 2],
    /// By transaction: open, committed, aborted.
    transactions: Vec<Option<bool>>,
    open: [Option<usize>; 3],
}

impl Model {
    fn end(&mut self, who: usize, commit: bool) -> bool {
        match self.open[who].take() {
            Some(transaction) => {
                self.transactions[transaction] = Some(commit);
                true
            }
            None => false,
        }
    }

    /// What a reader of committed records sees: all up to the first record whose transaction is open, without those that
    /// were aborted.
    fn committed(&self, partition: usize) -> Vec<String> {
        let state = |transaction: Option<usize>| transaction.map_or(Some(true), |number| self.transactions[number]);
        self.written[partition]
            .iter()
            .take_while(|(_, transaction)| state(*transaction).is_some())
            .filter(|(_, transaction)| state(*transaction) == Some(true))
            .map(|(text, _)| text.clone())
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn readers_see_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let cluster = Cluster::new();
        cluster.create_topic("t", 2);
        let init = |who: usize| cluster.init(&format!("producer {who}"), i64::MAX).unwrap();
        let mut producers: [ProducerEpoch; 3] = [init(0), init(1), init(2)];
        let mut sequences = [[0_i64; 2]; 3];
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            let text = format!("{number}");
            match step {
                Step::Produce(who, partition) => {
                    let sequence = &mut sequences[who][partition as usize];
                    cluster.produce(producers[who], ("t", partition), *sequence, record(&text)).unwrap();
                    *sequence += 1;
                    let transactions = &mut model.transactions;
                    let transaction = *model.open[who].get_or_insert_with(|| { transactions.push(None); transactions.len() - 1 });
                    model.written[partition as usize].push((text, Some(transaction)));
                }
                Step::End(who, commit) => {
                    let was_open = model.end(who, commit);
                    let ended = cluster.end(producers[who], commit);
                    prop_assert!(ended.is_ok() || !was_open, "{ended:?}");
                }
                Step::Init(who) => {
                    model.end(who, false);
                    let older = producers[who];
                    producers[who] = init(who);
                    sequences[who] = [0; 2];
                    prop_assert_eq!(cluster.end(older, true), Err(Refusal::Fenced));
                }
                Step::Plain(partition) => {
                    cluster.append(("t", partition), record(&text)).unwrap();
                    model.written[partition as usize].push((text, None));
                }
            }
            for partition in 0..2 {
                prop_assert_eq!(
                    texts(&cluster, "t", partition as i32, Isolation::Committed),
                    model.committed(partition)
                );
                let all: Vec<String> = model.written[partition].iter().map(|(text, _)| text.clone()).collect();
                prop_assert_eq!(texts(&cluster, "t", partition as i32, Isolation::Uncommitted), all);
            }
        }
    }
}
