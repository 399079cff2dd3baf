//! Part 5, solved.

/// A strategy with its parameters.
pub const STRATEGY: &str = "shared:fault-around=0,prefetch-on-trial=off";
