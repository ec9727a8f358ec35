//! What the integration tests share: real components started and stopped, clients driven.
