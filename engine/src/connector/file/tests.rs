use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UnionFields, UnionMode};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;
use uuid::Uuid;

use super::definition::define_sink;
use crate::connector::definition::{Definition, Delivery, SinkInput};
use crate::connector::two_phase::{CheckpointName, Committer, ExactlyOnce, Writer};
use crate::connector::{Reporter, Sink, SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Reporter for Told {
    fn waits_for(&self, _who: &str, _what: Option<String>) {}
    fn fail(&self, error: Error) {
        self.0.lock().unwrap().push(error.to_string());
    }
    fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("zone", DataType::Utf8, true), Field::new("n", DataType::Int64, false)]))
}

fn rows(numbers: &[i64]) -> RecordBatch {
    let zones = StringArray::from_iter(numbers.iter().map(|n| (n % 2 == 0).then(|| format!("zone \"{n}\""))));
    RecordBatch::try_new(schema(), vec![Arc::new(zones), Arc::new(Int64Array::from(numbers.to_vec()))]).unwrap()
}

fn sink(path: &Path, more: &[(&str, &str)], schema: &SchemaRef, changelog: bool) -> Result<Box<dyn Sink>> {
    let path = path.to_string_lossy();
    let mut options =
        BTreeMap::from([("path".to_owned(), path.into_owned()), ("format".to_owned(), "json".to_owned())]);
    options.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let definition =
        define_sink(&Definition { name: "out", options: &options, descriptor: None, columns: None, schemas: None })?;
    let exactly_once = definition.delivery() == Delivery::ExactlyOnce;
    definition.open(&SinkInput { schema: Arc::clone(schema), changelog, exactly_once })
}

/// A job that writes exactly once, and its coordinator.
struct Run {
    sink: ExactlyOnce,
    told: Arc<Told>,
    job: Uuid,
}

impl Run {
    fn open(folder: &Path, job: Uuid, more: &[(&str, &str)]) -> Self {
        let mut options = vec![("delivery", "exactly_once")];
        options.extend(more);
        let told = Arc::<Told>::default();
        let writer =
            Writer { deployment: Uuid::from_u128(1), job, number: 1, has_committed: false, interval: Duration::ZERO };
        let reporter: Arc<dyn Reporter> = Arc::<Told>::clone(&told);
        let sink = sink(folder, &options, &schema(), false).unwrap();
        assert!(sink.is_exactly_once());
        let sink = sink.open_exactly_once(2, writer, reporter).unwrap();
        assert_eq!(sink.committer.recover().unwrap(), None);
        assert!(!sink.committer.decides());
        Self { sink, told, job }
    }

    fn committer(&self) -> &dyn Committer {
        self.sink.committer.as_ref()
    }

    fn write(&mut self, worker: usize, numbers: &[i64]) {
        until_ready(self.sink.writers[worker].as_mut(), Some(Delta::append(rows(numbers)))).unwrap();
    }

    fn prepare(&mut self, epoch: u64) -> Vec<u8> {
        for writer in &mut self.sink.writers {
            ready(|| writer.end_interval(epoch)).unwrap();
        }
        self.committer().prepare(epoch).unwrap()
    }
}

fn name(epoch: u64) -> CheckpointName {
    CheckpointName { epoch, generation: 3, manifest_hash: 0 }
}

fn ready(mut call: impl FnMut() -> Result<SinkState>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while call()? == SinkState::Full {
        assert!(Instant::now() < until, "full for too long");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn until_ready(writer: &mut dyn SinkWriter, mut delta: Option<Delta>) -> Result<()> {
    ready(|| match delta.take() {
        Some(delta) => writer.write(5, delta),
        None => writer.resume(),
    })
}

/// The files that readers see.
fn seen(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let mut names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files that wait, of all jobs.
fn hidden(folder: &Path) -> usize {
    let Ok(owners) = fs::read_dir(folder.join("_pending")) else { return 0 };
    owners.map(|owner| fs::read_dir(owner.unwrap().path()).unwrap().count()).sum()
}

/// The numbers in all JSON files that are seen, sorted.
fn numbers(folder: &Path) -> Vec<i64> {
    let mut numbers: Vec<i64> = seen(folder)
        .iter()
        .flat_map(|name| fs::read_to_string(folder.join(name)).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["n"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn files_are_seen_when_they_are_published() {
    let folder = TempDir::new().unwrap();
    let mut run = Run::open(folder.path(), Uuid::from_u128(0xabcd << 96), &[]);
    run.write(0, &[1, 2]);
    run.write(1, &[3]);
    let token = run.prepare(10);
    run.write(0, &[4]);
    assert_eq!((seen(folder.path()).len(), hidden(folder.path()) >= 2), (0, true));
    run.committer().publish(&token, &name(10)).unwrap();
    let names = seen(folder.path());
    assert_eq!(names, ["part-0000abcd-10-3-0-0.json", "part-0000abcd-10-3-1-0.json"]);
    assert_eq!(
        fs::read_to_string(folder.path().join(&names[0])).unwrap(),
        "{\"zone\":null,\"n\":1}\n{\"zone\":\"zone \\\"2\\\"\",\"n\":2}\n"
    );
    // An interval without output has no file; what was written after the first belongs to the second.
    let second = run.prepare(20);
    let third = run.prepare(30);
    run.committer().publish(&second, &name(20)).unwrap();
    run.committer().publish(&third, &name(30)).unwrap();
    assert_eq!(numbers(folder.path()), [1, 2, 3, 4]);
    assert_eq!(hidden(folder.path()), 0);
}

#[test]
fn publishing_again_finds_the_work_done() {
    let folder = TempDir::new().unwrap();
    let mut run = Run::open(folder.path(), Uuid::from_u128(1), &[]);
    run.write(0, &[1]);
    let token = run.prepare(10);
    for _ in 0..2 {
        run.committer().publish(&token, &name(10)).unwrap();
        assert_eq!(numbers(folder.path()), [1]);
    }
    // Also when a reader has taken the file away.
    fs::remove_file(folder.path().join(&seen(folder.path())[0])).unwrap();
    run.committer().publish(&token, &name(10)).unwrap();
    assert_eq!(numbers(folder.path()), Vec::<i64>::new());
}

/// Killed between prepare and publish: the next run publishes what its checkpoint names, and gives up the rest.
#[test]
fn the_next_run_publishes_what_its_checkpoint_names() {
    let folder = TempDir::new().unwrap();
    let mut run = Run::open(folder.path(), Uuid::from_u128(7), &[]);
    run.write(0, &[1]);
    let chosen = run.prepare(10);
    run.write(0, &[2]);
    run.write(1, &[3]);
    let _not_chosen = run.prepare(20);
    run.write(1, &[4]);
    let job = run.job;
    // A process that is killed closes nothing: its files stay.
    std::mem::forget(run);
    let mut next = Run::open(folder.path(), job, &[]);
    assert!(hidden(folder.path()) >= 3);
    next.committer().abandon(Some(&chosen)).unwrap();
    assert_eq!(hidden(folder.path()), 1);
    next.committer().publish(&chosen, &name(10)).unwrap();
    next.write(0, &[2, 3]);
    let token = next.prepare(30);
    next.committer().publish(&token, &name(30)).unwrap();
    assert_eq!(numbers(folder.path()), [1, 2, 3]);
    assert_eq!(hidden(folder.path()), 0);
}

#[test]
fn what_is_given_up_is_removed_and_another_jobs_is_not() {
    let folder = TempDir::new().unwrap();
    let mut other = Run::open(folder.path(), Uuid::from_u128(8), &[]);
    other.write(0, &[80]);
    let theirs = other.prepare(5);
    let mut run = Run::open(folder.path(), Uuid::from_u128(7), &[]);
    run.write(0, &[1]);
    run.prepare(10);
    run.committer().abandon(None).unwrap();
    assert_eq!(hidden(folder.path()), 1);
    let error = until_ready(run.sink.writers[0].as_mut(), Some(Delta::append(rows(&[2])))).unwrap_err();
    assert!(error.message().contains("was given up"), "{error}");
    other.committer().publish(&theirs, &name(5)).unwrap();
    assert_eq!(numbers(folder.path()), [80]);
}

#[test]
fn a_dropped_job_leaves_only_what_may_be_chosen() {
    let folder = TempDir::new().unwrap();
    let mut run = Run::open(folder.path(), Uuid::from_u128(7), &[]);
    run.write(0, &[1]);
    let prepared = run.prepare(10);
    run.write(0, &[2]);
    run.committer().close();
    drop(run.sink.writers);
    let until = Instant::now() + PATIENCE;
    while hidden(folder.path()) != 1 {
        assert!(Instant::now() < until, "the open file stays");
        std::thread::sleep(Duration::from_millis(1));
    }
    run.sink.committer.publish(&prepared, &name(10)).unwrap();
    assert_eq!(numbers(folder.path()), [1]);
    assert!(run.told.0.lock().unwrap().is_empty(), "a job that is dropped does not fail");
}

#[test]
fn full_files_are_followed_by_others() {
    let folder = TempDir::new().unwrap();
    let mut run = Run::open(folder.path(), Uuid::from_u128(7), &[("file_size_mb", "1")]);
    let many: Vec<i64> = (0..120_000).collect();
    run.write(0, &many);
    let token = run.prepare(10);
    run.committer().publish(&token, &name(10)).unwrap();
    let sizes: Vec<u64> =
        seen(folder.path()).iter().map(|name| fs::metadata(folder.path().join(name)).unwrap().len()).collect();
    assert!(sizes.len() >= 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 2 << 20), "{sizes:?}");
    assert_eq!(numbers(folder.path()), many);
}

/// What is written at least once is seen at the end of a bounded input, when it is old, and when it is full.
#[test]
fn without_checkpoints_files_are_seen_at_the_end_and_when_they_are_old() {
    let folder = TempDir::new().unwrap();
    let told: Arc<dyn Reporter> = Arc::<Told>::default();
    let mut writers = sink(folder.path(), &[], &schema(), false).unwrap().writers(2, Arc::clone(&told)).unwrap();
    let twice = Delta::weighted(rows(&[1, 2]), vec![2, 1].into());
    until_ready(writers[0].as_mut(), Some(twice)).unwrap();
    until_ready(writers[1].as_mut(), Some(Delta::append(rows(&[3])))).unwrap();
    assert_eq!(seen(folder.path()).len(), 0);
    for writer in &mut writers {
        ready(|| writer.flush()).unwrap();
    }
    assert_eq!(numbers(folder.path()), [1, 1, 2, 3]);

    let old = TempDir::new().unwrap();
    let more = [("delivery", "at_least_once"), ("publish_interval", "10ms")];
    let mut writers = sink(old.path(), &more, &schema(), false).unwrap().writers(1, told).unwrap();
    until_ready(writers[0].as_mut(), Some(Delta::append(rows(&[4])))).unwrap();
    let until = Instant::now() + PATIENCE;
    while numbers(old.path()) != [4] {
        assert!(Instant::now() < until, "an old file is not seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn parquet_holds_the_rows_with_their_weights() {
    let folder = TempDir::new().unwrap();
    let told: Arc<dyn Reporter> = Arc::<Told>::default();
    let more = [("format", "parquet"), ("changelog", "weights")];
    let mut writers = sink(folder.path(), &more, &schema(), true).unwrap().writers(1, told).unwrap();
    let delta = Delta::weighted(rows(&[1, 2, 3]), vec![1, -1, 3].into());
    until_ready(writers[0].as_mut(), Some(delta)).unwrap();
    until_ready(writers[0].as_mut(), Some(Delta::append(rows(&[4])))).unwrap();
    ready(|| writers[0].flush()).unwrap();
    let file = fs::File::open(folder.path().join(&seen(folder.path())[0])).unwrap();
    let batches: Vec<RecordBatch> =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect();
    let read = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_eq!(read.column_by_name("_weight").unwrap().as_primitive::<Int64Type>().values(), &[1, -1, 3, 1]);
    assert_eq!(read.column(1).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
    assert_eq!(read.column(0).null_count(), 2);
}

#[test]
fn what_can_not_be_written_is_said_at_creation() {
    let folder = TempDir::new().unwrap();
    let error = |schema: &SchemaRef, more: &[(&str, &str)], changelog| {
        sink(folder.path(), more, schema, changelog).err().unwrap().to_string()
    };
    let corrected = error(&schema(), &[], true);
    assert!(corrected.contains("corrected as input comes"), "{corrected}");
    let either = UnionFields::try_new([0], [Field::new("number", DataType::Int64, true)]).unwrap();
    let odd = Arc::new(Schema::new(vec![Field::new("either", DataType::Union(either, UnionMode::Sparse), true)]));
    for format in ["json", "parquet"] {
        let said = error(&odd, &[("format", format)], false);
        assert!(said.contains("the column \"either\"") && said.contains(&format!("as {format}")), "{said}");
    }
    let weight = Arc::new(Schema::new(vec![Field::new("_weight", DataType::Int64, true)]));
    assert!(error(&weight, &[("changelog", "weights")], true).contains("adds one of that name"));
    // A sink that is to write exactly once needs checkpoints.
    let told: Arc<dyn Reporter> = Arc::<Told>::default();
    let opened = sink(folder.path(), &[("delivery", "exactly_once")], &schema(), false).unwrap().writers(1, told);
    assert!(opened.err().unwrap().message().contains("takes no checkpoints"));
}

#[test]
fn a_folder_that_can_not_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("taken"), b"").unwrap();
    let told: Arc<dyn Reporter> = Arc::<Told>::default();
    let opened = sink(&folder.path().join("taken"), &[], &schema(), false).unwrap().writers(1, told);
    let error = opened.err().unwrap();
    assert!(error.message().contains("sink out: the server can't make the folder"), "{error}");
    assert!(error.message().contains("taken"), "{error}");
}

/// The disk's refusal stops the job, with the disk's reason; the folder is gone in place of a full disk.
#[test]
fn a_disk_that_refuses_stops_the_job() {
    let folder = TempDir::new().unwrap();
    let mut run = Run::open(folder.path(), Uuid::from_u128(7), &[]);
    fs::remove_dir_all(folder.path().join("_pending")).unwrap();
    run.write(0, &[1]);
    let until = Instant::now() + PATIENCE;
    while run.told.0.lock().unwrap().is_empty() {
        assert!(Instant::now() < until, "the job hears nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    let said = run.told.0.lock().unwrap()[0].clone();
    assert!(said.contains("sink out: the server can't make the file"), "{said}");
    assert!(said.contains("No such file or directory"), "{said}");
    let error = ready(|| run.sink.writers[0].end_interval(10)).and_then(|()| run.committer().prepare(10).map(drop));
    assert!(error.is_err(), "no checkpoint is prepared after that");
}

/// `/dev/full` is a disk that is always full.
#[test]
fn a_full_disk_is_said() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let mut file = super::encode::RowFile::begin(full, super::settings::FileFormat::Json, &schema()).unwrap();
    let many: Vec<i64> = (0..50_000).collect();
    let written = file.write(&rows(&many)).and_then(|()| file.finish().map(drop));
    assert!(written.unwrap_err().message().contains("No space left on device"));
}
