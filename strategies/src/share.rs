//! Parts of a cache that are in proportion to its slots, as several policies have them.

/// So many percent of the slots, at least one.
pub const fn at_least_one(slots: usize, percent: usize) -> usize {
    let share = slots * percent / 100;
    if share == 0 { 1 } else { share }
}
