//! Two runs of a job, and a place that is away between.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::{opened, part, snapshot, write};
use crate::checkpoint::place::Place;

type Happens = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A store in which something happens before the next choice is put, and whose manifests can't be read now and then.
struct Interrupted {
    inner: Arc<InMemory>,
    happens: Happens,
    away: Arc<AtomicBool>,
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store in which something happens")
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for Interrupted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if location.as_ref().contains("chosen/")
            && let Some(happens) = self.happens.lock().unwrap().take()
        {
            // Another process: it waits for the store on a thread of its own.
            std::thread::spawn(happens).join().unwrap();
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(object_store::Error::Generic { store: "test", source: "nobody does so".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.away.load(Ordering::SeqCst) && location.as_ref().contains("manifests/") {
            return Err(object_store::Error::Generic { store: "test", source: "it is away".into() });
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(object_store::Error::Generic { store: "test", source: "nobody does so".into() })
    }
}

/// What an earlier run has chosen is what the next one goes on from, or the earlier one is told that it has not chosen it: a
/// sink must not commit what it has read of a view up to a checkpoint that the view's next run knows nothing of.
#[test]
fn a_choice_that_the_next_run_has_not_seen_is_none() {
    let (inner, happens) = (Arc::new(InMemory::new()), Happens::default());
    let store = Interrupted { inner: Arc::clone(&inner), happens: Arc::clone(&happens), away: Arc::default() };
    let place = Arc::new(Place::over(Arc::new(store)));
    let mut run = opened(&place);
    run.begin().unwrap();
    let first = write(&run, &snapshot(10, vec![part("p", &[1])]), None);
    run.choose(&first.file, first.hash).unwrap();
    let next_begins_from = Arc::new(Mutex::new(None));
    let epoch = Arc::clone(&next_begins_from);
    *happens.lock().unwrap() = Some(Box::new(move || {
        let restorable = opened(&Arc::new(Place::over(inner))).begin().unwrap();
        *epoch.lock().unwrap() = restorable.epoch();
    }));
    let second = write(&run, &snapshot(20, vec![part("p", &[2])]), None);
    let error = run.choose(&second.file, second.hash).unwrap_err();
    assert!(error.message().contains("another server runs the job"), "{error}");
    assert_eq!(*next_begins_from.lock().unwrap(), Some(10));
}

/// A run that has read nothing yet asks the place which checkpoints are needed: one that it cannot look at stays, and its files
/// with it. Readers of a view may go on from it.
#[test]
fn what_cannot_be_looked_at_is_not_deleted() {
    let away = Arc::new(AtomicBool::new(false));
    let store = Interrupted { inner: Arc::default(), happens: Happens::default(), away: Arc::clone(&away) };
    let place = Arc::new(Place::over(Arc::new(store)));
    let mut run = opened(&place);
    run.begin().unwrap();
    for epoch in [10, 20, 30] {
        let written = write(&run, &snapshot(epoch, vec![part("p", &[epoch as i64])]), None);
        run.choose(&written.file, written.hash).unwrap();
    }
    let mut next = opened(&place);
    next.begin().unwrap();
    away.store(true, Ordering::SeqCst);
    let error = next.retain(|_, age| age < 1).unwrap_err();
    assert!(error.message().contains("it is away"), "{error}");
    away.store(false, Ordering::SeqCst);
    let kept = next.retain(|manifest, _| manifest.epoch == 10).unwrap();
    assert_eq!(kept.iter().map(|manifest| manifest.epoch).collect::<Vec<_>>(), [30, 10]);
    kept.iter().for_each(|manifest| drop(next.restore(manifest).unwrap()));
}
