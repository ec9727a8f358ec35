//! A web server inside the test, for what has no published program: each request is a call of a function.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Result;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered: a status and a body.
pub type Answer = (u16, Vec<u8>);

type Handler = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A server on a port of loopback, until it is stopped or dropped.
pub struct HttpServer {
    port: u16,
    handler: Handler,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Mutex<Option<Arc<Mutex<bool>>>>,
}

impl HttpServer {
    /// Starts a server that answers by this function.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let server = Self { port, handler: Arc::new(handler), requests: Arc::default(), stop: Mutex::new(None) };
        server.serve(listener);
        Ok(server)
    }

    /// `http://127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody is at the port any more.
    pub fn stop(&self) {
        let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        *stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        // The thread waits for a connection; this is the last one. When it is closed, so is the listener.
        if let Ok(mut last) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = last.read(&mut [0]);
        }
    }

    /// The same server again, at the same port.
    pub fn resume(&self) -> Result<()> {
        self.serve(TcpListener::bind(("127.0.0.1", self.port))?);
        Ok(())
    }

    fn serve(&self, listener: TcpListener) {
        let stop: Arc<Mutex<bool>> = Arc::default();
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&stop));
        let (handler, requests) = (Arc::clone(&self.handler), Arc::clone(&self.requests));
        std::thread::spawn(move || {
            loop {
                let Ok((stream, _)) = listener.accept() else { return };
                if *stop.lock().unwrap_or_else(PoisonError::into_inner) {
                    drop(listener);
                    drop(stream);
                    return;
                }
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                std::thread::spawn(move || {
                    // A client that goes away midway is its own business.
                    let _ = answer(stream, &handler, &requests);
                });
            }
        });
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(stream: TcpStream, handler: &Handler, requests: &Mutex<Vec<Request>>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(Ok(0), str::parse)?;
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    let (status, body) = handler(&request);
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)?;
    Ok(())
}
