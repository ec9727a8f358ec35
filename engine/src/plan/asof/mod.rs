//! As-of joins and temporal joins.
//!
//! Both are one node: each left row with the nearest right row of its key. A temporal join, `JOIN r FOR SYSTEM_TIME AS OF
//! l.time`, is the as-of join `l.time >= r.time` on the time column of `r`, whose rows are shown when they are final.
//!
//! Such a join has been put into parentheses ([`super::from::nest`]), so that it is one relation that [`relation`] plans.

mod node;
mod pair;
mod push;
mod relation;
mod version;

pub use node::AsOfNode;
pub(super) use pair::compared;
pub(super) use push::PushFiltersBelowAsOf;
pub(super) use relation::{AsOfJoins, is_as_of};
