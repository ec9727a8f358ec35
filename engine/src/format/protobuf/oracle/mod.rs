//! What tests and the fuzzer judge the format by: prost-reflect's `DynamicMessage`, which knows nothing of columns.
//!
//! * [`clean`]: where the library is less exact than the specification, the record is put right first
//! * [`row`]: what the columns have to show of a message
//! * [`same`]: whether two messages say the same
//! * [`protos`]: messages that have everything in them
//! * [`Case`]: records that are decoded in every way, and judged

pub(crate) mod clean;
pub(crate) mod protos;
pub(crate) mod row;
pub(crate) mod same;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};

use self::clean::{cleaned, is_well};
use self::protos::{ALL, message};
use self::row::check_row_by;
use super::{ProtobufDecoder, ProtobufEncoder};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::schema::{TypeRules, fields_of, schema_by};

/// What the library makes of a record; `None` where it is refused.
pub(crate) fn judged(descriptor: &MessageDescriptor, record: &[u8]) -> Option<DynamicMessage> {
    let record = cleaned(descriptor, record).ok()?;
    let message = DynamicMessage::decode(descriptor.clone(), record.as_slice()).ok()?;
    is_well(&message).then_some(message)
}

/// A message that records are taken for, by rules.
pub(crate) struct Case {
    descriptor: MessageDescriptor,
    rules: TypeRules,
    whole: ProtobufDecoder,
    /// Every other column.
    part: ProtobufDecoder,
    places: Vec<usize>,
    /// Of rules by which columns can be written again.
    encoder: Option<ProtobufEncoder>,
    /// Whether what is written again reads as the same.
    is_exact: bool,
}

impl Case {
    /// Of the message of that name among [`protos`].
    pub(crate) fn new(name: &str, rules: TypeRules) -> Self {
        let descriptor = message(name);
        let all: Vec<usize> = (0..schema_by(&descriptor, &rules).unwrap().fields().len()).collect();
        let places: Vec<usize> = all.iter().copied().step_by(2).collect();
        let whole = ProtobufDecoder::by_rules(&descriptor, &all, &rules).unwrap();
        let part = ProtobufDecoder::by_rules(&descriptor, &places, &rules).unwrap();
        let encoder = (!rules.oneof_case).then(|| ProtobufEncoder::new(&descriptor, &whole.schema()).unwrap());
        // JSON has numbers in decimal digits.
        let is_exact = !holds_json(&descriptor, &mut HashSet::new());
        Self { descriptor, rules, whole, part, places, encoder, is_exact }
    }

    /// Decodes the records into one batch: the library has to agree on what is refused and on what is read. Answers how
    /// many rows there are.
    pub(crate) fn check(&mut self, records: &[impl AsRef<[u8]>]) -> usize {
        let name = self.descriptor.full_name().to_owned();
        self.whole.begin(records.len(), 0);
        let mut read: Vec<(&[u8], DynamicMessage)> = Vec::new();
        for record in records {
            let record = record.as_ref();
            match (self.whole.push(record), judged(&self.descriptor, record)) {
                (Ok(()), Some(message)) => read.push((record, message)),
                (Err(_), None) => {}
                (ours, theirs) => panic!("{name}: {ours:?}, the oracle: {}, of {record:02x?}", theirs.is_some()),
            }
        }
        let batch = valid(&mut self.whole);
        assert_eq!(batch.num_rows(), read.len());
        for (row, (record, message)) in read.iter().enumerate() {
            check_row_by(&batch, row, message, &self.rules)
                .unwrap_or_else(|error| panic!("{name}: {error}, of {record:02x?}"));
        }
        self.check_part(&batch, read.iter().map(|(record, _)| *record));
        self.check_again(&batch);
        read.len()
    }

    /// Columns alone are what they are among the others.
    fn check_part<'a>(&mut self, whole: &RecordBatch, records: impl Iterator<Item = &'a [u8]>) {
        self.part.begin(whole.num_rows(), 0);
        records.for_each(|record| self.part.push(record).unwrap());
        let part = valid(&mut self.part);
        assert_eq!(whole.project(&self.places).unwrap(), part, "{}", self.descriptor.full_name());
    }

    /// The rows as bytes again: the library reads them, and they are the same rows.
    fn check_again(&mut self, batch: &RecordBatch) {
        let Some(encoder) = &mut self.encoder else { return };
        let name = self.descriptor.full_name();
        let mut out = EncodedRows::default();
        encoder.encode(batch, &mut out).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.whole.begin(batch.num_rows(), 0);
        for record in out.iter() {
            assert!(judged(&self.descriptor, record).is_some(), "{name} was written as {record:02x?}");
            self.whole.push(record).unwrap_or_else(|error| panic!("{name}: {error}, of {record:02x?}"));
        }
        let again = valid(&mut self.whole);
        if self.is_exact {
            assert_eq!(batch, &again, "{name}");
        }
    }
}

/// The batch; its arrays hold what Arrow says that they have to.
fn valid(decoder: &mut ProtobufDecoder) -> RecordBatch {
    let batch = decoder.finish().unwrap();
    for array in batch.columns() {
        array.to_data().validate_full().unwrap();
    }
    batch
}

fn holds_json(message: &MessageDescriptor, seen: &mut HashSet<String>) -> bool {
    if matches!(message.full_name(), "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue") {
        return true;
    }
    seen.insert(message.full_name().to_owned())
        && fields_of(message).iter().any(|field| match field.kind() {
            Kind::Message(inner) => holds_json(&inner, seen),
            _ => false,
        })
}

/// Compiled cases, by message and rules.
type Cases = HashMap<(usize, u8), Case>;

/// A case as bytes, as the fuzzer makes them: which message, the rules, and how long the first of two records is; then both.
pub(crate) fn check_bytes(bytes: &[u8]) {
    thread_local!(static CASES: RefCell<Cases> = RefCell::default());
    let [which, rules, first, records @ ..] = bytes else { return };
    let (which, rules) = (usize::from(*which) % ALL.len(), rules % 16);
    CASES.with_borrow_mut(|cases| {
        let case = cases.entry((which, rules)).or_insert_with(|| {
            let is_set = |bit: u8| rules >> bit & 1 == 1;
            let rules = TypeRules {
                enum_numbers: is_set(0),
                unset_is_null: is_set(1),
                oneof_case: is_set(2),
                recursion_depth: usize::from(is_set(3)),
            };
            Case::new(ALL[which], rules)
        });
        let (one, other) = records.split_at(usize::from(*first).min(records.len()));
        case.check(&[one, other]);
    });
}
