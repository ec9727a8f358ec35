//! Schemas that are kept elsewhere: web servers, buckets, Stencil, registries with Confluent's API.
//!
//! * [`http`]: how they are asked, and for how long
//! * [`fetch`]: one file by its URL
//! * [`stencil`]: Raystack's Stencil, by its HTTP API
//! * [`confluent`]: subjects, versions and ids
//! * `references`: schemas that refer to others, as one text
//! * [`ids`]: schemas by the id that a record carries, fetched while records wait

pub mod confluent;
pub mod fetch;
pub mod http;
pub mod ids;
mod references;
pub mod stencil;
