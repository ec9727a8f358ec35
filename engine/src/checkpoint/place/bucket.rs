//! Opens a bucket by its URL: credentials and endpoints come from the environment, and from behind its question mark
//! (`s3://bucket/folder?aws_endpoint=http://127.0.0.1:9000&aws_allow_http=true`).

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreScheme, RetryConfig};
use reqwest::Url;

use crate::error::{Error, Result};

/// How often a call is repeated, and for how long: a store that is away is told, and tried again with the next checkpoint.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() }
}

/// The options of a kind of store: what the environment has of them, then what the URL says.
fn options<Key: FromStr>(url: &Url) -> Result<Vec<(Key, String)>> {
    let environment =
        std::env::vars().filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)));
    let mut options: Vec<(Key, String)> = environment.collect();
    for (name, value) in url.query_pairs() {
        let key = name.parse().map_err(|_| {
            Error::invalid(format!("its store has no option '{name}'"))
                .with_hint("options are called as in the environment: aws_endpoint, aws_region, aws_allow_http, …")
        })?;
        options.push((key, value.into_owned()));
    }
    Ok(options)
}

/// The store of a URL, and the folder in it.
pub(super) fn open(url: &Url) -> Result<(Arc<dyn ObjectStore>, ObjectPath)> {
    let failed = |error: &dyn std::fmt::Display| Error::invalid(error.to_string());
    let mut bare = url.clone();
    bare.set_query(None);
    let (scheme, path) = ObjectStoreScheme::parse(&bare).map_err(|error| failed(&error))?;
    let path = ObjectPath::parse(path).map_err(|error| failed(&error))?;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::new().with_url(bare.as_str()).with_retry(retry());
            let options = options::<AmazonS3ConfigKey>(url)?.into_iter();
            let builder = options.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.build().map_err(|error| failed(&error))?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::new().with_url(bare.as_str()).with_retry(retry());
            let options = options::<GoogleConfigKey>(url)?.into_iter();
            let builder = options.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.build().map_err(|error| failed(&error))?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::new().with_url(bare.as_str()).with_retry(retry());
            let options = options::<AzureConfigKey>(url)?.into_iter();
            let builder = options.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.build().map_err(|error| failed(&error))?)
        }
        _ => {
            return Err(Error::invalid("it is no bucket")
                .with_hint("write file:///folder, s3://bucket/folder, gs://bucket/folder or az://container/folder"));
        }
    };
    Ok((store, path))
}
