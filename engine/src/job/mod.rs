//! Jobs: one running continuous query each, with a desired state and a current state.

mod status;

pub use status::{JobState, JobStatus, JobView};
