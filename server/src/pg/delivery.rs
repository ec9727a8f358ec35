//! Rows to the client, as they come.
//!
//! A row leaves the server at once when nothing more is ready behind it, and after [`FLUSH_INTERVAL`] at the latest; in
//! between, rows share writes. While rows are written and while they are waited for, the connection hears cancel requests,
//! the client's going and the server's shutdown.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use pgwire::api::results::FieldFormat;
use rondel_engine::Result;
use tokio::time::Instant;

use super::answer::{Ready, Rows};
use super::cancel::Cancellation;
use super::copy::CopyFormat;
use super::sqlstate::Fault;
use super::value::Column;
use super::variables::status;
use super::wire::{Inbound, Outbound, WRITE_BYTES};
use crate::shutdown::Shutdown;

/// The longest that a row waits for others to share a write with.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

/// How often an idle subscription writes something, so that a client that vanished without a word is noticed.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Why a statement's work ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed, or was stopped; the client is told.
    Fault(Fault),
    /// There is nobody to tell.
    Gone,
}

impl From<rondel_engine::Error> for Stop {
    fn from(error: rondel_engine::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What can stop a statement from outside.
pub(super) struct Interrupts {
    /// Where the client's going is noticed.
    pub(super) inbound: Inbound,
    /// Ctrl-C.
    pub(super) cancellation: Cancellation,
    /// The server's end.
    pub(super) shutdown: Shutdown,
}

impl Interrupts {
    /// Does the work unless something stops it.
    pub(super) async fn guard<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.cancellation.requested() => Err(Fault::canceled().into()),
            () = self.shutdown.requested() => Err(Fault::shutdown().into()),
            () = self.inbound.hung_up() => Err(Stop::Gone),
            value = work => Ok(value),
        }
    }

    async fn write(&mut self, outbound: &mut Outbound) -> Result<(), Stop> {
        self.guard(outbound.flush()).await?.map_err(|_| Stop::Gone)
    }
}

/// How rows are written.
pub(super) enum Form {
    /// DataRow messages; the format of each column.
    Rows(Vec<FieldFormat>),
    /// CopyData messages.
    Copy(CopyFormat),
    /// Not at all: MOVE.
    Silent,
}

/// How many rows, and for how long.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Portion {
    /// At most so many.
    pub(super) rows: Option<u64>,
    /// Of rows without an end: the longest wait for the first one. `None` waits for ever.
    pub(super) first_within: Option<Duration>,
    /// Of rows without an end: the longest wait for another one. `None` waits for ever.
    pub(super) next_within: Option<Duration>,
}

/// What was delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    /// Rows.
    pub(super) rows: u64,
    /// Whether there are no more.
    pub(super) is_complete: bool,
}

/// Writes rows until they end, the portion is full, or something stops it.
pub(super) async fn deliver(
    rows: &mut Rows,
    form: &Form,
    portion: Portion,
    interrupts: &mut Interrupts,
    outbound: &mut Outbound,
) -> Result<Delivered, Stop> {
    let mut delivered = Delivered { rows: 0, is_complete: false };
    let mut scratch = BytesMut::new();
    let mut flushed_at = Instant::now();
    loop {
        if portion.rows.is_some_and(|most| delivered.rows >= most) {
            return Ok(delivered);
        }
        match rows.poll()? {
            Ready::Row => {
                if let Some((columns, row)) = rows.take_row() {
                    write_row(form, columns, row, &mut scratch, outbound.buffer());
                    delivered.rows += 1;
                }
                // The clock is asked once in a while only: a row takes less than a microsecond.
                let is_due = delivered.rows.is_multiple_of(256) && flushed_at.elapsed() >= FLUSH_INTERVAL;
                if outbound.waiting_bytes() >= WRITE_BYTES || is_due {
                    interrupts.write(outbound).await?;
                    flushed_at = Instant::now();
                }
            }
            Ready::End => {
                delivered.is_complete = true;
                return Ok(delivered);
            }
            Ready::Nothing => {
                interrupts.write(outbound).await?;
                let patience = if delivered.rows == 0 { portion.first_within } else { portion.next_within };
                let patience = patience.filter(|_| rows.is_endless);
                let limit = patience.unwrap_or(HEARTBEAT_INTERVAL);
                match interrupts.guard(tokio::time::timeout(limit, rows.wait())).await? {
                    Ok(waited) => waited?,
                    Err(_) if patience.is_some() => return Ok(delivered),
                    Err(_) => heartbeat(outbound),
                }
                flushed_at = Instant::now();
            }
        }
    }
}

/// A parameter's status may come at any time, and clients keep it to themselves.
fn heartbeat(outbound: &mut Outbound) {
    outbound.queue(status("in_hot_standby", "off"));
}

fn write_row(form: &Form, columns: &[Column], row: usize, scratch: &mut BytesMut, out: &mut BytesMut) {
    match form {
        Form::Rows(formats) => {
            out.put_u8(b'D');
            let at = out.len();
            out.put_i32(0);
            out.put_i16(columns.len() as i16);
            for (index, column) in columns.iter().enumerate() {
                match formats.get(index) {
                    Some(FieldFormat::Binary) => column.write_sized_binary(row, out),
                    _ => column.write_sized_text(row, out),
                }
            }
            let length = (out.len() - at) as i32;
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        Form::Copy(format) => format.write_row(columns, row, scratch, out),
        Form::Silent => {}
    }
}
