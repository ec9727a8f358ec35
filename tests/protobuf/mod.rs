//! The protobuf format, judged by the official library: its random messages come back as they were, and of bytes that were
//! tampered with it refuses the same.
//!
//! `RONDEL_PROTOBUF_CASES=1000000` makes as many messages as one likes.

#[path = "../../engine/src/format/protobuf/oracle/same.rs"]
mod same;

use std::fs;
use std::io::Write;
use std::path::Path;

use prost_reflect::{DynamicMessage, MessageDescriptor, Syntax};
use rondel_engine::format::encoder::{EncodedRows, RowEncoder};
use rondel_engine::format::protobuf::{ProtobufDecoder, ProtobufEncoder, Reason};
use rondel_engine::schema::{Descriptors, TypeRules, schema_by};
use rondel_tests::{Result, python, root};

const MESSAGES: &[&str] = &[
    "rondel.conformance.v3.AllTypes",
    "rondel.conformance.v2.AllTypes",
    "rondel.conformance.v2.Required",
    "rondel.editions.Mixed",
    "rondel.editions.Grouped",
    "rondel.tour.Booking",
    "rondel.realistic.Payment",
    "rondel.realistic.Order",
    "rondel.realistic.Telemetry",
    "rondel.realistic.Span",
];

/// Rows of a batch.
const ROWS: usize = 500;

fn cases(usual: usize) -> usize {
    std::env::var("RONDEL_PROTOBUF_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

struct Scene {
    folder: tempfile::TempDir,
    pool: prost_reflect::DescriptorPool,
}

impl Scene {
    fn new() -> Result<Scene> {
        let folder = tempfile::tempdir()?;
        let mut compiler = protox::Compiler::new([root().join("tests/protobuf"), root().join("sql/tour")])?;
        compiler.include_imports(true);
        compiler.open_files(["all_types3.proto", "all_types2.proto", "booking.proto", "realistic.proto"])?;
        let editions = folder.path().join("editions.desc");
        let text = root().join("tests/protobuf/editions.txtpb");
        python::run("judge_protobuf.py", &["set", &text.to_string_lossy(), &editions.to_string_lossy()])?;
        // Of sets one behind the other, the files are one set.
        let set = [compiler.encode_file_descriptor_set(), fs::read(editions)?].concat();
        fs::write(folder.path().join("all.desc"), &set)?;
        Ok(Scene { folder, pool: Descriptors::from_set(&set, "all.desc")?.pool().clone() })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn judge(&self, what: &str, message: &str, more: &[&str]) -> Result<String> {
        let descriptor = self.path("all.desc");
        let mut arguments = vec![what, "--descriptor", &descriptor, "--message", message];
        arguments.extend(more);
        python::run("judge_protobuf.py", &arguments)
    }

    fn message(&self, name: &str) -> Result<MessageDescriptor> {
        Ok(self.pool.get_message_by_name(name).ok_or("no such message")?)
    }
}

/// Whether the judge reads a record, and its bytes.
type Judged = (bool, Vec<u8>);

fn records(path: &Path) -> Result<Vec<Judged>> {
    let contents = fs::read(path)?;
    let mut rest = contents.as_slice();
    let mut records = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        let [good, length @ ..] = *head;
        let (record, tail) = tail.split_at(u32::from_le_bytes(length) as usize);
        records.push((good == 1, record.to_vec()));
        rest = tail;
    }
    Ok(records)
}

/// NULL where a field is not set, so that what was not set is not set again.
const RULES: TypeRules = TypeRules { enum_numbers: false, unset_is_null: true, oneof_case: false, recursion_depth: 1 };

#[test]
fn the_official_librarys_messages_come_back() -> Result<()> {
    let scene = Scene::new()?;
    for name in MESSAGES {
        let count = cases(600).div_ceil(MESSAGES.len()).to_string();
        let (made, again) = (scene.path("made"), scene.path("again"));
        scene.judge("make", name, &["--count", &count, "--seed", "7", &made])?;
        let descriptor = scene.message(name)?;
        let all: Vec<usize> = (0..schema_by(&descriptor, &RULES)?.fields().len()).collect();
        let mut decoder = ProtobufDecoder::by_rules(&descriptor, &all, &RULES)?;
        let mut file = fs::File::create(&again)?;
        for records in records(Path::new(&made))?.chunks(ROWS) {
            decoder.begin(records.len(), 0);
            for (good, record) in records {
                assert!(good);
                decoder.push(record)?;
            }
            let batch = decoder.finish()?;
            let mut encoded = EncodedRows::default();
            ProtobufEncoder::new(&descriptor, &batch.schema())?.encode(&batch, &mut encoded)?;
            for ((_, original), record) in records.iter().zip(encoded.iter()) {
                // The Rust library reads the same in both, before the official one is asked.
                let read = |bytes: &[u8]| DynamicMessage::decode(descriptor.clone(), bytes);
                same::same(&read(original)?, &read(record)?).map_err(|error| format!("{name}: {error}"))?;
                file.write_all(&[1])?;
                file.write_all(&u32::try_from(record.len())?.to_le_bytes())?;
                file.write_all(record)?;
            }
        }
        drop(file);
        let equal = scene.judge("compare", name, &[&made, &again]).map_err(|error| format!("{name}: {error}"))?;
        assert_eq!(equal.trim(), count);
    }
    Ok(())
}

#[test]
fn the_official_library_refuses_the_same() -> Result<()> {
    let scene = Scene::new()?;
    for name in MESSAGES {
        let count = cases(1_200).div_ceil(MESSAGES.len()).to_string();
        let made = scene.path("mutated");
        scene.judge("make", name, &["--mutated", "--count", &count, "--seed", "11", &made])?;
        let descriptor = scene.message(name)?;
        let all: Vec<usize> = (0..schema_by(&descriptor, &RULES)?.fields().len()).collect();
        let mut decoder = ProtobufDecoder::by_rules(&descriptor, &all, &RULES)?;
        let mut refused = 0;
        for (number, (good, record)) in records(Path::new(&made))?.into_iter().enumerate() {
            decoder.begin(1, record.len());
            let ours = decoder.push(&record);
            refused += usize::from(!good);
            // In proto2 the library takes any bytes for text, and fails when such a text is read; a column of text can't.
            let is_text_of_proto2 = ours.as_ref().is_err_and(|error| error.reason == Reason::Utf8) && {
                descriptor.parent_file().syntax() == Syntax::Proto2
            };
            // Of a varint's tenth byte it drops the bits that 64 have no room for, and in a group that it skips it takes a
            // field number of zero; here, as in prost, both are refused. A Value of no kind it refuses when it writes JSON. What
            // is required of a map's value it wants of those that are there; an entry without its value has an empty message.
            let is_stricter = ours.as_ref().is_err_and(|error| match error.reason {
                Reason::Required => error.path.ends_with(".value"),
                reason => matches!(reason, Reason::VarintTooLong | Reason::FieldNumber | Reason::Json),
            });
            assert!(
                ours.is_ok() == good || is_text_of_proto2 || is_stricter,
                "{name}, record {number}: {ours:?}, the official library: {good}; {record:02x?}"
            );
        }
        assert!(refused > 20, "{name}: only {refused} were refused");
    }
    Ok(())
}
