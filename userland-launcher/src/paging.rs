//! The format of a guest's page tables, and who decides on it.
//!
//! A host serves guests with its own format, and a PAE host also those with two levels. The guest must
//! know its format before its first page table and the host before its first instruction, so the launcher
//! passes it to both. The first of these that has an opinion decides:
//!
//! 1. the option `--paging`;
//! 2. the word `lguest.paging=2` or `=3` on the guest's command line;
//! 3. the kernel's file: an ELF note of the name [`NOTE_NAME`] and type [`NOTE_PAGING`], or what a Linux
//!    kernel's symbol table gives away;
//! 4. the host's own format.

use arch_i386::launcher::{NOTE_NAME, NOTE_PAGING, NOTE_PAGING_2_LEVEL, NOTE_PAGING_PAE};
use arch_i386::paging::Paging;
use clap::ValueEnum;
use object::LittleEndian;
use object::elf::{FileHeader32, SHT_SYMTAB};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use std::fs::File;
use std::path::PathBuf;

/// What the user may request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RequestedFormat {
    /// What command line, kernel and host specify
    #[default]
    Auto,
    /// Two levels, 4-byte entries
    #[value(name = "2-level")]
    TwoLevel,
    /// Three levels, 8-byte entries
    Pae,
}

impl RequestedFormat {
    const fn paging(self) -> Option<Paging> {
        match self {
            Self::Auto => None,
            Self::TwoLevel => Some(Paging::TwoLevel),
            Self::Pae => Some(Paging::Pae),
        }
    }
}

/// Where the module reports its page format, as [`Paging`] displays it.
#[must_use]
pub fn host_parameter() -> PathBuf {
    PathBuf::from("/sys/module/lg/parameters/paging")
}

/// The format that a text of [`host_parameter`] names.
#[must_use]
pub fn of_host(parameter: &str) -> Option<Paging> {
    [Paging::TwoLevel, Paging::Pae].into_iter().find(|paging| paging.to_string() == parameter.trim())
}

/// The word of the command line that passes a guest its format starts like this; the levels follow.
const WORD: &str = "lguest.paging=";

/// A command line with the word for this format, and with no other. It comes first, as what follows a word `--` is
/// for the guest's first process and no longer for its kernel.
#[must_use]
pub fn with_word(line: &str, paging: Paging) -> String {
    if of_command_line(line) == Some(paging) {
        return line.to_owned();
    }
    let told = format!("{WORD}{}", paging.levels());
    let others = line.split_ascii_whitespace().filter(|word| !word.starts_with(WORD));
    [told.as_str()].into_iter().chain(others).collect::<Vec<_>>().join(" ")
}

/// The format that a command line requests, if it has the word.
#[must_use]
pub fn of_command_line(line: &str) -> Option<Paging> {
    let levels = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(WORD))?;
    Paging::from_levels(levels.parse().ok()?)
}

/// The guest's format, if anybody has an opinion on it. `kernel` is [`of_kernel`]'s.
#[must_use]
pub fn decide(
    requested: RequestedFormat,
    command_line: &str,
    kernel: Option<Paging>,
    host: Option<Paging>,
) -> Option<Paging> {
    requested.paging().or_else(|| of_command_line(command_line)).or(kernel).or(host)
}

/// Whether a kernel's file has the note.
#[must_use]
pub fn is_noted(header: &FileHeader32<LittleEndian>, file: &ReadCache<&File>) -> bool {
    noted(header, file).is_some()
}

/// Whether the symbols of a Linux kernel, if it has any, show that it was built with `CONFIG_HIGHMEM` (Linux, `mm/highmem.c`).
#[must_use]
pub fn has_high_memory(header: &FileHeader32<LittleEndian>, file: &ReadCache<&File>) -> bool {
    has_symbol(header, file, b"kmap_high") == Some(true)
}

/// The one format that a kernel's file declares; `None` when it declares both or none.
#[must_use]
pub fn of_kernel(header: &FileHeader32<LittleEndian>, file: &ReadCache<&File>) -> Option<Paging> {
    match noted(header, file) {
        Some(NOTE_PAGING_2_LEVEL) => Some(Paging::TwoLevel),
        Some(NOTE_PAGING_PAE) => Some(Paging::Pae),
        Some(_) => None,
        None => of_linux(header, file),
    }
}

/// The formats that the kernel's note has, if there is one. What cannot be read counts as none.
fn noted(header: &FileHeader32<LittleEndian>, file: &ReadCache<&File>) -> Option<u32> {
    for program in header.program_headers(LittleEndian, file).ok()? {
        let Ok(Some(mut notes)) = program.notes(LittleEndian, file) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == NOTE_NAME.as_bytes() && note.n_type(LittleEndian).0 == NOTE_PAGING {
                return note.desc().first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
            }
        }
    }
    None
}

/// What the symbols of a Linux kernel give away. Its first page tables have a middle level, by this name,
/// when it was built with `CONFIG_X86_PAE` (Linux, `arch/x86/kernel/head_32.S`).
fn of_linux(header: &FileHeader32<LittleEndian>, file: &ReadCache<&File>) -> Option<Paging> {
    if has_symbol(header, file, b"initial_pg_pmd")? {
        Some(Paging::Pae)
    } else {
        has_symbol(header, file, b"initial_page_table")?.then_some(Paging::TwoLevel)
    }
}

/// Whether a kernel has this symbol; `None` if its symbols cannot be read.
fn has_symbol(header: &FileHeader32<LittleEndian>, file: &ReadCache<&File>, wanted: &[u8]) -> Option<bool> {
    let symbols = header.sections(LittleEndian, file).ok()?.symbols(LittleEndian, file, SHT_SYMTAB).ok()?;
    Some(symbols.iter().any(|symbol| symbol.name(LittleEndian, symbols.strings()) == Ok(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_told_and_understood() {
        for paging in [Paging::TwoLevel, Paging::Pae] {
            assert_eq!(of_host(&format!("{paging}\n")), Some(paging));
            assert_eq!(of_command_line(&with_word("quiet", paging)), Some(paging));
        }
        assert_eq!(with_word("a lguest.paging=2 b", Paging::Pae), "lguest.paging=3 a b");
        assert_eq!(of_host("something new\n"), None);
        assert_eq!(of_command_line("quiet lguest.paging=4"), None);
        assert_eq!(of_command_line("xlguest.paging=3"), None);
    }

    #[test]
    fn the_first_opinion_counts() {
        use Paging::{Pae, TwoLevel};
        let all = |requested, line, kernel| decide(requested, line, kernel, Some(Pae));
        assert_eq!(all(RequestedFormat::Pae, "lguest.paging=2", Some(TwoLevel)), Some(Pae));
        assert_eq!(all(RequestedFormat::TwoLevel, "lguest.paging=3", Some(Pae)), Some(TwoLevel));
        assert_eq!(all(RequestedFormat::Auto, "lguest.paging=2", Some(Pae)), Some(TwoLevel));
        assert_eq!(all(RequestedFormat::Auto, "quiet", Some(TwoLevel)), Some(TwoLevel));
        assert_eq!(all(RequestedFormat::Auto, "quiet", None), Some(Pae));
        assert_eq!(decide(RequestedFormat::Auto, "", None, None), None);
    }
}
