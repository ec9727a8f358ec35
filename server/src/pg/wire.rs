//! The two directions of a connection: messages in, messages out, each with its own buffer.
//!
//! They are separate values so that a task can write rows and notice at the same time that the client has gone.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, BytesMut};
use pgwire::error::PgWireError;
use pgwire::messages::response::{GssEncResponse, SslResponse};
use pgwire::messages::{
    DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion, SslNegotiationMetaMessage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes that a client may send ahead while its statement runs; what is beyond waits in the socket.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// Rows are written to the socket when this much is waiting, whatever the time.
pub(super) const WRITE_BYTES: usize = 32 << 10;

/// Why reading a message failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes are no message of the protocol.
    #[error("the message could not be read: {0}")]
    Malformed(String),
    /// The message is longer than the limit.
    #[error("a message of {size} bytes is over the limit of {limit} bytes")]
    TooLong {
        /// Its length.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

/// The client's messages.
pub(super) struct Inbound {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    context: DecodeContext,
    message_bytes_max: usize,
}

/// The server's messages. What is queued leaves with [`Outbound::flush`].
pub(super) struct Outbound {
    socket: OwnedWriteHalf,
    buffer: BytesMut,
}

/// Both directions of a new connection.
pub(super) fn open(socket: TcpStream, message_bytes_max: usize) -> (Inbound, Outbound) {
    let (read, write) = socket.into_split();
    // The protocol is 3.0 here: it fixes a cancel request's key at four bytes.
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    (
        Inbound { socket: read, buffer: BytesMut::with_capacity(8 << 10), context, message_bytes_max },
        Outbound { socket: write, buffer: BytesMut::with_capacity(8 << 10) },
    )
}

impl Inbound {
    /// The next message; `None` when the client has closed the connection.
    pub(super) async fn receive(&mut self) -> Result<Option<PgWireFrontendMessage>, ReadError> {
        loop {
            self.check_length()?;
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Ends when the client has gone. Reads meanwhile, a bounded amount, what it sends ahead.
    pub(super) async fn hung_up(&mut self) {
        loop {
            if self.buffer.len() >= READ_AHEAD_BYTES {
                // The client sends without reading: it is there, and its bytes wait in the socket.
                return std::future::pending().await;
            }
            if !matches!(self.socket.read_buf(&mut self.buffer).await, Ok(read) if read > 0) {
                return;
            }
        }
    }

    /// A packet of the connection's beginning, where no byte tells its type, was read: others follow.
    pub(super) fn started(&mut self) {
        self.context.awaiting_frontend_ssl = false;
        self.context.awaiting_frontend_startup = false;
    }

    fn check_length(&self) -> Result<(), ReadError> {
        let started = !self.context.awaiting_frontend_startup;
        let at = usize::from(started);
        let Some(mut length) = self.buffer.get(at..at + 4) else { return Ok(()) };
        let size = length.get_u32() as usize;
        // The packets of the beginning are short; anything else there is no client of ours.
        let limit = if started { self.message_bytes_max } else { 10_000 };
        if size > limit {
            return Err(ReadError::TooLong { size, limit });
        }
        if size < 4 {
            return Err(ReadError::Malformed(format!("its length is given as {size}")));
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<Option<PgWireFrontendMessage>, ReadError> {
        // A message without a body is five bytes, a packet of the beginning at least eight.
        let Some(length) = self.message_bytes() else { return Ok(None) };
        if self.buffer.len() < length {
            return Ok(None);
        }
        // The decoder reads counts and lengths that the client wrote, and panics where they lead beyond the message.
        let (buffer, context) = (&mut self.buffer, &self.context);
        let decoded = catch_unwind(AssertUnwindSafe(|| PgWireFrontendMessage::decode(buffer, context)));
        let message = match decoded {
            Ok(Ok(message)) => message,
            Ok(Err(PgWireError::IoError(error))) => return Err(error.into()),
            Ok(Err(error)) => return Err(ReadError::Malformed(error.to_string())),
            Err(_) => return Err(ReadError::Malformed("a length in it is wrong".to_owned())),
        };
        if let Some(PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::None)) = message {
            // Neither TLS nor GSS was asked for: the packet is the start itself.
            self.context.awaiting_frontend_ssl = false;
            return self.decode();
        }
        Ok(message)
    }

    fn message_bytes(&self) -> Option<usize> {
        let at = usize::from(!self.context.awaiting_frontend_startup);
        let mut length = self.buffer.get(at..at + 4)?;
        Some(at + length.get_u32() as usize)
    }
}

impl Outbound {
    /// Queues a message.
    pub(super) fn queue(&mut self, message: PgWireBackendMessage) {
        if let Err(error) = message.encode(&mut self.buffer) {
            // Only lengths are checked: a text of more than 30,000 bytes in a message that is meant to be short.
            tracing::error!(%error, "a message to the client was too long and is left out");
        }
    }

    /// Where rows are written to: whole messages only.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what is queued. Dropping the future in between keeps what wasn't written: no message is cut.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            if self.socket.write_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Refuses TLS: one byte, no message.
    pub(super) async fn refuse_encryption(&mut self, request: &SslNegotiationMetaMessage) -> io::Result<()> {
        self.queue(match request {
            SslNegotiationMetaMessage::PostgresGss(_) => PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse),
            _ => PgWireBackendMessage::SslResponse(SslResponse::Refuse),
        });
        self.flush().await
    }

    /// Writes what is queued and closes.
    pub(super) async fn close(mut self) {
        let _ = self.flush().await;
        let _ = self.socket.shutdown().await;
    }
}
