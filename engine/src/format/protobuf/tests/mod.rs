//! The decoder and the encoder against `prost_reflect::DynamicMessage`, an independent implementation.

mod columns;
mod conformance;
mod decode;
mod encode;
mod malformed;
mod source;
mod sql;
