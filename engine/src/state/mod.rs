//! What operators remember, and how it is split over workers.

pub mod ages;
pub(crate) mod alone;
pub mod key_group;
pub mod marks;
pub mod row_numbers;
pub mod slots;
pub mod spill;
