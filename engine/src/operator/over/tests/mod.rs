mod checkpoints;
mod cost;
mod ends;
mod harness;
mod partition;
mod rows;
