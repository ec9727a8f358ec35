//! Rondel through its doors.
