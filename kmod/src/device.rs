//! `/dev/lguest`: an open file, from the choice of its strategy to the end of its guest.
//!
//! [`arch_i386::launcher`] describes the protocol. Who may do what when:
//!
//! * One process makes the guest (`Initialize`) and only that one may run it (`read`): guest memory is
//!   that process's memory. Others get `EPERM`.
//! * A second `Initialize`, a `Strategy` or `Paging` after it, and `Counters`, `View` and `Debug` while the guest runs get
//!   `EBUSY`.
//! * `Irq` and `Eventfd` may come from any thread, also while the guest runs. Before `Initialize` they
//!   get `EINVAL`, after the guest's end `ENOENT`.
//! * An address has one eventfd: attaching another takes the place of the one before. A guest can have
//!   [`MAX_EVENTFDS`]; beyond that, launchers get `ENOSPC`.
//! * The user who has opened the file answers for its guest. `Initialize` gets `EMFILE` when the user may have no more
//!   guests, `EDQUOT` when what the guest needs is more memory than the user's guests may take; `ENOSPC` when all
//!   users have as many guests as there is room for.
//! * The last close of the file ends the guest. That may be the launcher's exit for any reason, so giving
//!   everything back touches none of the launcher's memory.
//!
//! # The end of a guest
//! Its reason is text. Launchers of lguest read into a single word, find `ENOENT` there, and read
//! again into a larger buffer; so a buffer of a word gets `ENOENT`, and a larger one the text, at once and
//! as often as it is read.

use crate::errno::Errno;
use crate::linux::{Eventfd, Eventfds, Linux, Vcpu};
use crate::log::{self, Cause, Line};
use crate::module::{self, VcpuArea, module};
use crate::plugin::Plugin;
use crate::request::{self, Memory, Request};
use crate::shim::{self, RawText, RawUser, RawVcpu};
use crate::sync::Mutex;
use crate::user::{CountedGuest, User};
use crate::views::{self, Views, Visit};
use alloc_crate::boxed::Box;
use alloc_crate::string::String;
use alloc_crate::sync::Arc;
use alloc_crate::vec::Vec;
use arch_i386::addr::GuestPhys;
use arch_i386::debug::{self, Registers};
use arch_i386::launcher::{self, MAX_EVENTFDS, STRATEGY_MAX};
use arch_i386::paging::{Pae, Paging, TwoLevel};
use arch_i386::table::TablePage;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use fallible::{OutOfMemory, boxed, boxed_with};
use framework::audit::Audited;
use framework::guest::{Guest, Outcome, SetUpError};
use framework::host::Host;
use framework::kill::{End, Kill};
use framework::pager::Pager;
use framework::registry::{BuildContext, ConfigError};
use framework::strategy::{Formats, SwitcherWindow};
use framework::views::View;

/// One open file.
struct File {
    /// The guest's folder in debugfs. Goes first: until then, others look at the guest.
    views: Views,
    /// Who has opened it.
    user: User,
    /// Held while the guest runs.
    session: Mutex<Session>,
    /// The guest's virtual CPU, once there is one: for those who do not have the session.
    vcpu: AtomicPtr<RawVcpu>,
    eventfds: Eventfds,
    /// The guest has ended.
    ended: AtomicBool,
}

enum Session {
    /// No guest yet.
    Fresh(Options),
    Live(Box<Live>),
}

/// What a launcher has chosen for its guest, as far as it has.
#[derive(Default)]
struct Options {
    strategy: Option<String>,
    /// The format of the guest's page tables.
    paging: Option<Paging>,
}

impl Options {
    /// The page formats of the guest and this host.
    fn formats(&self) -> Formats {
        let shadow = module().paging;
        Formats { guest: self.paging.unwrap_or(shadow), shadow }
    }
}

/// A guest and what belongs to it, until it is dropped.
struct Live {
    // Both are there until `drop`, which takes them apart.
    guest: Option<Box<Guest>>,
    leaf: Option<TablePage>,
    host: Linux,
    /// Goes last.
    _counted: CountedGuest,
}

// SAFETY: what is not `Send` in this is the guest's strategy, with its shadow tables and the Switcher's window. They are not
// so that safe code cannot take them from their guest, not because they were of a thread: a strategy has no thread-local
// storage, and what it shares, it shares within itself, since no `static` can hold a part of it. All of it moves together,
// and the file's mutex gives it to one thread at a time.
unsafe impl Send for Live {}

impl Live {
    /// Makes a guest of the current process.
    #[inline(never)] // Or all that `File::write` does would have its frame on the stack.
    fn new(
        memory: Memory,
        start: u32,
        (strategy, formats): (&str, Formats),
        eventfds: Eventfds,
        user: &User,
    ) -> Result<Box<Self>, Errno> {
        let module = module();
        let choice = module::choose(strategy, formats, Cause::Launcher(user))?;
        let counted = user.add_guest().ok_or_else(|| {
            log::launcher_error(
                user,
                format_args!(
                    "no more guests for one user; the parameter guests_per_user is how many there can be"
                ),
            );
            Errno::EMFILE
        })?;
        let vcpu_area = VcpuArea::take(module).ok_or_else(|| {
            log::launcher_error(
                user,
                format_args!("no room for another guest; load the module with a larger max_guests"),
            );
            Errno::ENOSPC
        })?;
        let (area, number, frames) = (*vcpu_area.area(), vcpu_area.number(), vcpu_area.frames());
        let vcpu = Vcpu::new(&memory, user)?;
        let plugin = Plugin::new(user, memory.pages).ok_or(Errno::ENOMEM)?;
        let every = shim::lg_audit_every();
        // Two levels of both: that is what the Switcher can do. An audit sees every fault.
        let switcher_fills =
            formats == Formats::both(Paging::TwoLevel) && every == 0 && shim::lg_reflect() && shim::lg_fill();
        let no_execute = module.no_execute;
        let host = Linux::new((vcpu, plugin), vcpu_area, memory, eventfds, (no_execute, switcher_fills))?;

        let mut live = boxed_with(|| Self { guest: None, leaf: None, host, _counted: counted })?;
        // From here on `drop` takes it back, and gives the table back.
        shim::lg_count_guests(1);
        let Self { guest, leaf, host, .. } = &mut *live;
        let leaf = leaf.insert(host.take_table().map_err(|short| host.short_of(short))?);
        let start_of_window = match module.paging {
            Paging::TwoLevel => {
                switcher::map::map::<TwoLevel>(leaf, &area, number, frames, no_execute);
                area.window::<TwoLevel>()
            }
            Paging::Pae => {
                switcher::map::map::<Pae>(leaf, &area, number, frames, no_execute);
                area.window::<Pae>()
            }
        };
        let window = SwitcherWindow::new(start_of_window, leaf);
        let context = BuildContext { formats, window, seed: module.seed, switcher_fills };
        let guest = guest.insert(boxed_with(|| Guest::new(&context, host.regs(), start))?);
        let build = || -> Result<Box<dyn Pager>, ConfigError> {
            let paging = choice.build(&context)?;
            Ok(if every > 0 { boxed(Audited::new(paging, every.into()))? } else { paging })
        };
        guest.set_up(host, build).map_err(|reason| match reason {
            SetUpError::Config(ConfigError::OutOfMemory(short)) => host.short_of(short),
            SetUpError::Config(_) => Errno::EINVAL,
            // The only reason at this point.
            SetUpError::Killed(_) => host.short_of(OutOfMemory),
            SetUpError::Panicked(panicked) => {
                log::launcher_error(user, format_args!("{panicked}"));
                Errno::EINVAL
            }
        })?;
        Ok(live)
    }

    fn guest(&mut self) -> (&mut Guest, &mut Linux) {
        (self.guest.as_mut().expect("the guest is there until drop"), &mut self.host)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.host.begin_tear_down();
            let forgotten = guest.tear_down(&mut self.host);
            if !forgotten.is_nothing() {
                shim::lg_count_forgotten(forgotten.tables as u32);
                log::launcher_error(
                    self.host.user(),
                    format_args!("the strategy of a guest that has ended had forgotten {forgotten}"),
                );
            }
        }
        if let Some(leaf) = self.leaf.take() {
            self.host.put_back(leaf);
        }
        shim::lg_count_guests(-1);
    }
}

/// Stores bytes in the current process.
fn copy_to_user(user: u32, bytes: &[u8]) -> Result<(), Errno> {
    let len = bytes.len() as u32;
    // SAFETY: the source is `bytes`, and the destination has just been found to be user space.
    let copied =
        shim::lg_user_range_ok(user, len) && unsafe { shim::lg_copy_to_user(user, bytes.as_ptr(), len) };
    if copied { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Text on its way to the current process, without a copy of it in the kernel.
struct UserText {
    /// Where it goes, and how much there is room for.
    user: u32,
    room: u32,
    /// How long it is so far, including what there is no room for.
    length: u32,
    error: Option<Errno>,
}

impl UserText {
    /// Stores as much of a text as there is room for; returns how long all of it is.
    fn write(user: u32, room: u32, text: fmt::Arguments<'_>) -> Result<u32, Errno> {
        let mut to = Self { user, room, length: 0, error: None };
        match (to.write_fmt(text), to.error) {
            (_, Some(error)) => Err(error),
            // Nothing that is written here has errors of its own.
            (_, None) => Ok(to.length),
        }
    }
}

impl fmt::Write for UserText {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let fitting = piece.len().min(self.room.saturating_sub(self.length) as usize);
        if fitting > 0
            && let Err(error) =
                copy_to_user(self.user.wrapping_add(self.length), &piece.as_bytes()[..fitting])
        {
            self.error = Some(error);
            return Err(fmt::Error);
        }
        self.length = self.length.saturating_add(piece.len() as u32);
        Ok(())
    }
}

/// Reads bytes of the current process.
fn copy_from_user(bytes: &mut [u8], user: u32) -> Result<(), Errno> {
    let len = bytes.len() as u32;
    // SAFETY: the destination is `bytes`, and the source has just been found to be user space.
    let copied = shim::lg_user_range_ok(user, len)
        && unsafe { shim::lg_copy_from_user(bytes.as_mut_ptr(), user, len) };
    if copied { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Bytes of the address that a notification stores.
const NOTIFICATION: u32 = 4;

/// Why there is no memory for a guest when the host has some.
const USER_LIMIT: &str = "the guests of one user may take no more together than the parameter user_kib";

/// Table pages that are given back within a few hundredths of a second.
const LONG_RELEASE: usize = 1 << 9;

/// What a launcher reads of its guest.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and a box might not be had")]
enum Answer {
    Notify(GuestPhys),
    /// The vector of a trap that has stopped it.
    Trap(u8),
    /// Why it has ended, with a NUL.
    Ended(Line),
}

impl File {
    fn new(user: User) -> Result<Box<Self>, OutOfMemory> {
        boxed(Self {
            views: Views::none(),
            user,
            session: Mutex::new(Session::Fresh(Options::default()))?,
            vcpu: AtomicPtr::new(ptr::null_mut()),
            eventfds: Arc::try_new(Mutex::new_inner(Vec::new())?).map_err(|_| OutOfMemory)?,
            ended: AtomicBool::new(false),
        })
    }

    /// Whether it takes long to give back what the guest holds.
    fn release_is_long(&self) -> bool {
        // Nobody else has the file any more.
        let session = self.session.try_lock();
        session.is_some_and(|session| match &*session {
            Session::Live(live) => live.host.tables() > LONG_RELEASE,
            Session::Fresh(_) => false,
        })
    }

    /// Runs the guest until there is something to return to the launcher.
    fn read(&self, user: u32, size: u32) -> Result<u32, Errno> {
        let vcpu = self.vcpu.load(Ordering::Acquire);
        if vcpu.is_null() || size < NOTIFICATION {
            return Err(Errno::EINVAL);
        }
        // SAFETY: once set, it lives as long as the file.
        if !unsafe { shim::lg_vcpu_is_mine(vcpu) } {
            return Err(Errno::EPERM);
        }
        // The copy may take for ever. Nobody may have to wait for it.
        match self.run()? {
            Answer::Notify(GuestPhys(address)) => {
                copy_to_user(user, &address.to_le_bytes())?;
                Ok(NOTIFICATION)
            }
            Answer::Trap(vector) => {
                copy_to_user(user, &[vector])?;
                Ok(1)
            }
            Answer::Ended(text) if size > NOTIFICATION => {
                let bytes = text.bytes();
                let bytes = &bytes[..bytes.len().min(size as usize)];
                copy_to_user(user, bytes)?;
                Ok(bytes.len() as u32)
            }
            Answer::Ended(_) => Err(Errno::ENOENT),
        }
    }

    /// Runs the guest, and returns what the launcher is to read of it. Lets visitors look at it in between.
    fn run(&self) -> Result<Answer, Errno> {
        loop {
            if let Some(answer) = self.run_once()? {
                return Ok(answer);
            }
            let vcpu = self.vcpu.load(Ordering::Acquire);
            // SAFETY: once set, it lives as long as the file; and a guest has just run.
            if !unsafe { shim::lg_vcpu_let_visitors_in(vcpu) } {
                return Err(Errno::ERESTARTSYS);
            }
        }
    }

    /// Runs the guest until there is something for the launcher, or for a visitor: then `None`.
    fn run_once(&self) -> Result<Option<Answer>, Errno> {
        let mut session = self.session.lock()?;
        let Session::Live(live) = &mut *session else { return Err(Errno::EINVAL) };
        let (guest, host) = live.guest();
        let outcome = {
            let _loaded = host.vcpu().load();
            guest.run(host)
        };
        match outcome {
            Outcome::Notify(address) => Ok(Some(Answer::Notify(address))),
            Outcome::Trap(vector) => Ok(Some(Answer::Trap(vector))),
            Outcome::Interrupted => Ok(None),
            Outcome::Ended => {
                let told = self.ended.swap(true, Ordering::Relaxed);
                match guest.end() {
                    Some(defect @ (End::Killed(Kill::Audit(_)) | End::Panicked(_))) if !told => {
                        log::launcher_error(&self.user, format_args!("{defect}"));
                    }
                    _ => {}
                }
                match guest.end() {
                    Some(End::Restart) => Err(Errno::ERESTART),
                    Some(reason @ End::Killed(Kill::OutOfMemory(_) | Kill::NoMemory(_)))
                        if host.at_user_limit() =>
                    {
                        Ok(Some(Answer::Ended(Line::new(format_args!("{reason}: {USER_LIMIT}\0")))))
                    }
                    Some(reason) => Ok(Some(Answer::Ended(Line::new(format_args!("{reason}\0"))))),
                    None => Err(Errno::ENOENT),
                }
            }
        }
    }

    /// Does the launcher's request; returns what `write` returns.
    fn write(&self, user: u32, size: u32) -> Result<u32, Errno> {
        let mut buffer = [0; request::MAX];
        let bytes = &mut buffer[..(size as usize).min(request::MAX)];
        copy_from_user(bytes, user)?;
        match Request::parse(bytes).map_err(|_| Errno::EINVAL)? {
            Request::Strategy(text) => {
                let mut session = self.session.try_lock().ok_or(Errno::EBUSY)?;
                let Session::Fresh(options) = &mut *session else { return Err(Errno::EBUSY) };
                module::choose(text, options.formats(), Cause::Launcher(&self.user))?;
                let mut chosen = String::new();
                chosen.try_reserve_exact(text.len()).map_err(|_| Errno::ENOMEM)?;
                chosen.push_str(text);
                options.strategy = Some(chosen);
                Ok(8 + text.len() as u32)
            }
            Request::Paging(paging) => {
                let mut session = self.session.try_lock().ok_or(Errno::EBUSY)?;
                let Session::Fresh(options) = &mut *session else { return Err(Errno::EBUSY) };
                let formats = Formats { guest: paging, shadow: module().paging };
                if !Formats::SERVED.contains(&formats) {
                    log::launcher_error(&self.user, format_args!("{}", ConfigError::PaeGuest));
                    return Err(Errno::EINVAL);
                }
                options.paging = Some(paging);
                Ok(8)
            }
            Request::Initialize { memory, start } => {
                self.initialize(memory, start)?;
                // As lguest answers: the arguments without the request word.
                Ok(12)
            }
            Request::Irq(irq) => {
                let vcpu = self.living()?;
                // SAFETY: it lives as long as the file, and `irq` is a virtual interrupt.
                unsafe { shim::lg_vcpu_raise(vcpu, irq) };
                Ok(0)
            }
            Request::Eventfd { address, fd } => {
                self.living()?;
                let eventfd = Eventfd::from_fd(fd.cast_signed()).ok_or(Errno::EBADF)?;
                self.attach(GuestPhys(address), eventfd)?;
                Ok(0)
            }
            Request::Counters { address, len } => {
                let counters = self.with_guest(|guest, host| guest.counters(host))?;
                // The copy may take for ever; the guest's process can have the session meanwhile.
                let text = format_args!("{counters}");
                if UserText::write(address, 0, text)? > len {
                    return Err(Errno::ERANGE);
                }
                UserText::write(address, len, text)
            }
            Request::View { view, address, len } => {
                let view = match view {
                    launcher::View::Directories => View::Directories,
                    launcher::View::Tables => View::TablesWithoutFrames,
                };
                let text =
                    self.with_guest(|guest, host| views::text(|out| guest.show(host, view, out)))??;
                // The copy may take for ever; the guest's process can have the session meanwhile.
                let bytes = text.bytes();
                if bytes.len() > len as usize {
                    return Err(Errno::ERANGE);
                }
                copy_to_user(address, bytes)?;
                Ok(bytes.len() as u32)
            }
            Request::Registers(address) => {
                let registers = self.with_guest(|guest, host| guest.registers(host))?;
                copy_to_user(address, registers.to_words().map(u32::to_le_bytes).as_flattened())?;
                Ok(0)
            }
            Request::SetRegisters(address) => {
                let mut bytes = [[0; 4]; debug::WORDS];
                copy_from_user(bytes.as_flattened_mut(), address)?;
                let registers = Registers::from_words(bytes.map(u32::from_le_bytes));
                self.with_guest(|guest, host| guest.set_registers(host, registers))?;
                Ok(0)
            }
            Request::Intercept(vectors) => {
                self.with_guest(|guest, _| guest.intercept(vectors))?;
                Ok(0)
            }
            Request::PassTrapOn => {
                self.with_guest(|guest, _| guest.pass_trap_on())?;
                Ok(0)
            }
        }
    }

    /// Does something with the guest, which must not be running.
    fn with_guest<R>(&self, act: impl FnOnce(&mut Guest, &mut Linux) -> R) -> Result<R, Errno> {
        let mut session = self.session.try_lock().ok_or(Errno::EBUSY)?;
        let Session::Live(live) = &mut *session else { return Err(Errno::EINVAL) };
        let (guest, host) = live.guest();
        Ok(act(guest, host))
    }

    /// Has notifications of an address signal this eventfd, and no other.
    fn attach(&self, address: GuestPhys, eventfd: Eventfd) -> Result<(), Errno> {
        // What it replaces is given back when the list is free for the guest's process again.
        let _replaced = {
            let mut eventfds = self.eventfds.lock()?;
            match eventfds.iter().position(|(attached, _)| *attached == address) {
                Some(at) => Some(core::mem::replace(&mut eventfds[at].1, eventfd)),
                None if eventfds.len() >= MAX_EVENTFDS => return Err(Errno::ENOSPC),
                None => {
                    eventfds.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    eventfds.push((address, eventfd));
                    None
                }
            }
        };
        Ok(())
    }

    /// The text of a view of the guest, as C takes it over.
    fn show(&self, view: View) -> Result<*mut RawText, Errno> {
        let vcpu = self.vcpu.load(Ordering::Acquire);
        if vcpu.is_null() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: once set, it lives as long as the file.
        let _visit = unsafe { Visit::announce(vcpu) };
        let mut session = self.session.lock()?;
        let Session::Live(live) = &mut *session else { return Err(Errno::EINVAL) };
        let (guest, host) = live.guest();
        Ok(views::text(|out| guest.show(host, view, out))?.into_raw())
    }

    fn initialize(&self, memory: Memory, start: u32) -> Result<(), Errno> {
        let number = self.make_guest(memory, start)?;
        // SAFETY: `lg_rust_show` gets the file, which lives until the folder is removed: that is what its end begins with. A file
        // has one guest.
        unsafe { self.views.create(ptr::from_ref(self).cast(), number, &self.user) };
        Ok(())
    }

    /// Makes the guest, and returns its number.
    fn make_guest(&self, memory: Memory, start: u32) -> Result<u32, Errno> {
        let mut session = self.session.try_lock().ok_or(Errno::EBUSY)?;
        let Session::Fresh(options) = &mut *session else { return Err(Errno::EBUSY) };
        let mut buffer = [0; STRATEGY_MAX];
        let strategy = match &options.strategy {
            Some(chosen) => chosen.as_str(),
            None => {
                // SAFETY: pointer and size are the buffer's.
                let len = unsafe { shim::lg_default_strategy(buffer.as_mut_ptr(), STRATEGY_MAX as u32) };
                str::from_utf8(&buffer[..len as usize]).map_err(|_| Errno::EINVAL)?
            }
        };
        let eventfds = Arc::clone(&self.eventfds);
        let live = Live::new(memory, start, (strategy, options.formats()), eventfds, &self.user)?;
        let number = live.host.number();
        self.vcpu.store(live.host.vcpu().raw(), Ordering::Release);
        *session = Session::Live(live);
        Ok(number)
    }

    /// The virtual CPU of a guest that has not ended.
    fn living(&self) -> Result<*mut RawVcpu, Errno> {
        let vcpu = self.vcpu.load(Ordering::Acquire);
        if vcpu.is_null() {
            Err(Errno::EINVAL)
        } else if self.ended.load(Ordering::Relaxed) {
            Err(Errno::ENOENT)
        } else {
            Ok(vcpu)
        }
    }
}

/// What C gives back as it got it from `lg_rust_open`.
///
/// # Safety
/// `file` comes from `lg_rust_open` and has not gone to `lg_rust_release`.
unsafe fn from_c<'a>(file: *const File) -> &'a File {
    // SAFETY: the caller's promise.
    unsafe { &*file }
}

fn to_c(result: Result<u32, Errno>) -> i32 {
    // No answer is longer than a buffer of the kernel, so it fits.
    result.map_or_else(Errno::negative, |bytes| bytes as i32)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lg_rust_open(user: *mut RawUser) -> *mut File {
    // SAFETY: C gives its reference away.
    File::new(unsafe { User::from_raw(user) }).map_or(ptr::null_mut(), Box::into_raw)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lg_rust_release_is_long(file: *const File) -> bool {
    // SAFETY: C calls this before release.
    unsafe { from_c(file) }.release_is_long()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lg_rust_close_views(file: *const File) {
    // SAFETY: C calls this before release.
    unsafe { from_c(file) }.views.remove();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lg_rust_show(file: *const File, view: u32, text: *mut *mut RawText) -> i32 {
    let Some(&view) = View::ALL.get(view as usize) else { return Errno::EINVAL.negative() };
    // SAFETY: C calls this as long as the file's folder is there, which goes before the file.
    match unsafe { from_c(file) }.show(view) {
        Ok(made) => {
            // SAFETY: C has a word for it.
            unsafe { text.write(made) };
            0
        }
        Err(error) => error.negative(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lg_rust_release(file: *mut File) {
    // SAFETY: the last user of the file is gone, and it came from `lg_rust_open`.
    drop(unsafe { Box::from_raw(file) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lg_rust_read(file: *const File, user: u32, size: u32) -> i32 {
    // SAFETY: C calls this between open and release.
    to_c(unsafe { from_c(file) }.read(user, size))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lg_rust_write(file: *const File, user: u32, size: u32) -> i32 {
    // SAFETY: C calls this between open and release.
    to_c(unsafe { from_c(file) }.write(user, size))
}
