//! Aggregates called directly, compared with DataFusion's batch answer.

mod changelog;
mod checkpoints;
mod harness;
mod late;
mod panes;
mod running;
mod speed;
mod spilling;
mod windowed;
