//! Linux's boot parameters, which every lguest guest finds at guest-physical 0.
//!
//! The first page is Linux's `struct boot_params` ("zero page", kernel documentation
//! `arch/x86/zero-page.rst` and `boot.rst`), the second the command line. A guest needs no registers
//! set: the addresses are fixed, and `hardware_subarch` 1 identifies lguest to Linux 3.x.

use arch_i386::addr::PAGE_SIZE;
use thiserror::Error;

/// Where the command line is.
pub const COMMAND_LINE: u32 = PAGE_SIZE;
/// The first address above boot parameters and command line: kernels are linked from here on.
pub const END: u32 = 2 * PAGE_SIZE;
/// Bytes of command line, its terminating NUL included: Linux's `COMMAND_LINE_SIZE` on x86.
pub const COMMAND_LINE_SIZE: usize = 2048;

/// Byte offsets in the zero page.
mod offset {
    pub const E820_ENTRIES: usize = 0x1e8;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOADFLAGS: usize = 0x211;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const CMD_LINE_PTR: usize = 0x228;
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    pub const HARDWARE_SUBARCH: usize = 0x23c;
    pub const E820_TABLE: usize = 0x2d0;
}

const BOOT_FLAG: u16 = 0xaa55;
/// Boot protocol 2.07, the first with `hardware_subarch`.
const VERSION: u16 = 0x207;
/// "Undefined" loader; anything but 0 makes Linux take the initrd.
const LOADER_UNDEFINED: u8 = 0xff;
/// `loadflags`: the guest must not reload its segment registers on entry; its GDT is the host's.
const KEEP_SEGMENTS: u8 = 1 << 6;
const SUBARCH_LGUEST: u32 = 1;
const E820_RAM: u32 = 1;
/// What Linux distributions choose for CONFIG_PHYSICAL_ALIGN.
const KERNEL_ALIGNMENT: u32 = 0x100_0000;

/// An initial RAM disk, already in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initrd {
    /// Guest-physical address of its first byte.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
}

/// Why the command line cannot be given to the guest.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("the kernel command line has {0} bytes; Linux takes at most {max}", max = COMMAND_LINE_SIZE - 1)]
pub struct CommandLineTooLong(pub usize);

/// Writes both pages into `memory`: the guest's ordinary memory, still zero there.
///
/// The memory map has one entry, all of `memory`: Linux 3.x looks at no other.
///
/// # Errors
/// When the command line is too long.
pub fn write(
    memory: &mut [u8],
    command_line: &str,
    initrd: Option<Initrd>,
) -> Result<(), CommandLineTooLong> {
    if command_line.len() >= COMMAND_LINE_SIZE {
        return Err(CommandLineTooLong(command_line.len()));
    }
    let bytes = memory.len() as u64;
    let mut put = |at: usize, field: &[u8]| memory[at..at + field.len()].copy_from_slice(field);

    put(offset::E820_ENTRIES, &[1]);
    put(offset::E820_TABLE, &0u64.to_le_bytes());
    put(offset::E820_TABLE + 8, &bytes.to_le_bytes());
    put(offset::E820_TABLE + 16, &E820_RAM.to_le_bytes());

    put(offset::BOOT_FLAG, &BOOT_FLAG.to_le_bytes());
    put(offset::HEADER, b"HdrS");
    put(offset::VERSION, &VERSION.to_le_bytes());
    put(offset::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
    put(offset::LOADFLAGS, &[KEEP_SEGMENTS]);
    put(offset::KERNEL_ALIGNMENT, &KERNEL_ALIGNMENT.to_le_bytes());
    put(offset::HARDWARE_SUBARCH, &SUBARCH_LGUEST.to_le_bytes());
    if let Some(initrd) = initrd {
        put(offset::RAMDISK_IMAGE, &initrd.start.to_le_bytes());
        put(offset::RAMDISK_SIZE, &initrd.len.to_le_bytes());
    }

    put(offset::CMD_LINE_PTR, &COMMAND_LINE.to_le_bytes());
    put(COMMAND_LINE as usize, command_line.as_bytes());
    Ok(())
}

/// The words of a command line that are for the kernel: those before a word `--`.
pub fn words(command_line: &str) -> impl Iterator<Item = &str> {
    command_line.split_ascii_whitespace().take_while(|word| *word != "--")
}

/// Joins what the user gave for the kernel's command line.
#[must_use]
pub fn command_line(append: Option<&str>, arguments: &[String]) -> String {
    let given = append.into_iter().chain(arguments.iter().map(String::as_str));
    given.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(memory: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(memory[at..at + 4].try_into().unwrap())
    }

    // The offsets here are written down a second time, from the kernel's documentation.
    #[test]
    fn linux_finds_what_it_looks_for() {
        let mut memory = vec![0; 1 << 20];
        let initrd = Initrd { start: 0xf0000, len: 0x1234 };
        write(&mut memory, "quiet console=hvc0", Some(initrd)).unwrap();
        assert_eq!(memory[0x1e8], 1);
        assert_eq!(memory[0x2d0..0x2d8], [0; 8]);
        assert_eq!(memory[0x2d8..0x2e0], [0, 0, 0x10, 0, 0, 0, 0, 0]);
        assert_eq!(u32_at(&memory, 0x2e0), 1);
        assert_eq!(memory[0x1fe..0x200], [0x55, 0xaa]);
        assert_eq!(&memory[0x202..0x208], b"HdrS\x07\x02");
        assert_eq!(memory[0x210..0x212], [0xff, 0x40]);
        assert_eq!((u32_at(&memory, 0x218), u32_at(&memory, 0x21c)), (0xf0000, 0x1234));
        assert_eq!((u32_at(&memory, 0x230), u32_at(&memory, 0x23c)), (0x100_0000, 1));
        let line = u32_at(&memory, 0x228) as usize;
        assert_eq!(&memory[line..line + 19], b"quiet console=hvc0\0");
    }

    #[test]
    fn the_longest_command_line_keeps_its_terminator() {
        let mut memory = vec![0; 1 << 20];
        let longest = "x".repeat(2047);
        assert_eq!(write(&mut memory, &longest, None), Ok(()));
        assert_eq!(memory[0x1000 + 2047], 0);
        let refused = write(&mut memory, &(longest + "x"), None);
        assert_eq!(refused, Err(CommandLineTooLong(2048)));
    }

    #[test]
    fn what_the_user_gave_is_joined() {
        let args = ["debug".to_owned(), "init=/bin/sh".to_owned()];
        assert_eq!(command_line(Some("quiet"), &args), "quiet debug init=/bin/sh");
        assert_eq!(command_line(None, &[]), "");
    }
}
