//! An S3 on loopback (`tests/components/s3`), behind a door that can be shut: what is shut keeps what it has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{Result, free_port, root};

/// How long it may take to start: the first time its packages are fetched.
const PATIENCE: Duration = Duration::from_secs(300);

/// See the [module](self). It ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct S3 {
    script: Child,
    alive: Option<ChildStdin>,
    door: Door,
    inner: u16,
}

/// Passes connections on while it is open; shut, it refuses new ones and ends those that are there.
#[derive(Debug)]
struct Door {
    port: u16,
    open: Option<Arc<AtomicBool>>,
}

impl Door {
    fn open(&mut self, inner: u16) -> Result<()> {
        let listener = listen(self.port)?;
        listener.set_nonblocking(true)?;
        let open = Arc::new(AtomicBool::new(true));
        self.open = Some(Arc::clone(&open));
        std::thread::spawn(move || {
            while open.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((outside, _)) => pass_on(outside, inner, &open),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(())
    }

    fn shut(&mut self) {
        if let Some(open) = self.open.take() {
            open.store(false, Ordering::SeqCst);
        }
        // The thread sees it before anything else is expected of it.
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The port was ours a moment ago: connections that end may still hold it.
fn listen(port: u16) -> Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn pass_on(outside: TcpStream, inner: u16, open: &Arc<AtomicBool>) {
    let Ok(inside) = TcpStream::connect(("127.0.0.1", inner)) else { return };
    if outside.set_nonblocking(false).is_err() {
        return;
    }
    for (from, to) in [(&outside, &inside), (&inside, &outside)] {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        let open = Arc::clone(open);
        std::thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            // Looked at now and then, so that a door that is shut ends what is under way.
            if from.set_read_timeout(Some(Duration::from_millis(50))).is_err() {
                return;
            }
            while open.load(Ordering::SeqCst) {
                match from.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(count) => {
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    Err(error) if is_late(&error) => {}
                    Err(_) => break,
                }
            }
            // Whoever is at the other end hears of it; that it may have gone already is all right.
            let _ = to.shutdown(std::net::Shutdown::Both);
            let _ = from.shutdown(std::net::Shutdown::Both);
        });
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

impl S3 {
    /// Starts one with an empty bucket.
    pub fn start(bucket: &str) -> Result<S3> {
        let (inner, port) = (free_port()?, free_port()?);
        let mut script = Command::new("bash")
            .arg(root().join("tests/components/s3/s3.sh"))
            .args(["serve", &inner.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let alive = script.stdin.take();
        let mut s3 = S3 { script, alive, door: Door { port, open: None }, inner };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = s3.script.try_wait()? {
                return Err(format!("moto ended at once ({status}): run tests/components/s3/s3.sh install").into());
            }
            match s3.request("PUT", &format!("/{bucket}")) {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => break,
                Ok(answer) => return Err(format!("the bucket was not made: {answer}").into()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        s3.open()?;
        Ok(s3)
    }

    fn request(&self, method: &str, path: &str) -> Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.inner));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // Whose word it is, is not checked; that it is somebody's, is.
        let credential = "Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "Host: 127.0.0.1\r\nAuthorization: AWS4-HMAC-SHA256 {credential}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(format!("{method} {path} HTTP/1.1\r\n{head}").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The URL of a folder in a bucket, as `--checkpoints` takes it.
    pub fn url(&self, folder: &str) -> String {
        let endpoint = format!("aws_endpoint=http://127.0.0.1:{}", self.door.port);
        format!(
            "s3://{folder}?{endpoint}&aws_allow_http=true&aws_region=us-east-1&aws_access_key_id=test&aws_secret_access_key=test"
        )
    }

    /// How many objects the bucket has whose names hold a word.
    pub fn count(&self, bucket: &str, word: &str) -> Result<usize> {
        let listed = self.request("GET", &format!("/{bucket}?list-type=2"))?;
        Ok(listed
            .split("<Key>")
            .skip(1)
            .filter(|key| key.split('<').next().is_some_and(|key| key.contains(word)))
            .count())
    }

    /// It can be reached again, with all that it had.
    pub fn open(&mut self) -> Result<()> {
        self.door.open(self.inner)
    }

    /// It cannot be reached any more.
    pub fn shut(&mut self) {
        self.door.shut();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.door.shut();
        self.alive.take();
        // It ends with its input; how does not matter.
        let _ = self.script.wait();
    }
}
