//! What a reader of the numbers has to know, on the standard error output.

use sim::replay::Report;

/// Prints what is wrong with a replay although it came to its end.
pub fn print(report: &Report) {
    if let Some(notice) = policy_errors(report) {
        eprintln!("replay: {notice}");
    }
}

/// A policy that named slots which do not exist: its numbers are those of another one.
fn policy_errors(report: &Report) -> Option<String> {
    let errors = report.counters.policy_errors;
    let strategy = &report.strategy;
    (errors > 0).then(|| {
        format!(
            "the policy of {strategy} named a slot that does not exist {errors} times (`policy_errors`); the one after the \
             current slot was evicted instead"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Settings, compare, competitors};
    use arch_i386::addr::GuestPhys;
    use framework::policy::EvictionPolicy;
    use framework::registry::{POLICIES, PolicyEntry};
    use sim::input::Input;
    use sim::keys::ReadForm;
    use std::convert::Infallible;

    struct Outside(usize);

    impl EvictionPolicy for Outside {
        fn filled(&mut self, _: usize, _: GuestPhys) {}
        fn used(&mut self, _: usize, _: GuestPhys) {}
        fn victim(&mut self, _: GuestPhys) -> usize {
            self.0
        }
    }

    #[linkme::distributed_slice(POLICIES)]
    static OUTSIDE: PolicyEntry = PolicyEntry {
        name: "test-outside-in-replay",
        help: "wrong on purpose",
        parameters: &[],
        build: |config| Ok(Box::new(Outside(config.slots))),
    };

    /// The first key takes over the slot that the guest began on, and the second one the other. The other three ask for a victim.
    #[test]
    fn slots_that_do_not_exist_are_reported_with_their_number() {
        let strategies = ["test-outside-in-replay".to_owned(), "lru".to_owned()];
        let all = competitors(&strategies, &[2]).unwrap();
        let open =
            || Ok::<_, Infallible>(Input::new(&b"1\n2\n3\n4\n5\n"[..], Some(&ReadForm::List)).unwrap());
        let rows = compare(&all, Settings::default(), open).unwrap().rows;
        let notice = |row: usize| policy_errors(rows[row].outcome.as_ref().unwrap());
        let outside = notice(0).unwrap();
        assert!(outside.contains("test-outside-in-replay:slots=2 named a slot"), "{outside}");
        assert!(outside.contains(" 3 times"), "{outside}");
        assert_eq!(notice(1), None);
    }
}
