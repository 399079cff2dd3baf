//! The guest's kernel: a 32-bit i386 ELF executable, plain or packed, read from its file and put into guest memory.
//!
//! Segments go to their physical addresses (`p_paddr`), since a guest starts on a linear mapping of its
//! physical memory and maps itself to its virtual addresses later. Only headers are read ahead; the
//! segments go straight from the file to where they belong, so that a kernel may be of any size.

use crate::boot_params;
use crate::memory_size::in_mebibytes;
use crate::paging;
use crate::unpack::{self, PROBE, UnpackError};
use arch_i386::paging::Paging;
use object::elf::{self, FileHeader32};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, ReadCache};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use thiserror::Error;

/// Why a file cannot be started as a guest's kernel.
#[derive(Debug, Error)]
pub enum KernelError {
    /// Reading failed.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Neither ELF nor anything known.
    #[error(
        "it is neither an ELF file nor a Linux bzImage; lguest starts 32-bit i386 kernels, such as vmlinux, also packed"
    )]
    NotElf,
    /// A compressed kernel that cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A 64-bit ELF.
    #[error("it is a 64-bit ELF file; an lguest guest is a 32-bit kernel: build it for i386")]
    SixtyFourBit,
    /// An ELF for another kind of machine.
    #[error("it is an ELF file for another machine ({0:?}); an lguest guest is built for EM_386, the i386")]
    WrongMachine(elf::Machine),
    /// An ELF of the other byte order.
    #[error("it is a big-endian ELF file; an lguest guest is built for i386")]
    BigEndian,
    /// An object file or a shared library.
    #[error("it is an ELF file of type {0:?}; lguest starts fixed executables, ET_EXEC: link it as one")]
    NotExecutable(elf::FileType),
    /// Headers that do not make sense.
    #[error("it is a damaged ELF file: {0}")]
    Damaged(String),
    /// Nothing to load.
    #[error("it has no loadable segments (PT_LOAD program headers): it was not linked as a kernel")]
    NoSegments,
    /// Would overwrite what [`boot_params`] puts at the bottom of memory.
    #[error(
        "it has a segment at physical {0:#x}, where the boot parameters go; link it at {low:#x} or above, \
         1 MiB being usual",
        low = boot_params::END
    )]
    TooLow(u32),
    /// The memory given does not hold the kernel.
    #[error(
        "it needs guest memory up to {end:#x} but the guest has {memory:#x} bytes; give it at least \
         --memory {enough}",
        enough = in_mebibytes(*end)
    )]
    MemoryTooSmall {
        /// The end of the highest segment.
        end: u64,
        /// Bytes of memory.
        memory: u64,
    },
    /// The entry point is nowhere.
    #[error("it has its entry point {0:#x} outside all its loadable segments")]
    EntryOutside(u32),
}

/// One loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    physical: u32,
    virt: u32,
    file_offset: u32,
    file_len: u32,
    memory_len: u32,
}

/// A kernel file whose headers have been read and found good.
#[derive(Debug)]
pub struct Kernel {
    file: File,
    segments: Vec<Segment>,
    entry: u32,
    paging: Option<Paging>,
    is_noted: bool,
    has_high_memory: bool,
}

/// What a kernel's file puts into memory together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where the kernel sees it when it has mapped itself.
    pub virt: u32,
    /// Where it is.
    pub physical: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl Kernel {
    /// What it is made of.
    #[must_use]
    pub fn images(&self) -> Arc<[Image]> {
        let image = |segment: &Segment| Image {
            virt: segment.virt,
            physical: segment.physical,
            len: segment.memory_len,
        };
        self.segments.iter().map(image).collect()
    }

    /// Unpacks the file if it is packed; reads and checks the headers.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn read(file: File) -> Result<Self, KernelError> {
        let start = probe(&file)?;
        let (file, start) = match unpack::unpack(&file, &start)? {
            None => (file, start),
            Some(unpacked) => {
                let start = probe(&unpacked)?;
                (unpacked, start)
            }
        };
        check_identity(&start)?;
        let cache = ReadCache::new(&file);
        let damaged = |e: object::Error| KernelError::Damaged(e.to_string());
        let header = FileHeader32::<LittleEndian>::parse(&cache).map_err(damaged)?;
        let machine = header.e_machine(LittleEndian);
        if machine != elf::EM_386 {
            return Err(KernelError::WrongMachine(machine));
        }
        let kind = header.e_type(LittleEndian);
        if kind != elf::ET_EXEC {
            return Err(KernelError::NotExecutable(kind));
        }
        let mut segments = Vec::new();
        for program in header.program_headers(LittleEndian, &cache).map_err(damaged)? {
            if program.p_type(LittleEndian) == elf::PT_LOAD && program.p_memsz(LittleEndian) != 0 {
                segments.push(Segment {
                    physical: program.p_paddr(LittleEndian),
                    virt: program.p_vaddr(LittleEndian),
                    file_offset: program.p_offset(LittleEndian),
                    file_len: program.p_filesz(LittleEndian),
                    memory_len: program.p_memsz(LittleEndian),
                });
            }
        }
        let entry = physical_entry(header.e_entry(LittleEndian), &segments)?;
        let file_len = file.metadata().map_err(KernelError::Read)?.len();
        check_segments(&segments, file_len)?;
        let paging = paging::of_kernel(header, &cache);
        let is_noted = paging::is_noted(header, &cache);
        let has_high_memory = paging::has_high_memory(header, &cache);
        drop(cache);
        Ok(Self { file, segments, entry, paging, is_noted, has_high_memory })
    }

    /// The guest-physical address of the first instruction.
    #[must_use]
    pub fn entry(&self) -> u32 {
        self.entry
    }

    /// The format of its page tables, if it can do only one and states it; see [`paging::of_kernel`].
    #[must_use]
    pub fn paging(&self) -> Option<Paging> {
        self.paging
    }

    /// Whether it has the note of `lguest`, and so was written for this host.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.is_noted
    }

    /// Whether its symbols show that it is a Linux with `CONFIG_HIGHMEM`.
    #[must_use]
    pub fn has_high_memory(&self) -> bool {
        self.has_high_memory
    }

    /// The end of the highest segment: the least memory that holds the kernel, in bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.physical) + u64::from(s.memory_len)).max().unwrap_or(0)
    }

    /// Copies the segments into `memory`, the guest's ordinary memory, still all zero.
    ///
    /// # Errors
    /// [`KernelError::MemoryTooSmall`], or [`KernelError::Read`].
    pub fn load(&self, memory: &mut [u8]) -> Result<(), KernelError> {
        let (end, len) = (self.end(), memory.len() as u64);
        if end > len {
            return Err(KernelError::MemoryTooSmall { end, memory: len });
        }
        for segment in &self.segments {
            let start = segment.physical as usize;
            let target = &mut memory[start..start + segment.file_len as usize];
            self.file.read_exact_at(target, segment.file_offset.into()).map_err(KernelError::Read)?;
        }
        Ok(())
    }
}

/// The first bytes of the file, zeros where it is shorter.
fn probe(file: &File) -> Result<[u8; PROBE], KernelError> {
    let mut start = [0; PROBE];
    let mut filled = 0;
    while filled < PROBE {
        match file.read_at(&mut start[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(KernelError::Read(e)),
        }
    }
    Ok(start)
}

/// Distinguishes the kinds of file that people try, before the parser sees them.
fn check_identity(start: &[u8; PROBE]) -> Result<(), KernelError> {
    if start[..4] != elf::ELFMAG {
        return Err(KernelError::NotElf);
    }
    // `e_ident` goes on with the class and the data encoding.
    match (start[4], start[5]) {
        (class, _) if class == elf::ELFCLASS64.0 => Err(KernelError::SixtyFourBit),
        (_, data) if data == elf::ELFDATA2MSB.0 => Err(KernelError::BigEndian),
        _ => Ok(()),
    }
}

fn check_segments(segments: &[Segment], file_len: u64) -> Result<(), KernelError> {
    if segments.is_empty() {
        return Err(KernelError::NoSegments);
    }
    for segment in segments {
        if segment.file_len > segment.memory_len {
            return Err(KernelError::Damaged("a segment is longer in the file than in memory".into()));
        }
        if u64::from(segment.file_offset) + u64::from(segment.file_len) > file_len {
            return Err(KernelError::Damaged(
                "a segment goes on beyond the file's end: is it cut off?".into(),
            ));
        }
        if segment.physical < boot_params::END {
            return Err(KernelError::TooLow(segment.physical));
        }
    }
    Ok(())
}

/// Where the guest begins. Linux links its entry point as a physical address; kernels linked without
/// that care give a virtual one, which their segments translate.
fn physical_entry(entry: u32, segments: &[Segment]) -> Result<u32, KernelError> {
    if segments.is_empty() {
        return Err(KernelError::NoSegments);
    }
    let within = |start: u32, segment: &Segment| entry.wrapping_sub(start) < segment.memory_len;
    if segments.iter().any(|s| within(s.physical, s)) {
        return Ok(entry);
    }
    let segment = segments.iter().find(|s| within(s.virt, s)).ok_or(KernelError::EntryOutside(entry))?;
    Ok(segment.physical.wrapping_add(entry.wrapping_sub(segment.virt)))
}
