//! The object store, as one life sees it: slow, failing, and silent about what it has done.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::life::Being;

/// One call in so many fails.
const FAILS: u32 = 60;

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Files(pub(super) Arc<Being>);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object store of a life")
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn failed(what: &'static str) -> object_store::Error {
    object_store::Error::Generic { store: "simulated", source: what.into() }
}

impl Files {
    /// Before a call: it may never arrive.
    fn call(&self) -> Result<()> {
        if !self.0.goes_on() {
            return Err(failed("killed"));
        }
        if self.0.world.is_unlucky(FAILS) { Err(failed("it is away")) } else { Ok(()) }
    }

    /// After one that changed something: the answer may be lost.
    fn answer<T>(&self, answer: T) -> Result<T> {
        if !self.0.goes_on() {
            return Err(failed("killed"));
        }
        if self.0.world.is_unlucky(FAILS) { Err(failed("no answer")) } else { Ok(answer) }
    }

    fn inner(&self) -> &dyn ObjectStore {
        self.0.world.objects.as_ref()
    }
}

#[async_trait]
impl ObjectStore for Files {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.call()?;
        let put = self.inner().put_opts(location, payload, opts).await?;
        self.answer(put)
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(failed("it takes whole files"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.inner().get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.call()?;
                    this.inner().delete(&location).await?;
                    this.answer(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.inner().list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call()?;
        self.inner().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(failed("it copies nothing"))
    }
}
