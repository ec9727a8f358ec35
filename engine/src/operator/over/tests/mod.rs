mod checkpoints;
mod cost;
mod ends;
mod harness;
mod matches;
mod partition;
mod rows;
