//! Names and what they stand for, kept on disk.
