//! Jobs: one running continuous query each, with a desired state and a current state.

mod live;
mod refresher;
mod rounds;
mod start;
mod status;
mod supervisor;

pub(crate) use live::{Live, LiveObjects};
pub(crate) use refresher::refresh_streams;
pub(crate) use rounds::Rounds;
pub(crate) use start::{Origin, SinkReporter, open_for_late_rows, start};
pub use status::{JobState, JobStatus, JobView};
pub(crate) use supervisor::supervise;
