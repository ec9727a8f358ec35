//! What travels between the timely operators of a job: rows, or news of watermarks.
//!
//! A packet counts as its rows, one of watermarks as 1: a container that counts zero is never sent by timely, and one
//! whose count changes on the way arrives after its epoch was declared complete. Packets are therefore split for their
//! targets *before* the exchange, and the exchange only routes them.

use std::io::Write;

use arrow::array::AsArray;
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::WatermarkId;

use super::flow_control::ByteGuard;

/// One worker's word about one watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// This worker has nothing that the watermark depends on: it takes no part in the minimum.
    NoneHere,
    /// This worker has a partition that has not promised anything: the watermark stays where it is.
    Hold,
    /// All that the watermark depends on here is idle. It takes no part in the minimum either; but when the whole stream
    /// rests, the greatest of these counts, as if the partitions had fallen idle one after the other.
    Resting(i64),
    /// Nothing earlier will follow from this worker; microseconds.
    At(i64),
}

/// News of watermarks, as of the end of the packet's epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    /// The worker whose word it is.
    pub(crate) from: usize,
    /// What changed.
    pub(crate) promises: Vec<(WatermarkId, Promise)>,
}

/// What a packet carries.
#[derive(Debug, Default)]
pub(crate) enum Payload {
    /// Nothing: what timely leaves behind when it has taken a packet.
    #[default]
    Nothing,
    /// Rows, never none.
    Rows {
        /// The rows.
        delta: Delta,
        /// Counts their bytes; none for what came over the wire.
        guard: Option<ByteGuard>,
    },
    /// Watermarks.
    Control(Control),
}

/// A payload and the worker it is for.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    /// The worker that it goes to, where it goes through an exchange.
    pub(crate) target: usize,
    /// What it carries.
    pub(crate) payload: Payload,
}

impl Accountable for Packet {
    fn record_count(&self) -> i64 {
        match &self.payload {
            Payload::Nothing => 0,
            Payload::Rows { delta, .. } => i64::try_from(delta.num_rows()).unwrap_or(i64::MAX),
            Payload::Control(_) => 1,
        }
    }
}

/// The column that carries weights over the wire.
const WEIGHT: &str = "_weight";
const KIND_NOTHING: u8 = 0;
const KIND_ROWS: u8 = 1;
const KIND_CONTROL: u8 = 2;

impl Packet {
    /// Kind (1 byte), padding (7), target (8), body length (8), body, padding to 8 bytes. Rows are an Arrow IPC stream
    /// of one batch, weights its last column.
    fn encode(&self) -> Result<Vec<u8>> {
        let (kind, body) = match &self.payload {
            Payload::Nothing => (KIND_NOTHING, Vec::new()),
            Payload::Rows { delta, .. } => (KIND_ROWS, encode_rows(delta)?),
            Payload::Control(control) => (KIND_CONTROL, encode_control(control)),
        };
        let mut bytes = Vec::with_capacity(24 + body.len() + 8);
        bytes.extend_from_slice(&u64::from(kind).to_le_bytes());
        bytes.extend_from_slice(&(self.target as u64).to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut words = Words(bytes);
        let kind = words.next()?;
        let target = words.next()? as usize;
        let length = words.next()? as usize;
        let body = words.0.get(..length).ok_or_else(|| Error::internal("a packet's bytes end too early"))?;
        let payload = match u8::try_from(kind) {
            Ok(KIND_NOTHING) => Payload::Nothing,
            Ok(KIND_ROWS) => Payload::Rows { delta: decode_rows(body)?, guard: None },
            Ok(KIND_CONTROL) => Payload::Control(decode_control(body)?),
            _ => return Err(Error::internal(format!("a packet of the unknown kind {kind}"))),
        };
        Ok(Self { target, payload })
    }
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next(&mut self) -> Result<u64> {
        let (word, rest) =
            self.0.split_first_chunk::<8>().ok_or_else(|| Error::internal("a packet's bytes end too early"))?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }
}

fn encode_rows(delta: &Delta) -> Result<Vec<u8>> {
    let rows = delta.rows();
    let mut fields: Vec<Arc<Field>> = rows.schema().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    if let Some(weights) = delta.weights() {
        fields.push(Arc::new(Field::new(WEIGHT, DataType::Int64, false)));
        columns.push(Arc::new(weights.clone()) as ArrayRef);
    }
    let metadata = [("weighted".to_owned(), delta.weights().is_some().to_string())];
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata.into()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn decode_rows(bytes: &[u8]) -> Result<Delta> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    let batch = reader.next().ok_or_else(|| Error::internal("a packet of rows without a batch"))??;
    let weighted = batch.schema().metadata().get("weighted").is_some_and(|weighted| weighted == "true");
    let (schema, mut columns, rows) = batch.into_parts();
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let mut weights: Option<Int64Array> = None;
    if weighted {
        fields.pop();
        weights = columns.pop().map(|column| column.as_primitive::<Int64Type>().clone());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(Delta::new(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?, weights))
}

fn encode_control(control: &Control) -> Vec<u8> {
    let mut bytes = (control.from as u64).to_le_bytes().to_vec();
    for (id, promise) in &control.promises {
        let (here, at) = match promise {
            Promise::NoneHere => (0_u64, 0),
            Promise::At(at) => (1, *at),
            Promise::Resting(at) => (2, *at),
            Promise::Hold => (3, 0),
        };
        bytes.extend_from_slice(&u64::from(id.0).to_le_bytes());
        bytes.extend_from_slice(&here.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    bytes
}

fn decode_control(bytes: &[u8]) -> Result<Control> {
    let mut words = Words(bytes);
    let from = words.next()? as usize;
    let mut promises = Vec::new();
    while !words.0.is_empty() {
        let id = WatermarkId(words.next()? as u32);
        let here = words.next()?;
        let at = words.next()? as i64;
        let promise = match here {
            0 => Promise::NoneHere,
            1 => Promise::At(at),
            2 => Promise::Resting(at),
            _ => Promise::Hold,
        };
        promises.push((id, promise));
    }
    Ok(Control { from, promises })
}

/// For workers in several processes. Timely's trait knows no errors: bytes that are not a packet mean that the other
/// process is not of this version, and the connection's thread ends, as timely's own do.
#[allow(clippy::expect_used)]
impl ContainerBytes for Packet {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::decode(&bytes).expect("timely communication error: not a packet")
    }

    fn length_in_bytes(&self) -> usize {
        self.encode().expect("timely communication error: rows that can't be encoded").len()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let bytes = self.encode().expect("timely communication error: rows that can't be encoded");
        writer.write_all(&bytes).expect("timely communication error: the buffer is too small");
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, StringArray, StringViewArray};
    use arrow::datatypes::Int8Type;

    use super::*;

    fn round_trip(packet: &Packet) -> Packet {
        let mut bytes = Vec::new();
        packet.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), packet.length_in_bytes());
        assert_eq!(bytes.len() % 8, 0, "timely aligns to 8 bytes");
        Packet::from_bytes(timely::bytes::arc::BytesMut::from(bytes).freeze())
    }

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
            ("b", Arc::new(StringArray::from(vec!["x", "yy", ""]))),
            ("c", Arc::new(StringViewArray::from(vec![None, Some("a text longer than twelve bytes"), Some("z")]))),
            ("d", Arc::new(vec![Some("k"), Some("k"), None].into_iter().collect::<DictionaryArray<Int8Type>>())),
        ])
        .unwrap()
    }

    #[test]
    fn rows_survive_the_wire() {
        let rows = batch();
        let weights = Int64Array::from(vec![1, -2, 7]);
        for delta in
            [Delta::append(rows.clone()), Delta::weighted(rows.clone(), weights), Delta::append(rows.slice(1, 2))]
        {
            let packet = Packet { target: 3, payload: Payload::Rows { delta: delta.clone(), guard: None } };
            let back = round_trip(&packet);
            assert_eq!((back.target, back.record_count()), (3, packet.record_count()));
            let Payload::Rows { delta: back, .. } = back.payload else { panic!("not rows") };
            assert_eq!(back.rows(), delta.rows());
            assert_eq!(back.weights(), delta.weights());
        }
    }

    #[test]
    fn rows_without_columns_keep_their_number() {
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let packet = Packet { target: 0, payload: Payload::Rows { delta: Delta::append(rows), guard: None } };
        assert_eq!(round_trip(&packet).record_count(), 5);
    }

    #[test]
    fn watermarks_survive_the_wire_and_count_one() {
        let control = Control {
            from: 2,
            promises: vec![
                (WatermarkId(0), Promise::NoneHere),
                (WatermarkId(3), Promise::Resting(77)),
                (WatermarkId(7), Promise::At(i64::MAX)),
                (WatermarkId(1), Promise::At(-5)),
                (WatermarkId(2), Promise::Hold),
            ],
        };
        let back = round_trip(&Packet { target: 1, payload: Payload::Control(control.clone()) });
        assert_eq!(back.record_count(), 1);
        let Payload::Control(back) = back.payload else { panic!("not control") };
        assert_eq!(back, control);
    }

    #[test]
    fn broken_bytes_are_an_error() {
        let bytes = Packet { target: 1, payload: Payload::Rows { delta: Delta::append(batch()), guard: None } }
            .encode()
            .unwrap();
        for length in [0, 7, 20, 40, bytes.len() / 2] {
            assert!(Packet::decode(&bytes[..length]).is_err());
        }
    }
}
