mod semantics;
mod simulation;
