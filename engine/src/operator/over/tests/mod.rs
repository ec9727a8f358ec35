mod cost;
mod harness;
mod partition;
mod rows;
