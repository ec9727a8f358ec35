//! Schema registries: a real one with Confluent's API (Apicurio), and a stand-in for Stencil, written from the
//! description of its HTTP API.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::http::{Answer, HttpServer, Request};
use crate::{Result, free_port, root};

/// How often another port is tried when the registry does not start.
const START_ATTEMPTS: usize = 3;

/// Apicurio, in memory.
#[derive(Debug)]
pub struct SchemaRegistry {
    port: u16,
    _script: Child,
    /// The registry runs until this is dropped.
    _alive: ChildStdin,
}

impl SchemaRegistry {
    /// The registry that all tests of this process share. Tests keep out of each other's way by their subjects' names.
    pub fn shared() -> Result<&'static SchemaRegistry> {
        static SHARED: OnceLock<std::result::Result<SchemaRegistry, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start().map_err(|error| error.to_string()))
            .as_ref()
            .map_err(|text| text.clone().into())
    }

    fn start() -> Result<SchemaRegistry> {
        let mut attempt = 1;
        loop {
            match Self::start_at(free_port()?) {
                Ok(registry) => return Ok(registry),
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    fn start_at(port: u16) -> Result<SchemaRegistry> {
        let mut script = Command::new("bash")
            .arg(root().join("tests/components/registry/registry.sh"))
            .args(["serve", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let alive = script.stdin.take().ok_or("the registry's script has no standard input")?;
        let stdout = script.stdout.take().ok_or("the registry's script has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            drop(alive);
            let status = script.wait()?;
            return Err(format!("the schema registry did not start ({status}); its last words are above").into());
        }
        Ok(SchemaRegistry { port, _script: script, _alive: alive })
    }

    /// Where Confluent's API is.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }
}

/// The versions of schemas, by namespace and name.
type Schemas = BTreeMap<(String, String), Vec<Vec<u8>>>;

/// A Stencil server of one's own.
pub struct StencilServer {
    http: HttpServer,
    schemas: Arc<Mutex<Schemas>>,
}

impl StencilServer {
    /// An empty server. With a token, a request needs the header `authorization: token`.
    pub fn start(token: Option<&str>) -> Result<Self> {
        let schemas: Arc<Mutex<Schemas>> = Arc::default();
        let (known, token) = (Arc::clone(&schemas), token.map(str::to_owned));
        let http = HttpServer::start(move |request| {
            if token.is_some() && request.header("authorization") != token.as_deref() {
                return said(401, "unauthorized");
            }
            answer(request, &known.lock().unwrap_or_else(PoisonError::into_inner))
        })?;
        Ok(Self { http, schemas })
    }

    /// Adds a version; the first is 1.
    pub fn upload(&self, namespace: &str, schema: &str, bytes: Vec<u8>) {
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = schemas.entry((namespace.to_owned(), schema.to_owned())).or_default();
        // The same upload twice makes no new version.
        if versions.last() != Some(&bytes) {
            versions.push(bytes);
        }
    }

    /// The server itself.
    pub fn http(&self) -> &HttpServer {
        &self.http
    }
}

fn said(status: u16, message: &str) -> Answer {
    (status, format!(r#"{{"code":{status},"message":"{message}"}}"#).into_bytes())
}

fn answer(request: &Request, schemas: &Schemas) -> Answer {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let ["v1beta1", "namespaces", namespace, "schemas", schema, rest @ ..] = &parts[..] else {
        return said(404, "not found");
    };
    let Some(versions) = schemas.get(&((*namespace).to_owned(), (*schema).to_owned())) else {
        return said(404, "schema not found");
    };
    match rest {
        [] => (200, versions[versions.len() - 1].clone()),
        ["versions"] => {
            let numbers: Vec<String> = (1..=versions.len()).map(|number| number.to_string()).collect();
            (200, format!(r#"{{"versions":[{}]}}"#, numbers.join(",")).into_bytes())
        }
        ["versions", number] => {
            match number.parse::<usize>().ok().and_then(|number| versions.get(number.checked_sub(1)?)) {
                Some(bytes) => (200, bytes.clone()),
                None => said(404, "version not found"),
            }
        }
        _ => said(404, "not found"),
    }
}
