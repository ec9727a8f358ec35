//! Where a timely operator's rows go: on to the next operator of the same worker, or to the workers that own their keys.

use std::sync::Arc;

use arrow::array::UInt32Array;
use datafusion::physical_expr::PhysicalExpr;
use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pushers::Output as TimelyOutput;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::Capability;

use crate::delta::Delta;
use crate::error::Result;
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::time::{Epoch, WatermarkId};

use super::flow_control::{ByteGuard, LinkMeter, delta_bytes};
use super::job::JobShared;
use super::packet::{Control, Packet, Payload, Promise};

/// Routes packets to the worker that they name. What goes in comes out, so counts are preserved.
pub(crate) struct Addressed;

impl Distributor<Packet> for Addressed {
    fn partition<T: Clone, P: Push<Message<T, Packet>>>(&mut self, packet: &mut Packet, time: &T, pushers: &mut [P]) {
        Message::push_at(packet, time.clone(), &mut pushers[packet.target]);
    }

    fn flush<T: Clone, P: Push<Message<T, Packet>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// How rows find their worker.
#[derive(Clone)]
pub(crate) enum Routing {
    /// They stay where they are.
    Stay,
    /// To the owner of their key's group.
    ByKey(Arc<[Arc<dyn PhysicalExpr>]>),
    /// Every worker gets each.
    ToAll,
}

/// One outgoing link of a timely operator.
pub(crate) struct Outlet {
    output: TimelyOutput<Epoch, Packet>,
    capability: Option<Capability<Epoch>>,
    routing: Routing,
    link: Arc<LinkMeter>,
    job: Arc<JobShared>,
    worker: usize,
    hashes: Vec<u64>,
}

impl Outlet {
    /// An outlet that holds its timely capability at `first`.
    pub(crate) fn new(
        output: TimelyOutput<Epoch, Packet>,
        mut capability: Capability<Epoch>,
        first: Epoch,
        (routing, link): (Routing, Arc<LinkMeter>),
        job: Arc<JobShared>,
        worker: usize,
    ) -> Self {
        capability.downgrade(&first);
        Self { output, capability: Some(capability), routing, link, job, worker, hashes: Vec::new() }
    }

    /// The link.
    pub(crate) fn link(&self) -> &Arc<LinkMeter> {
        &self.link
    }

    /// Sends rows of `epoch`. Fails where the key's expressions do.
    pub(crate) fn send(&mut self, epoch: Epoch, delta: Delta) -> Result<()> {
        let keys = match &self.routing {
            Routing::ByKey(keys) => Arc::clone(keys),
            Routing::Stay => {
                self.push_rows(epoch, self.worker, delta);
                return Ok(());
            }
            Routing::ToAll => {
                for target in 0..self.job.workers {
                    self.push_rows(epoch, target, delta.clone());
                }
                return Ok(());
            }
        };
        let workers = self.job.workers;
        let rows = delta.num_rows();
        let columns =
            keys.iter().map(|key| key.evaluate(delta.rows())?.into_array(rows)).collect::<Result<Vec<_>, _>>()?;
        hash_keys(&columns, rows, &mut self.hashes)?;
        let owner = |hash: &u64| worker_of(key_group(*hash), workers);
        let first = self.hashes.first().map_or(0, owner);
        if self.hashes.iter().all(|hash| owner(hash) == first) {
            self.push_rows(epoch, first, delta);
            return Ok(());
        }
        let mut indices: Vec<Vec<u32>> = vec![Vec::with_capacity(2 * rows / workers); workers];
        for (row, hash) in self.hashes.iter().enumerate() {
            indices[owner(hash)].push(row as u32);
        }
        for (target, rows) in indices.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let part = delta.take(&UInt32Array::from(rows))?;
            self.push_rows(epoch, target, part);
        }
        Ok(())
    }

    /// Sends news of watermarks as of the end of `epoch`: to this worker, or to all.
    pub(crate) fn send_control(&mut self, epoch: Epoch, promises: &[(WatermarkId, Promise)], to_all: bool) {
        let targets = if to_all { 0..self.job.workers } else { self.worker..self.worker + 1 };
        for target in targets {
            let control = Control { from: self.worker, promises: promises.to_vec() };
            self.push(epoch, Packet { target, payload: Payload::Control(control) });
        }
    }

    fn push_rows(&mut self, epoch: Epoch, target: usize, delta: Delta) {
        if !delta.is_empty() {
            let guard = ByteGuard::sent(&self.job.meter, delta_bytes(&delta), &self.link, epoch);
            self.push(epoch, Packet { target, payload: Payload::Rows { delta, guard: Some(guard) } });
        }
    }

    fn push(&mut self, epoch: Epoch, mut packet: Packet) {
        if let Some(capability) = &self.capability {
            let capability = capability.delayed(&epoch);
            self.output.activate().give(&capability, &mut packet);
        }
    }

    /// Nothing before `epoch` will be sent any more.
    pub(crate) fn advance(&mut self, epoch: Epoch) {
        if let Some(capability) = &mut self.capability
            && *capability.time() < epoch
        {
            capability.downgrade(&epoch);
        }
    }

    /// Nothing will be sent any more.
    pub(crate) fn close(&mut self) {
        self.capability = None;
    }
}
