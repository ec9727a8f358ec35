//! One file by its URL: from a web server or out of a bucket.

use bytes::Bytes;
use object_store::ObjectStoreExt;
use reqwest::Url;

use super::http::{Access, Http, Question, status_words, wait, without_password};
use crate::error::{Error, ErrorKind, Result};

/// Schemes of buckets.
const BUCKETS: &[&str] = &["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl"];

/// Whether a text is a URL that can be fetched from.
pub fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| matches!(scheme.as_str(), "http" | "https") || BUCKETS.contains(&scheme.as_str()))
}

/// The bytes behind a URL.
pub fn fetch(url: &str, access: &Access) -> Result<Bytes> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    if BUCKETS.contains(&scheme.as_str()) {
        // As for checkpoints: AWS_ACCESS_KEY_ID, AWS_ENDPOINT, GOOGLE_SERVICE_ACCOUNT and their like.
        return fetch_with(url, std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value)), access);
    }
    let shown = without_password(url);
    let answer = Http::new(&[url.to_owned()], access)?.ask(Question::get(""))?;
    match answer.status {
        200..=299 => Ok(answer.body),
        404 | 410 => Err(Error::invalid(format!("there is nothing at {shown}: the server answers {}", answer.status))),
        401 | 403 => Err(Error::new(
            ErrorKind::External,
            format!("{shown} may not be read: the server answers {}", status_words(&answer)),
        )
        .with_hint("give registry_user and registry_password, or registry_headers")),
        _ => Err(Error::new(ErrorKind::External, format!("{shown} can't be read: {}", status_words(&answer)))),
    }
}

/// The bytes of an object, with the object store's own options (`aws_endpoint`).
pub fn fetch_with(url: &str, options: impl Iterator<Item = (String, String)>, access: &Access) -> Result<Bytes> {
    let shown = without_password(url);
    let wrong = |words: String| Error::invalid(format!("'{shown}' names no object of a bucket: {words}"));
    let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    let (store, path) = object_store::parse_url_opts(&parsed, options).map_err(|error| wrong(error.to_string()))?;
    // The library repeats by itself.
    let patience = access.timeout.saturating_mul(access.retries + 1);
    let read = async move { tokio::time::timeout(patience, async { store.get(&path).await?.bytes().await }).await };
    let failed = |words: String| {
        Error::new(ErrorKind::External, format!("{shown} can't be read: {words}"))
            .with_hint("look at the bucket's address, credentials and permissions")
    };
    match wait(read)? {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(object_store::Error::NotFound { .. })) => Err(Error::invalid(format!("there is no object {shown}"))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {patience:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_known_by_their_scheme() {
        for url in ["http://x/y", "HTTPS://x", "s3://b/k", "gs://b/k", "abfss://c@a/k"] {
            assert!(is_url(url), "{url}");
        }
        for no in ["file:x", "x.proto", "file:///x", "ftp://x"] {
            assert!(!is_url(no), "{no}");
        }
    }

    #[test]
    fn an_object_is_read_or_missing() {
        let none = || std::iter::empty::<(String, String)>();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.desc"), b"bytes").unwrap();
        // The same way as a bucket's, over the library's local store.
        let url = |name: &str| format!("file://{}/{name}", folder.path().display());
        assert_eq!(fetch_with(&url("x.desc"), none(), &Access::default()).unwrap().as_ref(), b"bytes");
        let error = fetch_with(&url("y.desc"), none(), &Access::default()).unwrap_err();
        assert!(error.message().contains("there is no object"), "{error}");
    }
}
