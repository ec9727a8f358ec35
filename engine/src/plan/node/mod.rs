//! Logical nodes of our own, which DataFusion's rules pass by: windows, sessions, INTERSECT and EXCEPT. (That of as-of joins
//! stands with them: [`super::asof`].)

pub(super) mod session;
pub(super) mod set;
pub(super) mod window;
