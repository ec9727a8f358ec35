//! The patterns of `to_char`, `to_timestamp`, `to_date` and `to_number`.
//!
//! * `words`: a pattern taken apart
//! * `time`: times written and read
//! * `number`: numbers written and read

mod number;
mod time;
mod words;

pub(crate) use number::{read_number, write_number};
pub(crate) use time::{read_time, write_interval, write_time};
