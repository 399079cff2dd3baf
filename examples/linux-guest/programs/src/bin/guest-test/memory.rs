//! The memory test: processes that map, protect, drop, move, share and fork their memory at random, and a
//! model in each that predicts what every page holds and who may touch it.
//!
//! A process's *arena* is eight clusters of pages, each lying across the border of two page tables. A page is
//! known by four of its words. Every operation goes to the kernel and to the model; pages are probed by loads
//! and stores that may fault, and by the kernel's own accesses (through a pipe), which must find the same.
//!
//! A forked process goes on by itself with a seed that its parent has. The parent works on its private pages
//! meanwhile, and afterwards computes what the other did to the shared ones by running it on the model only.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;

use crate::Settings;
use crate::attempt::{self, Fault, page_fault};
use crate::process::{self, Worker};
use crate::random::Random;

const PAGE: u32 = 4096;
const CLUSTER_PAGES: usize = 128;
const CLUSTERS: usize = 8;
const PAGES: usize = CLUSTER_PAGES * CLUSTERS;
/// What a page table of two-level paging maps; half of it is what one of PAE maps.
const TABLE_SPAN: u32 = 4 << 20;
/// Far below the addresses that Linux hands out by itself, so that it puts nothing into holes of the arena.
const BASE: u32 = 0x2000_0000 - CLUSTER_PAGES as u32 / 2 * PAGE;

/// Offsets of the words by which a page is known.
const WORDS: [u32; 4] = [0, 1364, 2728, 4092];
/// What the words of a page hold.
type Content = [u32; WORDS.len()];

const OBJECTS: usize = 3;
const OBJECT_PAGES: usize = 24;
/// Pages behind an object's end that may be mapped all the same.
const BEHIND_END: usize = 4;
/// The most pages of one operation.
const RUN_MAX: usize = 24;
/// How deep processes fork processes.
const DEPTH_MAX: u32 = 2;

/// Runs the test.
pub fn test(settings: &Settings) -> Result<()> {
    attempt::prepare()?;
    let mut seeds = Random::new(settings.seed);
    let seeds: Vec<u64> = (0..settings.processes).map(|_| seeds.seed()).collect();
    process::in_parallel(settings.processes, |number| {
        let seed = seeds[number as usize];
        let mut process = Process::new(Random::new(seed))?;
        process.operate(settings.operations).and_then(|()| process.verify_all())
    })
}

fn address(page: usize) -> u32 {
    let (cluster, index) = (page / CLUSTER_PAGES, page % CLUSTER_PAGES);
    BASE + cluster as u32 * TABLE_SPAN + index as u32 * PAGE
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    None,
    Read,
    /// i386 cannot map for writing only: this reads too.
    Write,
    ReadWrite,
}

impl Rights {
    fn random(random: &mut Random) -> Rights {
        // Memory that can be used is what finds most.
        match random.below(8) {
            0 => Rights::None,
            1 | 2 => Rights::Read,
            3 => Rights::Write,
            _ => Rights::ReadWrite,
        }
    }

    fn flags(self) -> i32 {
        match self {
            Rights::None => libc::PROT_NONE,
            Rights::Read => libc::PROT_READ,
            Rights::Write => libc::PROT_WRITE,
            Rights::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }

    fn allow(self, access: Access) -> bool {
        match self {
            Rights::None => false,
            Rights::Read => access == Access::Load,
            Rights::Write | Rights::ReadWrite => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Load,
    Store,
}

/// What is behind a page that is mapped.
#[derive(Clone, Copy, Debug)]
enum Backing {
    /// Memory of its own.
    Anonymous(Content),
    /// A page of an object, with a copy of its own once it was written to.
    Copied { object: usize, page: usize, own: Option<Content> },
    /// A page of an object, which others see.
    Shared { object: usize, page: usize },
}

#[derive(Clone, Copy, Debug)]
struct Page {
    rights: Rights,
    backing: Backing,
}

/// What an access will come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Done,
    /// SIGSEGV, there is no mapping.
    Unmapped,
    /// SIGSEGV, the mapping's rights forbid it.
    Forbidden,
    /// SIGBUS, the mapping goes on behind its object's end.
    BehindEnd,
}

/// What a process records of its memory. All that is random depends on nothing else, so that the model alone
/// comes to the same as the model with the memory.
#[derive(Clone)]
struct Model {
    pages: Vec<Option<Page>>,
    objects: Vec<Vec<Content>>,
}

impl Model {
    fn expect(&self, page: usize, access: Access) -> Expected {
        match self.pages[page] {
            None => Expected::Unmapped,
            Some(page) if !page.rights.allow(access) => Expected::Forbidden,
            Some(Page {
                backing: Backing::Shared { page, .. } | Backing::Copied { page, own: None, .. },
                ..
            }) if page >= OBJECT_PAGES => Expected::BehindEnd,
            Some(_) => Expected::Done,
        }
    }

    /// The content of a page that can be touched.
    fn content(&self, page: &Page) -> Content {
        match page.backing {
            Backing::Anonymous(content) | Backing::Copied { own: Some(content), .. } => content,
            Backing::Shared { object, page } | Backing::Copied { object, page, own: None } => {
                self.objects[object][page]
            }
        }
    }

    fn store(&mut self, index: usize, word: usize, value: u32) {
        let Some(mut page) = self.pages[index] else { return };
        let mut content = self.content(&page);
        content[word] = value;
        match &mut page.backing {
            Backing::Anonymous(own) => *own = content,
            Backing::Copied { own, .. } => *own = Some(content),
            Backing::Shared { object, page } => self.objects[*object][*page] = content,
        }
        self.pages[index] = Some(page);
    }

    /// Whether nobody but the process itself can change what is in the page.
    fn is_private(&self, page: usize) -> bool {
        !matches!(
            self.pages[page],
            Some(Page { backing: Backing::Shared { .. } | Backing::Copied { own: None, .. }, .. })
        )
    }
}

/// An object's initial content.
fn initial(object: usize, page: usize) -> Content {
    std::array::from_fn(|word| 0x5eed_0000 | (object << 12 | page << 4 | word) as u32)
}

/// What a process has outside of its model.
struct Real {
    objects: Vec<OwnedFd>,
    pipe: (File, File),
}

/// A process that stresses its memory; or only the model of one, without `real`.
struct Process {
    random: Random,
    model: Model,
    real: Option<Rc<Real>>,
    depth: u32,
    /// Operations done.
    count: u32,
}

/// A file in memory that has no name. Before Linux 3.17 there is no `memfd_create`: the file has one for a moment.
fn new_object() -> Result<File> {
    match memfd_create(c"object", MFdFlags::MFD_CLOEXEC) {
        Ok(object) => return Ok(File::from(object)),
        Err(Errno::ENOSYS) => {}
        Err(errno) => return Err(errno).context("memfd_create"),
    }
    let path = format!("/dev/shm/guest-test-{}", std::process::id());
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = file.with_context(|| format!("no memfd, and no {path} (is there a tmpfs?)"))?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {path}"))?;
    Ok(file)
}

impl Process {
    fn new(random: Random) -> Result<Process> {
        let mut objects = Vec::new();
        for number in 0..OBJECTS {
            let mut file = new_object()?;
            for page in 0..OBJECT_PAGES {
                let mut bytes = [0; PAGE as usize];
                for (offset, word) in WORDS.into_iter().zip(initial(number, page)) {
                    bytes[offset as usize..offset as usize + 4].copy_from_slice(&word.to_le_bytes());
                }
                file.write_all(&bytes).context("an object cannot be filled")?;
            }
            objects.push(OwnedFd::from(file));
        }
        let contents = (0..OBJECTS)
            .map(|object| (0..OBJECT_PAGES).map(|page| initial(object, page)).collect())
            .collect();
        let model = Model { pages: vec![None; PAGES], objects: contents };
        let real = Some(Rc::new(Real { objects, pipe: new_pipe()? }));
        Ok(Process { random, model, real, depth: 0, count: 0 })
    }

    /// Does `count` operations, each followed by a look at some page.
    fn operate(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            self.count += 1;
            self.operation().with_context(|| format!("operation {} at depth {}", self.count, self.depth))?;
        }
        Ok(())
    }

    fn operation(&mut self) -> Result<()> {
        match self.random.below(100) {
            0..10 => self.map_anonymous(),
            10..20 => self.map_object(),
            20..25 => self.unmap(),
            25..37 => self.protect(),
            37..42 => self.drop_contents(),
            42..47 => self.move_page(),
            47..75 => self.store_by_user(),
            75..82 => self.store_by_kernel(),
            82..89 => self.load_by_kernel(),
            89 if self.depth < DEPTH_MAX => self.fork(),
            _ => {
                let page = self.random.below(PAGES);
                self.verify(page)
            }
        }
    }

    /// Some pages of one cluster: the first, and how many.
    fn run(&mut self) -> (usize, usize) {
        let first = self.random.below(PAGES);
        let room = CLUSTER_PAGES - first % CLUSTER_PAGES;
        (first, 1 + self.random.below(RUN_MAX.min(room)))
    }

    /// A page that is mapped, if one is soon found; else any.
    fn likely_mapped(&mut self) -> usize {
        let mut page = self.random.below(PAGES);
        for _ in 0..8 {
            if self.model.pages[page].is_some() {
                break;
            }
            page = self.random.below(PAGES);
        }
        page
    }

    fn map_anonymous(&mut self) -> Result<()> {
        let (first, count) = self.run();
        let rights = Rights::random(&mut self.random);
        if self.real.is_some() {
            map(first, count, rights, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        }
        let page = Page { rights, backing: Backing::Anonymous([0; WORDS.len()]) };
        self.model.pages[first..first + count].fill(Some(page));
        Ok(())
    }

    fn map_object(&mut self) -> Result<()> {
        let (first, count) = self.run();
        let rights = Rights::random(&mut self.random);
        let object = self.random.below(OBJECTS);
        let count = count.min(OBJECT_PAGES);
        let offset = self.random.below(OBJECT_PAGES + BEHIND_END - count + 1);
        let shared = self.random.below(2) == 0;
        if let Some(real) = &self.real {
            let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
            map(first, count, rights, kind, real.objects[object].as_raw_fd(), offset)?;
        }
        for (index, page) in (offset..offset + count).enumerate() {
            let backing = if shared {
                Backing::Shared { object, page }
            } else {
                Backing::Copied { object, page, own: None }
            };
            self.model.pages[first + index] = Some(Page { rights, backing });
        }
        Ok(())
    }

    fn unmap(&mut self) -> Result<()> {
        let (first, count) = self.run();
        if self.real.is_some() {
            // SAFETY: the arena is nobody else's.
            let done = unsafe { libc::munmap(address(first) as *mut _, count * PAGE as usize) };
            Errno::result(done).context("munmap")?;
        }
        self.model.pages[first..first + count].fill(None);
        Ok(())
    }

    fn protect(&mut self) -> Result<()> {
        let (first, count) = self.run();
        let rights = Rights::random(&mut self.random);
        // Linux changes the mapped pages before the first hole, then complains of it.
        let pages = &mut self.model.pages[first..first + count];
        let whole = pages.iter().take_while(|page| page.is_some()).count();
        pages[..whole].iter_mut().flatten().for_each(|page| page.rights = rights);
        if self.real.is_some() {
            // SAFETY: the arena is nobody else's.
            let done =
                unsafe { libc::mprotect(address(first) as *mut _, count * PAGE as usize, rights.flags()) };
            let expected = if whole == count { Ok(()) } else { Err(Errno::ENOMEM) };
            let got = Errno::result(done).map(drop);
            ensure!(got == expected, "mprotect of {count} pages, {whole} before a hole: {got:?}");
        }
        Ok(())
    }

    /// `MADV_DONTNEED`: private changes are forgotten.
    fn drop_contents(&mut self) -> Result<()> {
        let (first, count) = self.run();
        let mut hole = false;
        for page in &mut self.model.pages[first..first + count] {
            match page {
                None => hole = true,
                Some(Page { backing: Backing::Anonymous(content), .. }) => *content = [0; WORDS.len()],
                Some(Page { backing: Backing::Copied { own, .. }, .. }) => *own = None,
                Some(Page { backing: Backing::Shared { .. }, .. }) => {}
            }
        }
        if self.real.is_some() {
            let start = address(first) as *mut _;
            // SAFETY: the arena is nobody else's.
            let done = unsafe { libc::madvise(start, count * PAGE as usize, libc::MADV_DONTNEED) };
            let expected = if hole { Err(Errno::ENOMEM) } else { Ok(()) };
            let got = Errno::result(done).map(drop);
            ensure!(got == expected, "madvise of {count} pages, a hole among them: {hole}: {got:?}");
        }
        Ok(())
    }

    fn move_page(&mut self) -> Result<()> {
        let (from, to) = (self.likely_mapped(), self.random.below(PAGES));
        if from == to || self.model.pages[from].is_none() {
            return Ok(());
        }
        if self.real.is_some() {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let (old, new) = (address(from) as *mut _, address(to) as *mut libc::c_void);
            // SAFETY: the arena is nobody else's.
            let moved = unsafe { libc::mremap(old, PAGE as usize, PAGE as usize, flags, new) };
            ensure!(moved == new, "mremap of {} to page {to}: {}", self.place(from, 0), Errno::last());
        }
        self.model.pages[to] = self.model.pages[from].take();
        Ok(())
    }

    fn store_by_user(&mut self) -> Result<()> {
        let page = self.likely_mapped();
        self.store_to(page)
    }

    fn store_to(&mut self, page: usize) -> Result<()> {
        let (word, value) = (self.random.below(WORDS.len()), self.random.number());
        let expected = self.model.expect(page, Access::Store);
        if self.real.is_some() {
            // SAFETY: the arena is nobody else's.
            let result = unsafe { attempt::store(address(page) + WORDS[word], value) };
            self.check(page, word, Access::Store, expected, result.map(|()| value), value)?;
        }
        if expected == Expected::Done {
            self.model.store(page, word, value);
        }
        Ok(())
    }

    /// A system call that writes a word into the page.
    fn store_by_kernel(&mut self) -> Result<()> {
        let page = self.likely_mapped();
        let (word, value) = (self.random.below(WORDS.len()), self.random.number());
        let expected = self.model.expect(page, Access::Store);
        if let Some(real) = &self.real {
            (&real.pipe.1).write_all(&value.to_le_bytes()).context("the pipe takes nothing")?;
            let target = address(page) + WORDS[word];
            // SAFETY: the arena is nobody else's.
            let done = unsafe { libc::read(real.pipe.0.as_raw_fd(), target as *mut _, 4) };
            self.check_call("read", page, expected, Errno::result(done))?;
            if expected != Expected::Done {
                drain(&real.pipe.0)?;
            }
        }
        if expected == Expected::Done {
            self.model.store(page, word, value);
        }
        Ok(())
    }

    /// A system call that reads a word of the page.
    fn load_by_kernel(&mut self) -> Result<()> {
        let page = self.likely_mapped();
        let word = self.random.below(WORDS.len());
        let expected = self.model.expect(page, Access::Load);
        let Some(real) = &self.real else { return Ok(()) };
        let source = address(page) + WORDS[word];
        // SAFETY: the kernel reads a word of memory, or returns an error.
        let done = unsafe { libc::write(real.pipe.1.as_raw_fd(), source as *const _, 4) };
        self.check_call("write", page, expected, Errno::result(done))?;
        if expected == Expected::Done {
            let mut bytes = [0; 4];
            (&real.pipe.0).read_exact(&mut bytes).context("the pipe is empty")?;
            let (got, predicted) = (u32::from_le_bytes(bytes), self.predicted(page)[word]);
            ensure!(
                got == predicted,
                "{}: the kernel reads {got:#x}, the model says {predicted:#x}",
                self.place(page, word)
            );
        }
        Ok(())
    }

    fn fork(&mut self) -> Result<()> {
        let seed = self.random.seed();
        let count = 20 + self.random.below(100) as u32;
        let mut other = Process {
            random: Random::new(seed),
            model: self.model.clone(),
            real: None,
            depth: self.depth + 1,
            count: 0,
        };
        let worker = match &self.real {
            Some(real) => Some(Worker::spawn(|| {
                // A pipe of its own: what is in flight must not get to the other.
                let objects = real.objects.iter().map(|object| object.try_clone().context("no file"));
                let real = Real { objects: objects.collect::<Result<_>>()?, pipe: new_pipe()? };
                let mut child = Process { real: Some(Rc::new(real)), ..other.clone_model() };
                child.operate(count)?;
                child.verify_all()
            })?),
            None => None,
        };
        // Meanwhile, what only this process can change.
        for _ in 0..30 {
            let page = self.likely_mapped();
            if self.model.is_private(page) {
                self.store_to(page)?;
                self.verify(page)?;
            }
        }
        if let Some(worker) = worker {
            worker.join().with_context(|| format!("in a forked process of {count} operations"))?;
        }
        other.operate(count)?;
        self.model.objects = other.model.objects;
        Ok(())
    }

    fn clone_model(&self) -> Process {
        Process {
            random: self.random.clone(),
            model: self.model.clone(),
            real: None,
            depth: self.depth,
            count: self.count,
        }
    }

    fn verify_all(&self) -> Result<()> {
        (0..PAGES).try_for_each(|page| self.verify(page).context("at the end"))
    }

    /// Compares a page with what the model predicts.
    fn verify(&self, page: usize) -> Result<()> {
        if self.real.is_none() {
            return Ok(());
        }
        let expected = self.model.expect(page, Access::Load);
        // One word of a page that cannot be read is enough.
        let words = if expected == Expected::Done { WORDS.len() } else { 1 };
        for (word, offset) in WORDS.into_iter().enumerate().take(words) {
            let result = attempt::load(address(page) + offset);
            let predicted = if expected == Expected::Done { self.predicted(page)[word] } else { 0 };
            self.check(page, word, Access::Load, expected, result, predicted)?;
        }
        Ok(())
    }

    fn predicted(&self, page: usize) -> Content {
        self.model.pages[page].as_ref().map_or([0; WORDS.len()], |page| self.model.content(page))
    }

    /// Compares the outcome of a load or store with the model.
    fn check(
        &self,
        page: usize,
        word: usize,
        access: Access,
        expected: Expected,
        result: Result<u32, Fault>,
        predicted: u32,
    ) -> Result<()> {
        const PAGE_FAULT: u32 = 14;
        let place = || format!("{access:?} of {}", self.place(page, word));
        let (signal, code) = match expected {
            Expected::Done => match result {
                Ok(value) if value == predicted => return Ok(()),
                Ok(value) => bail!("{}: {value:#x}, the model says {predicted:#x}", place()),
                Err(fault) => bail!("{}: {fault:x?}, the model allows it", place()),
            },
            Expected::Unmapped => (libc::SIGSEGV, SEGV_MAPERR),
            Expected::Forbidden => (libc::SIGSEGV, SEGV_ACCERR),
            Expected::BehindEnd => (libc::SIGBUS, libc::BUS_ADRERR),
        };
        let Err(fault) = result else {
            bail!("{}: it can be touched, the model says {expected:?}", place());
        };
        let write = if access == Access::Store { page_fault::WRITE } else { 0 };
        let error = fault.error & !page_fault::PRESENT;
        let as_predicted = fault.signal == signal
            && fault.code == code
            && fault.address == address(page) + WORDS[word]
            && fault.trap == PAGE_FAULT
            && error == page_fault::USER | write;
        ensure!(as_predicted, "{}: {fault:x?}, the model says {expected:?}", place());
        Ok(())
    }

    fn check_call(
        &self,
        call: &str,
        page: usize,
        expected: Expected,
        result: Result<isize, Errno>,
    ) -> Result<()> {
        let predicted = if expected == Expected::Done { Ok(4) } else { Err(Errno::EFAULT) };
        ensure!(
            result == predicted,
            "{call} on {} came to {result:?}, the model says {predicted:?}",
            self.place(page, 0)
        );
        Ok(())
    }

    fn place(&self, page: usize, word: usize) -> impl fmt::Display {
        let at = address(page) + WORDS[word];
        format!("page {page}, word {word} ({at:#x}, {:x?})", self.model.pages[page])
    }
}

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;

fn new_pipe() -> Result<(File, File)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("no pipe")?;
    Ok((reader.into(), writer.into()))
}

/// Takes back a word that a failed call has left in the pipe.
fn drain(mut pipe: &File) -> Result<()> {
    pipe.read_exact(&mut [0; 4]).context("the pipe is empty")
}

fn map(first: usize, count: usize, rights: Rights, kind: i32, object: RawFd, offset: usize) -> Result<()> {
    let (start, len) = (address(first) as *mut libc::c_void, count * PAGE as usize);
    let offset = (offset * PAGE as usize) as libc::off_t;
    // SAFETY: the arena is nobody else's.
    let mapped = unsafe { libc::mmap(start, len, rights.flags(), kind | libc::MAP_FIXED, object, offset) };
    ensure!(mapped == start, "mmap of {count} pages: {}", std::io::Error::last_os_error());
    Ok(())
}
