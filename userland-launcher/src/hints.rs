//! What the user should know of a kernel that does not state what it needs: before the start, and when it has failed.
//!
//! The guests of Linux 2.6.23 to 4.0 look for their devices behind the last page of memory that they use themselves, and
//! state no page format once their symbols are gone. A kernel with the note of `lguest` (see [`crate::paging`]) states its
//! format, and finds its devices behind whatever memory it was given.

use crate::boot_params::words;
use crate::memory_size::MemorySize;
use arch_i386::paging::Paging;
use thiserror::Error;

/// The most memory that a Linux guest uses without `CONFIG_HIGHMEM`: what is left of 1 GiB by the kernel's own mappings and
/// lguest's.
pub const LOW_MEMORY: u32 = 871 << 20;

/// What may keep a guest from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Warning {
    /// It may not use all of its memory.
    #[error(
        "with {0} of memory this guest finds its devices only if its kernel has CONFIG_HIGHMEM; without, give it at most \
         --memory {max}M",
        max = LOW_MEMORY >> 20
    )]
    HighMemory(MemorySize),
    /// It does not use all of its memory.
    #[error(
        "with `mem=` on its command line this guest does not find its devices; give --memory less instead"
    )]
    LessMemory,
}

/// How the host's reasons begin when a kernel's first page tables are of the other format: it cannot read its own memory
/// through them, or they hold what no table of this format may.
const OF_OTHER_FORMAT: [&str; 4] = [
    "unhandled trap 14 ",
    "bad page-directory entry ",
    "bad page-middle-directory entry ",
    "bad page-table entry ",
];

/// What is to be said before the start of a guest with so much memory and this command line, whose kernel has no note.
#[must_use]
pub fn before_start(memory: MemorySize, command_line: &str, has_high_memory: bool) -> Vec<Warning> {
    let high = memory.bytes() > LOW_MEMORY && !has_high_memory;
    let less = words(command_line).any(|word| word.starts_with("mem="));
    let warnings = [high.then_some(Warning::HighMemory(memory)), less.then_some(Warning::LessMemory)];
    warnings.into_iter().flatten().collect()
}

/// The host's reason for a guest's early death, with what to try if the guest, whose kernel states no page format, was
/// run with page tables of this one.
#[must_use]
pub fn of_early_death(reason: &str, paging: Paging) -> Option<String> {
    let other = match paging {
        Paging::TwoLevel => "pae",
        Paging::Pae => "2-level",
    };
    OF_OTHER_FORMAT.iter().any(|begin| reason.starts_with(begin)).then(|| {
        format!(
            "{}; its kernel does not state its page format, and was given {paging} page tables: try --paging {other}",
            reason.trim_end()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_low_memory_needs_highmem() {
        let before = |memory: &str, high| before_start(memory.parse().unwrap(), "console=hvc0", high);
        assert_eq!(before("871M", false), []);
        let warnings = before("872M", false);
        assert_eq!(warnings, [Warning::HighMemory("872M".parse().unwrap())]);
        assert!(warnings[0].to_string().contains("--memory 871M"), "{}", warnings[0]);
        assert_eq!(before("872M", true), []);
    }

    #[test]
    fn only_a_word_of_the_kernels_is_about_memory() {
        let before = |line| before_start("32M".parse().unwrap(), line, false);
        assert_eq!(before("quiet mem=16M"), [Warning::LessMemory]);
        assert_eq!(before("quiet xmem=16M -- mem=16M"), []);
    }

    #[test]
    fn only_faults_and_bad_tables_hint_at_the_page_format() {
        // As a stripped Linux 3.11 dies, one with PAE on a host with two levels and the other way round.
        let fault = "unhandled trap 14 at 0x123bb0c (0x123bb0c)";
        assert!(of_early_death(fault, Paging::TwoLevel).unwrap().ends_with("try --paging pae"));
        let table =
            "bad page-directory entry 0x12e4067012e3067: only the bits of a table and a frame within memory";
        assert!(of_early_death(table, Paging::Pae).unwrap().ends_with("try --paging 2-level"));
        assert_eq!(of_early_death("unhandled trap 13 at 0xc0100000 (0x0)", Paging::Pae), None);
        assert_eq!(of_early_death("bad page table: unhandled trap 14 ", Paging::Pae), None);
    }
}
