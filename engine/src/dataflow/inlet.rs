//! A timely operator's inputs: packets sorted by epoch, and the watermarks that came with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use timely::communication::Pull;
use timely::dataflow::channels::Message;
use timely::dataflow::operators::generic::InputHandleCore;

use crate::plan::flow::FlowPlan;
use crate::time::{Epoch, WatermarkId, Watermarks};

use super::packet::{Packet, Payload, Promise};

/// A timely input, whatever its pact.
pub(crate) trait Inlet {
    /// Takes all that has come.
    fn drain(&mut self, take: &mut dyn FnMut(Epoch, Packet));
}

impl<P: Pull<Message<Epoch, Packet>>> Inlet for InputHandleCore<Epoch, Packet, P> {
    fn drain(&mut self, take: &mut dyn FnMut(Epoch, Packet)) {
        self.for_each(|capability, packet| take(*capability.time(), std::mem::take(packet)));
    }
}

/// The watermarks of one input: each upstream worker's last word, and their minimum, which never goes back.
#[derive(Debug)]
struct Merger {
    upstreams: usize,
    promises: BTreeMap<WatermarkId, Vec<Option<Promise>>>,
    merged: Watermarks,
}

impl Merger {
    fn take(&mut self, from: usize, id: WatermarkId, promise: Promise) {
        let promises = self.promises.entry(id).or_insert_with(|| vec![None; self.upstreams]);
        // A link from the same worker's operator has one upstream, whatever that worker's number.
        let from = if self.upstreams == 1 { 0 } else { from };
        promises[from] = Some(promise);
        let all_spoke = promises.iter().all(|promise| !matches!(promise, None | Some(Promise::Hold)));
        let least = promises.iter().flatten().filter_map(|promise| match promise {
            Promise::NoneHere | Promise::Hold | Promise::Resting(_) => None,
            Promise::At(at) => Some(*at),
        });
        let resting = promises.iter().flatten().filter_map(|promise| match promise {
            Promise::NoneHere | Promise::Hold | Promise::At(_) => None,
            Promise::Resting(at) => Some(*at),
        });
        if all_spoke && let Some(promised) = least.min().or_else(|| resting.max()) {
            self.merged.advance(id, promised);
        }
    }
}

struct Input {
    handle: Box<dyn Inlet>,
    merger: Merger,
    /// The watermarks that come in here.
    ids: BTreeSet<WatermarkId>,
}

/// What an input depends on.
#[derive(Debug, Clone)]
pub(crate) struct InletSpec {
    /// How many workers' words make up a watermark: all for a stream's source, else this worker's.
    pub(crate) upstreams: usize,
    /// The watermarks that come in here.
    pub(crate) ids: BTreeSet<WatermarkId>,
}

/// All inputs of one timely operator.
pub(crate) struct Inlets {
    /// It says which watermarks follow from others.
    plan: Arc<FlowPlan>,
    inputs: Vec<Input>,
    /// By epoch, in the order of arrival.
    waiting: BTreeMap<Epoch, VecDeque<(usize, Packet)>>,
}

impl Inlets {
    /// Inputs that start with the watermarks of a restored snapshot, or none.
    pub(crate) fn new(plan: Arc<FlowPlan>, inputs: Vec<(Box<dyn Inlet>, InletSpec)>, restored: &Watermarks) -> Self {
        let inputs = inputs
            .into_iter()
            .map(|(handle, InletSpec { upstreams, ids })| {
                let merger = Merger { upstreams, promises: BTreeMap::new(), merged: restored.clone() };
                Input { handle, merger, ids }
            })
            .collect();
        Self { plan, inputs, waiting: BTreeMap::new() }
    }

    /// Takes in what has come. Only what is ahead of the frontier stays here for long.
    pub(crate) fn receive(&mut self) {
        for (index, input) in self.inputs.iter_mut().enumerate() {
            let waiting = &mut self.waiting;
            input.handle.drain(&mut |epoch, packet| waiting.entry(epoch).or_default().push_back((index, packet)));
        }
    }

    /// Takes what has come and forgets it: the operator has failed.
    pub(crate) fn discard(&mut self) {
        self.waiting.clear();
        for input in &mut self.inputs {
            input.handle.drain(&mut |_, packet| drop(packet));
        }
    }

    /// The next rows of `epoch`; watermarks on the way are noted.
    pub(crate) fn next(&mut self, epoch: Epoch) -> Option<(usize, Packet)> {
        let packets = self.waiting.get_mut(&epoch)?;
        loop {
            let Some((index, packet)) = packets.pop_front() else {
                self.waiting.remove(&epoch);
                return None;
            };
            match packet.payload {
                Payload::Nothing => {}
                Payload::Rows { .. } => return Some((index, packet)),
                Payload::Control(control) => {
                    for (id, promise) in control.promises {
                        self.inputs[index].merger.take(control.from, id, promise);
                    }
                }
            }
        }
    }

    /// Moves `watermarks` to the minimum over the inputs that have each, and those that follow from them; answers what
    /// moved.
    pub(crate) fn merge_into(&self, watermarks: &mut Watermarks) -> Vec<(WatermarkId, Promise)> {
        let ids: BTreeSet<WatermarkId> = self.inputs.iter().flat_map(|input| input.ids.iter().copied()).collect();
        let mut moved = Vec::new();
        for id in ids {
            let of_inputs =
                self.inputs.iter().filter(|input| input.ids.contains(&id)).map(|input| input.merger.merged.get(id));
            // None, an input that has promised nothing yet, is the least.
            if let Some(Some(least)) = of_inputs.min()
                && watermarks.advance(id, least)
            {
                moved.push((id, Promise::At(least)));
            }
        }
        let derived = (self.plan.watermarks.len()..self.plan.watermark_count()).map(|index| WatermarkId(index as u32));
        let before: Vec<_> = derived.map(|id| (id, watermarks.get(id))).collect();
        self.plan.derive_watermarks(watermarks);
        let after = before.into_iter().filter(|(id, before)| watermarks.get(*id) != *before);
        moved.extend(after.filter_map(|(id, _)| Some((id, Promise::At(watermarks.get(id)?)))));
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merger(upstreams: usize) -> Merger {
        Merger { upstreams, promises: BTreeMap::new(), merged: Watermarks::none(1) }
    }

    #[test]
    fn the_least_of_all_workers_that_have_partitions() {
        let id = WatermarkId(0);
        let mut merger = merger(3);
        merger.take(0, id, Promise::At(10));
        merger.take(1, id, Promise::At(5));
        assert_eq!(merger.merged.get(id), None, "one worker has not spoken");
        merger.take(2, id, Promise::NoneHere);
        assert_eq!(merger.merged.get(id), Some(5));
        merger.take(1, id, Promise::At(20));
        assert_eq!(merger.merged.get(id), Some(10));
        merger.take(2, id, Promise::At(3));
        assert_eq!(merger.merged.get(id), Some(10), "a rebalance to a worker that lags takes nothing back");
        merger.take(2, id, Promise::Hold);
        merger.take(0, id, Promise::At(30));
        assert_eq!(merger.merged.get(id), Some(10), "a new partition holds it where it is");
        merger.take(0, id, Promise::NoneHere);
        merger.take(1, id, Promise::NoneHere);
        merger.take(2, id, Promise::NoneHere);
        assert_eq!(merger.merged.get(id), Some(10));
        merger.take(1, id, Promise::Resting(30));
        assert_eq!(merger.merged.get(id), Some(30), "the whole stream rests");
        merger.take(0, id, Promise::At(35));
        merger.take(2, id, Promise::Resting(50));
        assert_eq!(merger.merged.get(id), Some(35), "one worker reads");
    }
}
