//! Each check fails on the starting file of its exercise, and passes on a solution.

#[path = "../solutions/part_1.rs"]
mod solved_1;
#[path = "../solutions/part_2.rs"]
mod solved_2;
#[path = "../solutions/part_3.rs"]
mod solved_3;
#[path = "../solutions/part_4.rs"]
mod solved_4;
#[path = "../solutions/part_5.rs"]
mod solved_5;
#[path = "../solutions/part_6.rs"]
mod solved_6;
#[path = "../solutions/part_7.rs"]
mod solved_7;

use exercises::checks::{self, Verdict};
use exercises::{part_1, part_2, part_3, part_4, part_5, part_6, part_7};

/// Fails unless the check fails on the start, in words that contain `why`, and passes on the solution.
fn holds(start: Verdict, why: &str, solution: Verdict) {
    solution.unwrap_or_else(|reason| panic!("the solution is refused: {reason}"));
    let reason =
        start.expect_err("the starting file passes; `git restore examples/exercises/src` gives it back");
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn part_1() {
    let (start, solution) = (part_1::shadow_entry, solved_1::shadow_entry);
    holds(checks::part_1(start), "of the guest's own", checks::part_1(solution));
}

#[test]
fn part_1_wants_the_dirty_bit() {
    let without = |found: &_, error| {
        let found: &framework::walk::WalkResult = found;
        found.allows(error).then(|| found.after_access(error))
    };
    assert!(checks::part_1(without).unwrap_err().contains("is dirty by then"));
}

#[test]
fn part_2() {
    let (start, solution) = (part_2::stack_pages, solved_2::stack_pages);
    holds(checks::part_2(start), "pushes to 0xc00fffff", checks::part_2(solution));
}

#[test]
fn part_3() {
    let (start, solution) = (part_3::slots_with_the_entry, solved_3::slots_with_the_entry);
    holds(checks::part_3(start), "still has the old entry", checks::part_3(solution));
    let everything: fn(_, _, _, &[Option<_>]) -> Vec<usize> = |_, _, _, slots| (0..slots.len()).collect();
    assert!(checks::part_3(everything).unwrap_err().contains("or a right one"));
}

#[test]
fn part_4() {
    let (start, solution) = (part_4::SecondChance::new, solved_4::SecondChance::new);
    holds(checks::part_4(start), "worked by hand", checks::part_4(solution));
}

#[test]
fn part_5() {
    holds(checks::part_5(part_5::STRATEGY), "at most a tenth", checks::part_5(solved_5::STRATEGY));
    assert!(checks::part_5("nosuch").is_err());
}

#[test]
fn part_6() {
    let (start, solution) = (part_6::reaches_the_window, solved_6::reaches_the_window);
    holds(checks::part_6(start), "the window at", checks::part_6(solution));
}

#[test]
fn part_7() {
    holds(checks::part_7(part_7::tear_down), "are left of the guest", checks::part_7(solved_7::tear_down));
}
