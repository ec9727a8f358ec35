//! HTTP, as registries are asked: several addresses, each tried in turn, with patience that ends.
//!
//! Questions run on one thread of their own, whoever asks: a statement waits for the answer, a worker never does.

use std::fmt;
use std::future::Future;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use tokio::runtime::Runtime;

use crate::error::{Error, ErrorKind, Result};

/// An answer that is longer is refused: no schema is.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How a registry is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Sent with each question.
    pub headers: Vec<(String, String)>,
    /// User and password, for basic authentication.
    pub login: Option<(String, String)>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How often all addresses are tried again.
    pub retries: u32,
    /// The pause before the first repetition; each further one is twice as long.
    pub backoff: Duration,
}

impl fmt::Debug for Access {
    /// Without what only the registry may see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let user = self.login.as_ref().map(|(user, _)| user);
        f.debug_struct("Access").field("headers", &names).field("user", &user).finish_non_exhaustive()
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            login: None,
            timeout: Duration::from_secs(10),
            retries: 2,
            backoff: Duration::from_millis(500),
        }
    }
}

/// An answer, whatever it says.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    method: Method,
    /// Behind the registry's address.
    path: String,
    body: Option<(&'static str, Bytes)>,
}

impl Question {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    /// Asks with a body of this content type.
    pub(crate) fn post(path: impl Into<String>, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some((content_type, body.into())) }
    }
}

/// The addresses of one registry, and how it is asked.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    /// Without a slash at the end.
    addresses: Vec<String>,
    access: Access,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http({}, {:?})", self.shown(), self.access)
    }
}

impl Http {
    /// Checks addresses and headers; asks nobody.
    pub(crate) fn new(addresses: &[String], access: &Access) -> Result<Self> {
        for address in addresses {
            let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if url.is_none() {
                return Err(Error::invalid(format!("'{}' is no address of a registry", without_password(address)))
                    .with_hint("write http://host:port or https://host"));
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &access.headers {
            match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.append(name, value)
                }
                _ => return Err(Error::invalid(format!("'{name}' can't be a header of HTTP with this value"))),
            };
        }
        let client = Client::builder()
            .user_agent("rondel")
            .default_headers(headers)
            .connect_timeout(access.timeout)
            .build()
            .map_err(|error| Error::new(ErrorKind::External, format!("no HTTP client: {}", root_words(&error))))?;
        let addresses = addresses.iter().map(|address| address.trim_end_matches('/').to_owned()).collect();
        Ok(Self { client, addresses, access: access.clone() })
    }

    /// The same, asked once and with little patience: where something else serves as well.
    pub(crate) fn hastily(&self) -> Self {
        let access =
            Access { retries: 0, timeout: self.access.timeout.min(Duration::from_secs(3)), ..self.access.clone() };
        Self { access, ..self.clone() }
    }

    /// The addresses, for people.
    pub(crate) fn shown(&self) -> String {
        self.addresses.iter().map(|address| without_password(address)).collect::<Vec<_>>().join(", ")
    }

    /// Asks, and waits. An answer that says "no" is an answer; the error is that there is none.
    pub(crate) fn ask(&self, question: Question) -> Result<Answer> {
        let http = self.clone();
        wait(async move { http.ask_later(question).await })?
    }

    /// Asks each address until one answers, and all of them again as often as is allowed.
    pub(crate) async fn ask_later(&self, question: Question) -> Result<Answer> {
        let mut pause = self.access.backoff;
        let mut words = String::new();
        for attempt in 0..=self.access.retries {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
            for address in &self.addresses {
                match self.ask_one(address, &question).await {
                    // Overloaded or broken: another one may do better.
                    Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                        words = format!("{} answers {}", without_password(address), status_words(&answer));
                    }
                    Ok(answer) => return Ok(answer),
                    Err(trouble) => words = format!("{}: {trouble}", without_password(address)),
                }
            }
        }
        Err(Error::new(ErrorKind::External, format!("the registry can't be reached: {words}"))
            .with_hint("look at the address, at the network, and whether the registry runs"))
    }

    async fn ask_one(&self, address: &str, question: &Question) -> Result<Answer, String> {
        let mut request = self.client.request(question.method.clone(), format!("{address}{}", question.path));
        request = request.timeout(self.access.timeout);
        if let Some((user, password)) = &self.access.login {
            request = request.basic_auth(user, Some(password));
        }
        if let Some((content_type, body)) = &question.body {
            request = request.header("content-type", *content_type).body(body.clone());
        }
        let mut response = request.send().await.map_err(|error| root_words(&error))?;
        let status = response.status().as_u16();
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| root_words(&error))? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(format!("the answer is longer than {} MB", ANSWER_BYTES_MAX >> 20));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, body: body.freeze() })
    }
}

/// What an answer that is no success says of itself.
pub(crate) fn status_words(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.trim().chars().take(300).collect();
    let reason = reqwest::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    let status = format!("{} {}", answer.status, reason.unwrap_or("")).trim().to_owned();
    if text.is_empty() { status } else { format!("{status}: {text}") }
}

/// An address as it may be shown.
pub(crate) fn without_password(address: &str) -> String {
    // What stands behind a question mark may be a token.
    let (plain, more) = match address.split_once('?') {
        Some((plain, _)) => (plain, "?…"),
        None => (address, ""),
    };
    match Url::parse(plain) {
        Ok(mut url) if url.password().is_some() || !url.username().is_empty() => {
            let _ = url.set_password(None);
            let _ = url.set_username("");
            format!("{url}{more}")
        }
        _ => format!("{plain}{more}"),
    }
}

/// The innermost reason: `connection refused`, not that a request was not sent.
fn root_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The thread that asks.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rondel:registry")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|words| Error::new(ErrorKind::External, format!("a thread could not be started: {words}")))
}

/// Runs work on that thread, and waits for it. The work has to end by itself.
pub(crate) fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Who asked is there until it has the answer.
        let _ = sender.send(work.await);
    });
    receiver.recv().map_err(|_| Error::internal("a question to a registry broke off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_headers_are_checked() {
        let access = Access::default();
        for wrong in ["registry", "ftp://x", "http://"] {
            let error = Http::new(&[wrong.to_owned()], &access).unwrap_err();
            assert!(error.message().contains("no address"), "{error}");
        }
        let access = Access { headers: vec![("a b".into(), "c".into())], ..access };
        assert!(Http::new(&["http://x".into()], &access).unwrap_err().message().contains("header"));
    }

    #[test]
    fn nobody_there_is_said_with_the_reason() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let access = Access { retries: 1, backoff: Duration::from_millis(1), ..Access::default() };
        let http = Http::new(&[format!("http://user:secret@127.0.0.1:{port}/")], &access).unwrap();
        let error = http.ask(Question::get("/x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::External);
        assert!(error.message().contains("refused") && !error.message().contains("secret"), "{error}");
    }
}
