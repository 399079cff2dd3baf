//! What is counted, for people and for benchmarks.

use core::fmt;

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: u64),* }

        impl $name {
            /// Names and values in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }

            /// What has been counted since `before`, an earlier state of the same counters.
            #[must_use]
            pub const fn since(&self, before: &Self) -> Self {
                Self { $($field: self.$field - before.$field),* }
            }
        }

        impl fmt::Display for $name {
            /// A `name value` pair a line.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
            }
        }
    };
}

counters! {
    /// What the pager did.
    PagingCounters {
        /// NEW_PGTABLE requests.
        page_directory_loads,
        /// Those whose page directory was shadowed already.
        page_directory_hits,
        /// Page faults that filled a shadow entry; the guest got no trap.
        demand_faults,
        /// Page faults that were the guest's own, with those that the Switcher reflected.
        reflected_faults,
        /// SET_PTE requests.
        set_pte,
        /// SET_PGD requests.
        set_pgd,
        /// SET_PMD requests.
        set_pmd,
        /// Requests to flush the user half.
        flush_user,
        /// Times that everything was dropped.
        flush_all,
        /// Shadow entries filled before the guest missed them.
        filled_ahead,
        /// Shadow page directories evicted.
        evictions,
        /// Times that tables were given back since there was no memory for a request.
        shrinks,
        /// Shadow entries released.
        released_entries,
        /// Shadow entries looked at to release those that tables held when they were given up.
        visited_entries,
        /// Audits done.
        audits,
        /// Defects that they found.
        audit_defects,
        /// Shadow entries that they found older than the guest's tables, as they may be.
        stale_entries,
        /// Times that a policy named a slot which does not exist.
        policy_errors,
    }
}

counters! {
    /// What the run loop did.
    RunCounters {
        /// Entries into the guest; each is two world switches' worth of work.
        world_switches,
        /// Hypercalls made by `int $0x1f`.
        hypercalls,
        /// Hypercalls taken from the ring.
        ring_hypercalls,
        /// Virtual interrupts delivered.
        interrupts,
        /// Traps other than page faults that were reflected to the guest.
        reflected_traps,
        /// Page faults that the Switcher reflected by itself, as far as the guest has not forged their number.
        switcher_reflections,
        /// Demand faults that the Switcher fixed by itself.
        switcher_fills,
        /// Hypercalls of both kinds that the Switcher did by itself.
        switcher_hypercalls,
        /// Instructions emulated after a general-protection fault.
        emulated_instructions,
        /// Instructions that the launcher was to emulate: accesses to device memory and PCI's ports.
        launcher_emulations,
        /// Real interrupts (NMIs included) that ended a run.
        host_interrupts,
        /// Shadow entries that the host dropped since their frames had gone.
        dropped_entries,
    }
}

counters! {
    /// What the host has to do with the guest's pages; of its own accord, so that these do not repeat from run to run.
    FrameCounters {
        /// Pages whose frames are known now.
        frames_known,
        /// Times that a frame that was known has gone.
        frames_gone,
        /// Times that a frame went while it was looked for.
        frames_retried,
    }
}
