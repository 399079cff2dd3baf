//! One relocatable object out of a Rust static library, as the kernel's module loader can take it.
//!
//! A module is a relocatable object, never finally linked, and two things that a linker does at the very end
//! are missed there. The registry of strategies is made of `linkme` slices: sections whose bounds,
//! `__start_…` and `__stop_…`, only a final link defines. And unused code goes only when the linker knows
//! where the used code begins. Nor does Debian's i386 kernel run a module's constructors. So the library is first linked
//! with `ld -r` and a script, generated here from what the library holds: it bounds every slice and the list of
//! constructors, which the module then runs itself, and starts from every entry point.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, elf};

/// All functions that C calls are named like this; they are the object's only global symbols.
pub const ENTRY_PREFIX: &str = "lg_rust_";

/// What the link script sets and no C file defines: the bounds of the list of constructors.
pub const BOUNDS: [&str; 2] = ["lg_constructors_start", "lg_constructors_stop"];

/// Section names that `linkme` gives: the elements of a slice, and its check for duplicates.
const SLICE_PREFIXES: [&str; 2] = ["linkme_", "linkm2_"];

/// The section of the numbers that C has from Rust: a symbol for each.
const NUMBERS: &str = ".lg_shared";

/// What the link needs to know of a library.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Library {
    /// The sections of `linkme` slices.
    pub slices: BTreeSet<String>,
    /// The entry points.
    pub entry_points: BTreeSet<String>,
    /// The numbers that C has from Rust, by name.
    pub numbers: BTreeMap<String, u32>,
}

impl Library {
    /// Looks through a static library (`.a`).
    ///
    /// # Errors
    /// When it has no entry point, or has constructors in the old form, whose order is another.
    pub fn inspect(archive: &[u8]) -> Result<Library> {
        let mut library = Library::default();
        let members = ArchiveFile::parse(archive).context("this is no static library")?;
        for member in members.members() {
            let member = member?;
            let name = String::from_utf8_lossy(member.name()).into_owned();
            // rustc puts its metadata beside the objects.
            let Ok(file) = object::File::parse(member.data(archive)?) else { continue };
            for section in file.sections() {
                let section = section.name()?;
                if section.starts_with(".ctors") {
                    bail!("{name} has a constructor in {section}; the module runs those in .init_array");
                }
                if SLICE_PREFIXES.iter().any(|prefix| section.starts_with(prefix)) {
                    library.slices.insert(section.to_owned());
                }
            }
            for symbol in file.symbols().filter(|s| s.is_definition() && s.is_global()) {
                let symbol = symbol.name()?;
                if symbol.starts_with(ENTRY_PREFIX) {
                    library.entry_points.insert(symbol.to_owned());
                }
            }
            if let Some(section) = file.section_by_name(NUMBERS) {
                library.numbers.append(&mut numbers(&file, &section)?);
            }
        }
        if library.entry_points.is_empty() {
            bail!(
                "the library defines no function named {ENTRY_PREFIX}…, so C could not call anything in it"
            );
        }
        Ok(library)
    }

    /// The script for `ld -r -T`.
    pub fn script(&self) -> String {
        let mut slices = String::new();
        for slice in &self.slices {
            // Aligned as no element is, so that none is ever preceded by padding within the bounds.
            writeln!(slices, "    . = ALIGN(64); __start_{slice} = .; KEEP(*({slice})); __stop_{slice} = .;")
                .expect("a String takes all");
        }
        let [start, stop] = BOUNDS;
        format!(
            "SECTIONS {{\n\
             \x20 .text 0 : {{ *(.text .text.unlikely .text.unlikely.* .text.*) }}\n\
             \x20 .rodata 0 : {{ *(.rodata .rodata.*) }}\n\
             \x20 .data..ro_after_init 0 : {{\n    *(.data.rel.ro .data.rel.ro.*)\n{slices}\
             \x20   . = ALIGN(4); {start} = .; KEEP(*(SORT_BY_INIT_PRIORITY(.init_array.*)));\n\
             \x20   KEEP(*(.init_array)); {stop} = .;\n  }}\n\
             \x20 .data 0 : {{ *(.data .data.*) }}\n\
             \x20 .bss 0 : {{ *(.bss .bss.*) *(COMMON) }}\n\
             \x20 /DISCARD/ : {{ *(.eh_frame .eh_frame.*) *(.gcc_except_table*) *(.note.*) *(.comment) \
             *(.llvmbc) *(.llvmcmd) *({NUMBERS}) }}\n\
             }}\n"
        )
    }
}

/// What the symbols of a section are worth, each of one word.
fn numbers(file: &object::File<'_>, section: &object::Section<'_, '_>) -> Result<BTreeMap<String, u32>> {
    let words = section.data()?;
    let symbols = file.symbols().filter(|s| s.is_definition() && s.section_index() == Some(section.index()));
    symbols
        .filter(|symbol| symbol.is_global())
        .map(|symbol| {
            let word = words.get(symbol.address() as usize..).and_then(|rest| rest.first_chunk());
            let word = word.with_context(|| format!("{NUMBERS} is too short"))?;
            Ok((symbol.name()?.to_owned(), u32::from_le_bytes(*word)))
        })
        .collect()
}

/// Checks that the kernel's module loader for i386 supports every relocation of `file`.
///
/// # Errors
/// When there is one that it does not support; the message names the first and its section.
pub fn check_relocations(file: &[u8]) -> Result<()> {
    let file = object::File::parse(file).context("the prelinked file is no object")?;
    for section in file.sections() {
        for (offset, relocation) in section.relocations() {
            match relocation.flags() {
                RelocationFlags::Elf { r_type: elf::R_386_32 | elf::R_386_PC32 | elf::R_386_PLT32 } => {}
                other => bail!(
                    "section {} has at {offset:#x} the relocation {other:?}, which the kernel's loader refuses: \
                     the code must be built without position independence and thread-local variables",
                    section.name().unwrap_or("?")
                ),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Runs a tool of the toolchain.
    fn output(command: &mut Command) -> Result<()> {
        let done = command.output()?;
        if done.status.success() { Ok(()) } else { bail!("{}", String::from_utf8_lossy(&done.stderr)) }
    }

    /// Assembles `source` for i386 and puts it into a static library.
    fn library(source: &str) -> (tempfile::TempDir, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.s"), source).unwrap();
        output(Command::new("as").current_dir(&folder).args(["--32", "-o", "a.o", "a.s"])).unwrap();
        output(Command::new("ar").current_dir(&folder).args(["rc", "a.a", "a.o"])).unwrap();
        let archive = fs::read(folder.path().join("a.a")).unwrap();
        (folder, archive)
    }

    /// Links such a library by its script, with `options` as well; returns the object.
    fn prelinked(folder: &tempfile::TempDir, library: &Library, options: &[&str]) -> Vec<u8> {
        fs::write(folder.path().join("s.lds"), library.script()).unwrap();
        let arguments = ["-m", "elf_i386", "-r", "-u", "lg_rust_go", "-T", "s.lds", "-o", "out.o", "a.a"];
        output(Command::new("ld").current_dir(folder).args(options).args(arguments)).unwrap();
        fs::read(folder.path().join("out.o")).unwrap()
    }

    const SLICE_USER: &str = r#"
        .section .text.lg_rust_go,"ax"
        .globl lg_rust_go
        lg_rust_go: movl $__start_linkme_S, %eax
            movl $__stop_linkme_S, %edx
            ret
        .section .text.unused,"ax"
        .globl unused
        unused: ret
        .section linkme_S,"aw"
            .long 1
            .long 2
    "#;

    #[test]
    fn finds_slices_and_entry_points() {
        let (_folder, archive) = library(SLICE_USER);
        let library = Library::inspect(&archive).unwrap();
        assert_eq!(library.slices, BTreeSet::from(["linkme_S".to_owned()]));
        assert_eq!(library.entry_points, BTreeSet::from(["lg_rust_go".to_owned()]));
    }

    #[test]
    fn reads_the_numbers_that_c_has_from_rust_and_drops_them() {
        let numbers = ".section .lg_shared,\"a\"\n.globl LG_A, LG_B\nLG_B: .long 7\nLG_A: .long 0xffffffff\n";
        let (folder, archive) = library(&format!("{SLICE_USER}\n{numbers}"));
        let library = Library::inspect(&archive).unwrap();
        assert_eq!(library.numbers, BTreeMap::from([("LG_A".to_owned(), u32::MAX), ("LG_B".to_owned(), 7)]));

        let bytes = prelinked(&folder, &library, &[]);
        assert!(object::File::parse(&*bytes).unwrap().section_by_name(NUMBERS).is_none());
    }

    #[test]
    fn the_script_bounds_the_slice_and_drops_what_is_unused() {
        let (folder, archive) = library(SLICE_USER);
        let bytes = prelinked(&folder, &Library::inspect(&archive).unwrap(), &["--gc-sections"]);
        check_relocations(&bytes).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let address = |name| file.symbol_by_name(name).map(|symbol| symbol.address());
        let (start, stop) = (address("__start_linkme_S").unwrap(), address("__stop_linkme_S").unwrap());
        assert_eq!(stop - start, 8, "two elements of four bytes");
        assert!(address("lg_rust_go").is_some());
        assert!(address("unused").is_none());
    }

    #[test]
    fn the_script_keeps_and_bounds_the_constructors() {
        let (folder, archive) = library(
            r#"
            .section .text.lg_rust_go,"ax"
            .globl lg_rust_go
            lg_rust_go: movl $lg_constructors_start, %eax
                movl $lg_constructors_stop, %edx
                ret
            .section .text.early,"ax"
            early: ret
            .section .text.late,"ax"
            late: ret
            .section .init_array,"aw"
                .long late
            .section .init_array.00100,"aw"
                .long early
            "#,
        );
        let bytes = prelinked(&folder, &Library::inspect(&archive).unwrap(), &["--gc-sections"]);
        let file = object::File::parse(&*bytes).unwrap();
        let address = |name| file.symbol_by_name(name).map(|symbol| symbol.address());
        let (start, stop) =
            (address("lg_constructors_start").unwrap(), address("lg_constructors_stop").unwrap());
        assert_eq!(stop - start, 8, "two constructors of four bytes");
        assert!(address("early").is_some() && address("late").is_some(), "what they point at is kept");
    }

    #[test]
    fn refuses_what_would_fail_silently_in_the_kernel() {
        let (_folder, none) = library(".globl other\nother: ret\n");
        assert!(Library::inspect(&none).unwrap_err().to_string().contains("lg_rust_"));
        let constructor = format!("{SLICE_USER}\n.section .ctors,\"aw\"\n.long unused\n");
        let (_folder, constructor) = library(&constructor);
        assert!(Library::inspect(&constructor).unwrap_err().to_string().contains("constructor"));
    }

    #[test]
    fn refuses_relocations_that_the_loader_does_not_know() {
        let (folder, _) = library(".text\nmovl symbol@GOT(%ebx), %eax\n");
        let object = fs::read(folder.path().join("a.o")).unwrap();
        assert!(check_relocations(&object).unwrap_err().to_string().contains(".text"));
    }
}
