//! What is at an address: the functions of the host's kernel, of the module, of the Switcher and of a guest.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use arch_i386::addr::PAGE_SIZE;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use rustc_demangle::demangle;
use xtask::flavour::Flavour;

/// The functions of one body of code, by their addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Functions {
    by_start: BTreeMap<u64, String>,
    end: u64,
}

impl Functions {
    /// From pairs of address and name; the last function ends at `end`. Of several names for an address the
    /// first in the alphabet counts, so that the answer does not depend on their order.
    pub fn new(names: impl IntoIterator<Item = (u64, String)>, end: u64) -> Functions {
        let mut by_start: BTreeMap<u64, String> = BTreeMap::new();
        for (address, name) in names {
            let known = by_start.entry(address).or_insert_with(|| name.clone());
            if name < *known {
                *known = name;
            }
        }
        Functions { by_start, end }
    }

    /// The functions of an ELF file's sections of code, at the addresses that it is linked to.
    pub fn of_elf(bytes: &[u8]) -> Result<Functions> {
        let file = object::File::parse(bytes).context("this is no object file")?;
        let code: Vec<Range<u64>> = file
            .sections()
            .filter(|section| section.kind() == SectionKind::Text)
            .map(|section| section.address()..section.address() + section.size())
            .collect();
        let is_code = |address: u64| code.iter().any(|range| range.contains(&address));
        let names = file
            .symbols()
            .filter(|symbol| {
                matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown)
            })
            .filter(|symbol| is_code(symbol.address()))
            .filter_map(|symbol| {
                Some((symbol.address(), plain(symbol.name().ok().filter(|n| !n.is_empty())?)))
            });
        let functions = Functions::new(names, code.iter().map(|range| range.end).max().unwrap_or(0));
        if functions.by_start.is_empty() {
            bail!("it has no symbols of functions: was it stripped?");
        }
        Ok(functions)
    }

    /// As [`Functions::of_elf`], of a file.
    pub fn of_elf_file(path: &Path) -> Result<Functions> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Functions::of_elf(&bytes).with_context(|| path.display().to_string())
    }

    /// The functions of a Linux by the `System.map` of its build.
    pub fn of_system_map(text: &str) -> Result<Functions> {
        let names: Vec<_> =
            text.lines().filter_map(symbol).map(|(at, name, _)| (at, name.to_owned())).collect();
        let Some(end) = names.iter().map(|&(address, _)| address).max() else {
            bail!("it names no function");
        };
        Ok(Functions::new(names, end))
    }

    /// The name of the function that `address` lies in.
    pub fn at(&self, address: u64) -> Option<&str> {
        let (_, name) = self.by_start.range(..=address).next_back().filter(|_| address < self.end)?;
        Some(name)
    }
}

/// What a running kernel reports of itself and its modules in `/proc/kallsyms`.
#[derive(Debug, PartialEq, Eq)]
pub struct Kallsyms {
    /// The kernel.
    pub kernel: Functions,
    /// The module `lg`.
    pub module: Functions,
}

impl Kallsyms {
    /// Parses its lines; those of data and of other modules are passed over.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Kallsyms> {
        let (mut kernel, mut module) = (Vec::new(), Vec::new());
        for (address, name, whose) in lines.into_iter().filter_map(symbol) {
            match whose {
                None => kernel.push((address, name.to_owned())),
                Some("[lg]") => module.push((address, plain(name))),
                Some(_) => {}
            }
        }
        if module.is_empty() || kernel.iter().all(|(address, _)| *address == 0) {
            bail!("/proc/kallsyms tells no addresses of the kernel and of the module `lg`");
        }
        // No symbol marks where the module's code ends; its last function is not longer than a page.
        let end = module.iter().map(|(address, _)| address + 0x1000).max().unwrap_or(0);
        let kernel_end = kernel.iter().map(|(address, _)| *address).max().unwrap_or(0);
        let (kernel, module) = (Functions::new(kernel, kernel_end), Functions::new(module, end));
        Ok(Kallsyms { kernel, module })
    }

    /// The Switcher on such a kernel, whose code runs as a copy at `base`. The module has one for each format of tables.
    pub fn switcher(&self, flavour: Flavour, base: u64) -> Result<Functions> {
        let format = match flavour {
            Flavour::Plain => "two_level",
            Flavour::Pae => "pae",
        };
        let name = format!("lguest_switcher_{format}_start");
        let found = self.module.by_start.iter().find(|(_, known)| **known == name);
        let start = found.map(|(&address, _)| address);
        let start = start.with_context(|| format!("the module has no symbol `{name}`"))?;
        let end = start + u64::from(PAGE_SIZE);
        let original = self.module.by_start.range(start..end);
        let names = original.map(|(address, name)| (address - start + base, name.clone()));
        Ok(Functions::new(names, end - start + base))
    }
}

/// Address and name of a function in a line as `nm` writes it, and the module that it is of; none for data.
fn symbol(line: &str) -> Option<(u64, &str, Option<&str>)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    matches!(words.next()?, "t" | "T" | "w" | "W").then_some(())?;
    Some((address, words.next()?, words.next()))
}

/// A symbol's name as one would write it in the source: Rust's are decoded, and the modules that types are in are
/// left out.
fn plain(name: &str) -> String {
    let full = format!("{:#}", demangle(name));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut short = String::new();
    let mut rest = full.as_str();
    while !rest.is_empty() {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(word);
        let path = tail.strip_prefix("::").filter(|tail| leads_to_type(tail));
        match path.filter(|_| head.starts_with(char::is_lowercase)) {
            Some(tail) => rest = tail,
            None => {
                let separator = tail.chars().take_while(|&c| !is_word(c)).map(char::len_utf8).sum();
                short.push_str(head);
                short.push_str(&tail[..separator]);
                rest = &tail[separator..];
            }
        }
    }
    short
}

/// Whether a path ends in a type, as `table::TablePage` does.
fn leads_to_type(path: &str) -> bool {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
    path[..end].split("::").any(|word| word.starts_with(char::is_uppercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "c1000000 T _stext\nc1000100 t do_it\nc1000100 T alias_of_it\nc1234000 D a_variable\n\
        c1002000 T _etext\nf8a00000 t lguest_switcher_pae_start\t[lg]\nf8a00880 t lguest_switcher_pae_enter\t[lg]\n\
        f8a01200 t _RNvMs_NtCseTzE6wGw6vs_8switcher5stateNtB4_9SlotPages10initialise\t[lg]\n\
        f8b00000 t other\t[tun]";

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let all = Kallsyms::parse(LINES.lines()).unwrap();
        assert_eq!(all.kernel.at(0xc100_0000), Some("_stext"));
        assert_eq!(all.kernel.at(0xc100_00ff), Some("_stext"));
        assert_eq!(all.kernel.at(0xc100_0fff), Some("alias_of_it"), "the first in the alphabet");
        assert_eq!(all.kernel.at(0xc0ff_ffff), None);
        assert_eq!(all.kernel.at(0xc100_2000), None, "behind the last");
        assert_eq!(all.module.at(0xf8a0_1234), Some("<SlotPages>::initialise"));
        assert_eq!(all.module.at(0xf8b0_0000), None, "another module's");
    }

    #[test]
    fn the_switchers_copy_has_the_names_of_the_original() {
        let all = Kallsyms::parse(LINES.lines()).unwrap();
        let switcher = all.switcher(Flavour::Pae, 0xffc0_0000).unwrap();
        assert_eq!(switcher.at(0xffc0_0010), Some("lguest_switcher_pae_start"));
        assert_eq!(switcher.at(0xffc0_0fff), Some("lguest_switcher_pae_enter"));
        assert!(all.switcher(Flavour::Plain, 0xffc0_0000).is_err());
        assert_eq!(switcher.at(0xffc0_1000), None);
    }

    #[test]
    fn a_system_map_names_functions_and_no_data() {
        let functions = Functions::of_system_map(
            "c1000000 T _stext\nc1000100 t do_it\nc1000180 D a_variable\nc1000200 T _etext\n",
        );
        let functions = functions.unwrap();
        assert_eq!(functions.at(0xc100_01ff), Some("do_it"));
        assert_eq!(functions.at(0xc100_0200), None, "behind the last");
        assert!(Functions::of_system_map("c1000180 D a_variable").is_err());
    }

    #[test]
    fn addresses_that_the_kernel_keeps_to_itself_are_an_error() {
        let hidden = "00000000 T _stext\n00000000 t lguest_switcher_pae_start\t[lg]";
        assert!(Kallsyms::parse(hidden.lines()).is_err());
        assert!(Kallsyms::parse("c1000000 T _stext".lines()).is_err(), "the module is not loaded");
    }

    #[test]
    fn types_go_without_their_modules() {
        let pager = "<framework::cache::ShadowCache<arch_i386::paging::Pae, arch_i386::paging::Pae> as \
            framework::strategy::PagingStrategy>::set_pmd";
        assert_eq!(plain(pager), "<ShadowCache<Pae, Pae> as PagingStrategy>::set_pmd");
        assert_eq!(plain("mini_guest::traps::handle"), "mini_guest::traps::handle");
        assert_eq!(plain("__x86_indirect_thunk_array"), "__x86_indirect_thunk_array");
    }

    #[test]
    fn this_program_finds_itself_in_its_own_file() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let functions = Functions::of_elf(&file).unwrap();
        let (&start, name) = functions.by_start.iter().find(|(_, name)| name.contains("of_elf")).unwrap();
        assert_eq!(functions.at(start + 1), Some(name.as_str()));
        assert!(Functions::of_elf(b"not an object").is_err());
    }
}
