//! Part 5, flushing: what a flush costs.

/// A strategy with its parameters, as in `lru:slots=8`.
///
/// The hole: after each flush, this one has a fault for every page that the guest goes on to use. Find one that has hardly any,
/// and whose first touches are as many faults as `lguest`'s: it fills what was flushed, and no neighbours of what is missed.
pub const STRATEGY: &str = "lguest";
