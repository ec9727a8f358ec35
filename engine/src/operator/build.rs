//! From a node of the flow plan to the operator that runs it.

/// Which part of a node's work an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// All of it.
    Whole,
    /// The disposable half before the exchange.
    Local,
    /// The keyed half after the exchange, which takes what the local halves emit.
    Final,
}
