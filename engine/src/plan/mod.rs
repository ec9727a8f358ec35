//! From SQL to the flow plan.

pub mod flow;
