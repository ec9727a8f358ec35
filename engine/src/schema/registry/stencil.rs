//! Stencil: namespaces, schemas and their versions, by its HTTP API (v1beta1).

use bytes::Bytes;

use super::http::{Access, Answer, Http, Question, status_words};
use crate::error::{Error, ErrorKind, Result};

/// One schema of a Stencil server.
#[derive(Debug, Clone)]
pub(crate) struct Stencil {
    http: Http,
    /// Behind the addresses; empty when those are whole.
    path: String,
}

impl Stencil {
    /// The schema of this name in a namespace; without both, the addresses are those of the schema itself
    /// (`http://stencil:8000/v1beta1/namespaces/acme/schemas/bookings`).
    pub(crate) fn new(addresses: &[String], access: &Access, name: Option<(&str, &str)>) -> Result<Self> {
        let path = match name {
            Some((namespace, schema)) => {
                format!("/v1beta1/namespaces/{}/schemas/{}", part("namespace", namespace)?, part("schema", schema)?)
            }
            None if addresses.iter().all(|address| address.contains("/schemas/")) => String::new(),
            None => {
                return Err(Error::invalid("registry = 'stencil' needs the options \"namespace\" and \"schema\"")
                    .with_hint("or give registry_url as the schema's own: http://…/v1beta1/namespaces/n/schemas/s"));
            }
        };
        Ok(Self { http: Http::new(addresses, access)?, path })
    }

    /// What it is, for people.
    pub(crate) fn shown(&self) -> String {
        format!("{}{}", self.http.shown(), self.path)
    }

    fn ask(&self, behind: &str) -> Result<Answer> {
        self.http.ask(Question::get(format!("{}{behind}", self.path)))
    }

    fn said_no(&self, answer: &Answer) -> Error {
        let shown = self.shown();
        match answer.status {
            404 => Error::invalid(format!("Stencil has no schema {shown}"))
                .with_hint("look at the namespace and the schema's name"),
            401 | 403 => {
                Error::new(ErrorKind::External, format!("Stencil lets nobody in to {shown}: {}", status_words(answer)))
                    .with_hint("give registry_headers, or registry_user and registry_password")
            }
            _ => Error::new(ErrorKind::External, format!("Stencil refuses {shown}: {}", status_words(answer))),
        }
    }

    /// Its versions, in ascending order.
    pub(crate) fn versions(&self) -> Result<Vec<u64>> {
        let answer = self.ask("/versions")?;
        if answer.status != 200 {
            return Err(self.said_no(&answer));
        }
        #[derive(serde::Deserialize)]
        struct Versions {
            #[serde(default)]
            versions: Vec<u64>,
        }
        let mut versions = serde_json::from_slice::<Versions>(&answer.body)
            .map_err(|error| {
                Error::new(ErrorKind::External, format!("{}/versions lists no versions: {error}", self.shown()))
            })?
            .versions;
        versions.sort_unstable();
        if versions.is_empty() {
            return Err(Error::invalid(format!("the schema {} has no versions", self.shown())));
        }
        Ok(versions)
    }

    /// One version.
    pub(crate) fn version(&self, version: u64) -> Result<Bytes> {
        let answer = self.ask(&format!("/versions/{version}"))?;
        match answer.status {
            200 => Ok(answer.body),
            404 => Err(Error::invalid(format!("the schema {} has no version {version}", self.shown()))),
            _ => Err(self.said_no(&answer)),
        }
    }

    /// The latest version's content, whichever that is.
    pub(crate) fn latest(&self) -> Result<Bytes> {
        let answer = self.ask("")?;
        if answer.status == 200 { Ok(answer.body) } else { Err(self.said_no(&answer)) }
    }
}

/// A name as a part of a path.
fn part<'a>(option: &str, name: &'a str) -> Result<&'a str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    if !name.is_empty() && name.chars().all(plain) {
        return Ok(name);
    }
    Err(Error::invalid(format!("the option \"{option}\" cannot be '{name}'"))
        .with_hint("letters, digits, '-', '_' and '.' make names in Stencil"))
}
