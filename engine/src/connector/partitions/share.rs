//! What one worker's reader knows of the partitions that were dealt.

use std::sync::Arc;

use super::{Partition, Partitions, UNKNOWN};
use crate::connector::PartitionState;

/// See the [module](self).
#[derive(Default)]
pub(in crate::connector) struct Share {
    pub(in crate::connector) version: u64,
    /// This worker's, by number.
    pub(in crate::connector) mine: Vec<Arc<Partition>>,
    /// Those that it will have when they are found.
    awaited: Vec<Arc<Partition>>,
}

impl Share {
    /// Looks whether something was dealt since the last time.
    pub(in crate::connector) fn refresh(&mut self, worker: usize, partitions: &Partitions) {
        let version = partitions.version();
        if version != self.version {
            // First what is awaited: what is dealt in between is then here twice, and not missing.
            self.awaited = partitions.awaited(worker);
            self.mine = partitions.all();
            self.mine.retain(|partition| partitions.worker_of(partition.number) == worker);
            self.version = version;
        }
    }

    /// What holds this worker's watermark: what it reads, and what it is going to read.
    pub(in crate::connector) fn states(&self) -> Vec<PartitionState> {
        if self.version == 0 {
            return vec![UNKNOWN];
        }
        let all = self.mine.iter().chain(&self.awaited);
        all.map(|partition| PartitionState { partition: partition.number, idle: partition.idle() }).collect()
    }
}
