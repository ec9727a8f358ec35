//! Several views at the end of one and the same epoch.
//!
//! Views that are connected are stepped through the same epochs, but complete each at moments of their own. So all are read as
//! they are, and whoever is behind is followed until it has come to the epoch of the foremost.

use std::sync::Arc;
use std::time::Duration;

use crate::delta::EpochChanges;
use crate::error::{Error, Result};
use crate::time::Epoch;

use super::contents::{Contents, Image};
use super::subscription::Subscription;
use super::view::{View, ViewSnapshot};

/// See the [module](self). To be asked until it is reached, then taken.
pub struct CommonEpoch {
    epoch: Epoch,
    readings: Vec<Reading>,
}

struct Reading {
    view: Arc<View>,
    first: EpochChanges,
    later: Subscription,
}

impl CommonEpoch {
    /// Reads views, which must be connected, as they are.
    pub fn of(views: &[Arc<View>]) -> Result<Self> {
        let mut readings = Vec::with_capacity(views.len());
        for view in views {
            let mut later = view.subscribe(true)?;
            let first = later.next_within(Duration::ZERO);
            let first = first.ok_or_else(|| Error::internal(format!("view {} shows nothing", view.name())))??;
            readings.push(Reading { view: Arc::clone(view), first, later });
        }
        let epoch = readings.iter().map(|reading| reading.first.epoch).max().unwrap_or(0);
        Ok(Self { epoch, readings })
    }

    /// The views that have not come to the epoch yet, by their places: when there is none, it can be taken.
    pub fn behind(&self) -> Vec<usize> {
        let readings = self.readings.iter().enumerate();
        readings.filter(|(_, reading)| reading.view.frontier() < self.epoch).map(|(place, _)| place).collect()
    }

    /// The views at that epoch, in the order in which they were given.
    pub fn take(self) -> Result<Vec<ViewSnapshot>> {
        let epoch = self.epoch;
        let at = |reading: Reading| {
            let Reading { view, first, mut later } = reading;
            let mut contents = Contents::new(Arc::clone(view.schema()), view.is_changelog());
            let mut ahead = first.epoch < epoch;
            first.deltas.iter().try_for_each(|delta| contents.apply(delta))?;
            while ahead && let Some(changes) = later.next_within(Duration::ZERO) {
                let changes = changes?;
                ahead = changes.epoch < epoch;
                if changes.epoch <= epoch {
                    changes.deltas.iter().try_for_each(|delta| contents.apply(delta))?;
                }
            }
            let batches = Image::rows(&[contents.image(std::iter::empty())?])?;
            Ok(ViewSnapshot { epoch, batches })
        };
        self.readings.into_iter().map(at).collect()
    }
}
