//! Empty: the package holds integration tests only.
