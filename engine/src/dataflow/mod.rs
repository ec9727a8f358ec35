//! Operators on timely workers: the only place that knows timely and spawns worker threads.
