//! The image audit: proof by disassembly that a guest kernel holds no instruction that a guest cannot execute,
//! outside the symbols that [`super::manifest`] allows with a reason.
//!
//! A guest's kernel runs in ring 1. Privileged instructions fault there (Intel's manual, volume 3, "Privileged
//! instructions") and end the guest; `popf`, `iret` and the instructions that store descriptor tables are worse,
//! as they do something else than in ring 0 without a word (volume 2, their own pages). The port replaces all
//! that Linux executes; this audit finds what was forgotten, or came with a configuration that nobody thought of.
//!
//! Every executable section is decoded from symbol to symbol, and so is every replacement in
//! `.altinstr_replacement`, which Linux copies over its code at boot; a finding there is reported by the name of the
//! function that it is for.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use object::read::elf::{ElfFile32, ElfSection32};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind, elf};

use super::manifest::Allowed;

/// Code that Linux patches over other code, and the table that lists where.
const REPLACEMENTS: &str = ".altinstr_replacement";
const ALTERNATIVES: &str = ".altinstructions";

/// A sensitive instruction in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The symbol that it belongs to.
    pub symbol: String,
    /// Its distance from the symbol, in bytes.
    pub offset: u32,
    /// Its mnemonic, in lower case; `mov cr` and `mov dr` for moves from and to such registers.
    pub instruction: String,
    /// Whether it is patched in over the code at this place.
    pub alternative: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}+{:#x}", self.instruction, self.symbol, self.offset)?;
        if self.alternative { write!(f, " (alternative)") } else { Ok(()) }
    }
}

/// What an audit has seen.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of instructions decoded.
    pub instructions: u64,
    /// Sensitive instructions in symbols that allow them.
    pub allowed: u64,
    /// All others.
    pub forbidden: Vec<Finding>,
}

impl Report {
    /// # Errors
    /// When something forbidden was found; the message lists it.
    pub fn passed(&self) -> Result<()> {
        if self.forbidden.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = self.forbidden.iter().map(|finding| format!("\n    {finding}")).collect();
        bail!(
            "the kernel holds {} instructions that a guest must not execute:{}\nReplace them in the port, or, \
             if they are never reached, allow the symbol in examples/linux-guest/replaced.toml and say why",
            list.len(),
            list.concat()
        )
    }
}

/// Audits a kernel or a module, an ELF file for i386 with its symbols.
///
/// # Errors
/// When `image` is no such file, or its alternatives cannot be understood.
pub fn audit(image: &[u8], allowed: &[Allowed]) -> Result<Report> {
    let file = ElfFile32::<Endianness>::parse(image).context("this is no 32-bit ELF file")?;
    let symbols = Symbols::of(&file)?;
    let mut report = Report::default();
    let mut judge = |finding: Finding| {
        if allowed.iter().any(|entry| entry.covers(&finding)) {
            report.allowed += 1;
        } else {
            report.forbidden.push(finding);
        }
    };
    let mut instructions = 0;
    for section in file.sections().filter(executable) {
        let name = section.name()?;
        if name == REPLACEMENTS {
            continue;
        }
        let (index, start) = (section.index().0, section.address() as u32);
        let code = section.data().with_context(|| format!("section {name}"))?;
        let end = start + code.len() as u32;
        let mut bounds = symbols.within(index, start..end);
        // What lies before the first symbol is decoded too.
        if bounds.first().is_none_or(|(address, _)| *address > start) {
            bounds.insert(0, (start, name));
        }
        for (number, (from, symbol)) in bounds.iter().enumerate() {
            let to = bounds.get(number + 1).map_or(end, |(next, _)| *next).min(end);
            let piece = code.get((from - start) as usize..(to - start) as usize).unwrap_or_default();
            instructions += decode(piece, *from, |at, instruction| {
                judge(Finding {
                    symbol: (*symbol).to_owned(),
                    offset: at - from,
                    instruction,
                    alternative: false,
                });
            });
        }
    }
    for patch in alternatives(&file)? {
        let (symbol, base) = symbols.owner(patch.section, patch.site).unwrap_or((REPLACEMENTS, patch.site));
        instructions += decode(patch.code, patch.site, |at, instruction| {
            judge(Finding { symbol: symbol.to_owned(), offset: at - base, instruction, alternative: true });
        });
    }
    report.instructions = instructions;
    ensure!(report.instructions > 0, "the image holds no code");
    report.forbidden.sort();
    Ok(report)
}

impl Allowed {
    fn covers(&self, finding: &Finding) -> bool {
        self.instructions.contains(&finding.instruction) && matches(&self.symbol, &finding.symbol)
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).filter_map(|at| tail.get(at..)).any(|tail| matches(rest, tail))
        }),
    }
}

/// Decodes `code`; calls `sensitive` with address and name of each sensitive instruction; returns how many
/// instructions there were.
fn decode(code: &[u8], address: u32, mut sensitive: impl FnMut(u32, String)) -> u64 {
    let mut decoder = Decoder::with_ip(32, code, u64::from(address), DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut count = 0;
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        count += 1;
        if let Some(name) = sensitive_name(&instruction) {
            sensitive(instruction.ip32(), name);
        }
    }
    count
}

/// The name of an instruction that does not do in ring 1 what it does in ring 0.
fn sensitive_name(instruction: &Instruction) -> Option<String> {
    let mnemonic = instruction.mnemonic();
    let silent = matches!(
        mnemonic,
        Mnemonic::Popf
            | Mnemonic::Popfd
            | Mnemonic::Iret
            | Mnemonic::Iretd
            | Mnemonic::Sgdt
            | Mnemonic::Sidt
            | Mnemonic::Sldt
            | Mnemonic::Smsw
            | Mnemonic::Str
    );
    if instruction.is_invalid() || !(silent || instruction.is_privileged()) {
        return None;
    }
    let registers = [instruction.op0_register(), instruction.op1_register()];
    if mnemonic == Mnemonic::Mov {
        return Some(if registers.iter().any(|r| r.is_cr()) { "mov cr" } else { "mov dr" }.to_owned());
    }
    let name = match mnemonic {
        Mnemonic::Popf | Mnemonic::Popfd => "popf",
        Mnemonic::Iret | Mnemonic::Iretd => "iret",
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => "in",
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => "out",
        other => return Some(format!("{other:?}").to_lowercase()),
    };
    Some(name.to_owned())
}

fn executable(section: &ElfSection32<'_, '_, Endianness>) -> bool {
    matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & elf::SHF_EXECINSTR.0 != 0)
}

/// The symbols of each section's code, in the order of their addresses.
struct Symbols<'a>(BTreeMap<(usize, u32), &'a str>);

impl<'a> Symbols<'a> {
    fn of(file: &ElfFile32<'a, Endianness>) -> Result<Symbols<'a>> {
        let mut all = BTreeMap::new();
        for symbol in file.symbols() {
            let (Some(section), Ok(name)) = (symbol.section_index(), symbol.name()) else { continue };
            // Assembler's labels are of no kind; those of data lie in other sections.
            if matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown | SymbolKind::Label)
                && !name.is_empty()
                && !name.starts_with(".L")
            {
                let place = (section.0, symbol.address() as u32);
                let first = *all.entry(place).or_insert(name);
                // Of several names for one place the plainest is the one that people know: `startup_32`, not `_text`.
                let plainness = |name: &str| (name.starts_with('_'), name.len());
                if plainness(name) < plainness(first) {
                    all.insert(place, name);
                }
            }
        }
        ensure!(!all.is_empty(), "the image has no symbols: audit it before it is stripped");
        Ok(Symbols(all))
    }

    /// Those at `addresses`; a linker script may give a section symbols that lie outside it.
    fn within(&self, section: usize, addresses: Range<u32>) -> Vec<(u32, &'a str)> {
        let range = (section, addresses.start)..(section, addresses.end);
        self.0.range(range).map(|((_, at), name)| (*at, *name)).collect()
    }

    /// The symbol that the code at `address` belongs to, and where it begins.
    fn owner(&self, section: usize, address: u32) -> Option<(&'a str, u32)> {
        let last = self.0.range((section, 0)..=(section, address)).next_back();
        last.map(|((_, at), name)| (*name, *at))
    }
}

/// Code that is to be copied over other code.
struct Patch<'a> {
    section: usize,
    site: u32,
    code: &'a [u8],
}

/// Takes the table of alternatives apart. An entry (`struct alt_instr` in Linux's `asm/alternative.h`) holds two
/// distances, to the site and to the replacement, what it depends on, and the lengths of both. What it depends
/// on took 2 bytes and takes 4 since Linux 6.3: the table itself shows which, as only one reading makes sense.
fn alternatives<'a>(file: &ElfFile32<'a, Endianness>) -> Result<Vec<Patch<'a>>> {
    let section = |name| file.section_by_name(name);
    let (Some(table), Some(replacements)) = (section(ALTERNATIVES), section(REPLACEMENTS)) else {
        return Ok(Vec::new());
    };
    if table.relocations().next().is_some() {
        return relocated_alternatives(file, &replacements);
    }
    let code: Vec<_> = file.sections().filter(executable).collect();
    let (entries, base) = (table.data()?, table.address() as u32);
    let source = (replacements.data()?, replacements.address() as u32);
    let read = |entry: &'a [u8], at: u32| -> Option<Patch<'a>> {
        let distance = |from: usize| {
            let bytes = entry.get(from..from + 4)?.try_into().ok()?;
            Some(at.wrapping_add(from as u32).wrapping_add(u32::from_le_bytes(bytes)))
        };
        let (site, replacement) = (distance(0)?, distance(4)?);
        let length = usize::from(*entry.last()?);
        let start = usize::try_from(replacement.checked_sub(source.1)?).ok()?;
        let section = code.iter().find(|section| {
            let start = section.address() as u32;
            (start..start + section.size() as u32).contains(&site)
        })?;
        Some(Patch { section: section.index().0, site, code: source.0.get(start..start + length)? })
    };
    for size in [12, 14] {
        let patches: Option<Vec<_>> = entries
            .chunks(size)
            .enumerate()
            .map(|(number, entry)| read(entry, base + (number * size) as u32))
            .collect();
        if let Some(patches) = patches.filter(|_| entries.len().is_multiple_of(size)) {
            return Ok(patches);
        }
    }
    bail!("{ALTERNATIVES} has entries of an unknown format: Linux has changed `struct alt_instr`")
}

/// In a module, whose distances the loader fills in, all replacements are taken as one piece of code.
fn relocated_alternatives<'a>(
    file: &ElfFile32<'a, Endianness>,
    replacements: &ElfSection32<'a, '_, Endianness>,
) -> Result<Vec<Patch<'a>>> {
    let section = file.section_by_name(REPLACEMENTS).map_or(0, |section| section.index().0);
    Ok(vec![Patch { section, site: 0, code: replacements.data()? }])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use xtask::process::output;

    fn allowed(symbol: &str, instructions: &[&str]) -> Allowed {
        let instructions = instructions.iter().map(|i| i.to_string()).collect();
        Allowed { symbol: symbol.into(), instructions, why: "a test".into() }
    }

    /// An image of this assembler code, linked as a kernel is.
    fn image(code: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (source, object, linked) =
            (folder.path().join("a.s"), folder.path().join("a.o"), folder.path().join("a"));
        fs::write(&source, code).unwrap();
        output(Command::new("as").arg("--32").arg("-o").arg(&object).arg(&source)).unwrap();
        output(
            Command::new("ld")
                .args(["-m", "elf_i386", "-Ttext=0xc1000000", "-e", "0"])
                .arg("-o")
                .arg(&linked)
                .arg(&object),
        )
        .unwrap();
        fs::read(&linked).unwrap()
    }

    fn told(code: &str, allowed: &[Allowed]) -> Vec<String> {
        audit(&image(code), allowed).unwrap().forbidden.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn clean_code_passes() {
        let code = "clean: push %ebp; pushf; mov %eax, %ds; int $0x1f; ret\n";
        let report = audit(&image(code), &[]).unwrap();
        assert_eq!(report.instructions, 5);
        report.passed().unwrap();
    }

    #[test]
    fn a_planted_cli_is_found_with_its_function() {
        let code = "before: nop; ret\nguilty: nop; cli; ret\nafter: ret\n";
        assert_eq!(told(code, &[]), ["cli at guilty+0x1"]);
        let error = audit(&image(code), &[]).unwrap().passed().unwrap_err().to_string();
        assert!(error.contains("cli at guilty+0x1"), "{error}");
    }

    #[test]
    fn every_kind_is_found() {
        let code = "f: sti; hlt; mov %cr3, %eax; mov %eax, %cr0; mov %dr7, %eax; invlpg (%eax); lgdt (%eax)\n\
            lidt (%eax); lldt %ax; ltr %ax; wbinvd; rdmsr; wrmsr; in $1, %al; outsb; iret; popf; clts; sgdt (%eax)\n";
        let mut found: Vec<_> = audit(&image(code), &[])
            .unwrap()
            .forbidden
            .into_iter()
            .map(|f| (f.offset, f.instruction))
            .collect();
        found.sort();
        let names: Vec<_> = found.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "sti", "hlt", "mov cr", "mov cr", "mov dr", "invlpg", "lgdt", "lidt", "lldt", "ltr",
                "wbinvd", "rdmsr", "wrmsr", "in", "out", "iret", "popf", "clts", "sgdt"
            ]
        );
    }

    #[test]
    fn other_sections_and_immediates() {
        let code = "f: mov $0xfafafafa, %eax; ret\n.section .init.text, \"ax\"\nset_up: cli\n\
            .data\n.byte 0xfa\n";
        assert_eq!(told(code, &[]), ["cli at set_up+0x0"], "data and constants are no code");
    }

    #[test]
    fn symbols_outside_their_section_do_no_harm() {
        let code = "f: cli; ret\nend: .set past, end + 0x100\n.global past\n.set before, f - 0x100\n.global before\n";
        assert_eq!(told(code, &[]), ["cli at f+0x0"]);
    }

    #[test]
    fn what_is_allowed_is_counted_and_nothing_else() {
        let code = "stop_this: cli; hlt; ret\nstop_that: hlt\n";
        let list = [allowed("stop_*", &["hlt"])];
        let report = audit(&image(code), &list).unwrap();
        assert_eq!(report.allowed, 2);
        assert_eq!(told(code, &list), ["cli at stop_this+0x0"]);
    }

    /// One alternative, with `padding` bytes between the distances and the lengths.
    fn with_alternative(replacement: &str, padding: usize) -> String {
        format!(
            "f: nop\nsite: nop; nop; nop; ret\n\
             .section .altinstr_replacement, \"ax\"\n1: {replacement}\n2:\n\
             .section .altinstructions, \"a\"\n\
             .long site - .\n.long 1b - .\n.fill {padding}, 1, 0\n.byte 3, 2b - 1b\n"
        )
    }

    #[test]
    fn an_alternative_is_found_where_it_will_be() {
        for padding in [2, 4] {
            assert_eq!(told(&with_alternative("nop; cli", padding), &[]), ["cli at site+0x1 (alternative)"]);
            assert_eq!(told(&with_alternative("nop", padding), &[]), [""; 0]);
        }
        let error = audit(&image(&with_alternative("nop", 7)), &[]).unwrap_err().to_string();
        assert!(error.contains("alt_instr"), "{error}");
    }

    #[test]
    fn names_and_patterns() {
        assert!(matches("stop_*", "stop_this_cpu") && matches("*", "") && matches("a*c*e", "abcde"));
        assert!(!matches("stop", "stop_this_cpu") && !matches("a*c", "abcd"));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(audit(b"not a kernel", &[]).is_err());
    }
}
