//! The C functions that `lg_shim.h` declares, as Rust sees them. That file describes what each does and in which context.
//! `cargo xtask build` refuses a module in which the two differ, in a name, a type or an argument's name.

use core::ffi::c_void;
use core::sync::atomic::AtomicU32;

/// A virtual CPU of the C side. These words are for both sides: the pending interrupts, CR2 after a page fault and what the
/// Switcher missed when it looked at that, and where there is a word for the frame of each page of the guest's.
#[repr(C)]
pub struct RawVcpu {
    pub pending: AtomicU32,
    pub cr2: AtomicU32,
    pub missed: AtomicU32,
    pub frames: *const AtomicU32,
    rest: [u8; 0],
}

/// What the C side keeps of a guest's plug-in code. This word is for both sides: one of `OUTSIDE`, `INSIDE`, `PANICS`.
#[repr(C)]
pub struct RawPlugin {
    pub state: AtomicU32,
    rest: [u8; 0],
}

/// A text for a reader: how long it is, and the text.
#[repr(C)]
pub struct RawText {
    pub length: u32,
    pub bytes: [u8; 0],
}

/// Plug-in code is not at work, but Rust's own code or C, also when it was called by plug-in code.
pub const OUTSIDE: u32 = 0;
/// Plug-in code is at work.
pub const INSIDE: u32 = 1;
/// Plug-in code has panicked, and its words are being written, by itself in part.
pub const PANICS: u32 = 2;

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub struct $name {
            opaque: [u8; 0],
        }
    )*};
}

opaque! {
    /// `struct mutex`.
    RawMutex,
    /// `struct lg_user`.
    RawUser,
    /// `struct eventfd_ctx`.
    RawEventfd,
    /// `struct lg_recording`.
    RawRecording,
    /// `struct lg_views`.
    RawViews
}

unsafe extern "C" {
    pub fn lg_log_error(text: *const u8, length: u32);
    pub fn lg_log_for_user(user: *const RawUser) -> bool;
    pub fn lg_bug(text: *const u8, length: u32) -> !;
    pub fn lg_default_strategy(to: *mut u8, size: u32) -> u32;
    pub safe fn lg_audit_every() -> u32;
    pub safe fn lg_reflect() -> bool;
    pub safe fn lg_switch() -> bool;
    pub safe fn lg_fill() -> bool;
    pub safe fn lg_direct_map() -> u32;
    pub safe fn lg_clears_buffers() -> bool;
    pub safe fn lg_count_guests(change: i32);
    pub safe fn lg_count_forgotten(pages: u32);

    pub safe fn lg_fail_vcpu() -> bool;

    pub safe fn lg_mutex_create(inner: bool) -> *mut RawMutex;
    pub fn lg_mutex_destroy(mutex: *mut RawMutex);
    pub fn lg_mutex_lock(mutex: *mut RawMutex) -> bool;
    pub fn lg_mutex_try_lock(mutex: *mut RawMutex) -> bool;
    pub fn lg_mutex_unlock(mutex: *mut RawMutex);

    pub fn lg_user_get(user: *mut RawUser) -> *mut RawUser;
    pub fn lg_user_put(user: *mut RawUser);
    pub fn lg_user_add_guest(user: *mut RawUser) -> bool;
    pub fn lg_user_remove_guest(user: *mut RawUser);
    pub fn lg_user_charge(user: *mut RawUser, bytes: u32) -> bool;
    pub fn lg_user_uncharge(user: *mut RawUser, bytes: u32);

    pub fn lg_plugin_create(user: *mut RawUser, guest_pages: u32) -> *mut RawPlugin;
    pub fn lg_plugin_destroy(plugin: *mut RawPlugin);
    pub fn lg_plugin_guard(
        plugin: *mut RawPlugin,
        call: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
    ) -> bool;
    pub safe fn lg_plugin_at_work() -> *mut RawPlugin;
    pub fn lg_plugin_panicked(plugin: *mut RawPlugin, words: *const u8, length: u32) -> !;
    pub fn lg_plugin_words(plugin: *const RawPlugin, length: *mut u32) -> *const u8;
    pub fn lg_plugin_charge(plugin: *mut RawPlugin, size: u32) -> bool;
    pub fn lg_plugin_uncharge(plugin: *mut RawPlugin, size: u32);
    pub fn lg_plugin_at_user_limit(plugin: *const RawPlugin) -> bool;
    pub fn lg_plugin_reclaim(plugin: *mut RawPlugin);

    pub safe fn lg_alloc(size: u32, align: u32) -> *mut u8;
    pub fn lg_free(memory: *mut u8);
    pub fn lg_table_alloc(frame: *mut u32) -> *mut [u64; 512];
    pub fn lg_table_free(page: *mut [u64; 512]);

    pub safe fn lg_user_range_ok(user: u32, size: u32) -> bool;
    pub fn lg_copy_from_user(to: *mut u8, user: u32, size: u32) -> bool;
    pub fn lg_get_ring_entry(call: *mut c_void, status: u32, user: u32) -> i32;
    pub fn lg_get_user_32(user: u32) -> u64;
    pub fn lg_get_user_64(to: *mut u64, user: u32) -> bool;
    pub fn lg_put_user_8(user: u32, value: u8) -> bool;
    pub fn lg_put_user_32(user: u32, value: u32) -> bool;
    pub fn lg_copy_to_user(user: u32, from: *const u8, size: u32) -> bool;

    pub fn lg_area_create(pages: u32, span: u32, text: *const u8, length: u32) -> u32;
    pub fn lg_area_destroy();
    pub fn lg_area_frame(n: u32) -> u32;

    pub fn lg_vcpu_set_entry(selector: u32, address: u32);
    pub fn lg_vcpu_create(start: u32, pages: u32, error: *mut i32) -> *mut RawVcpu;
    pub fn lg_vcpu_destroy(vcpu: *mut RawVcpu);
    pub fn lg_vcpu_is_mine(vcpu: *const RawVcpu) -> bool;
    pub fn lg_frame_learn(vcpu: *mut RawVcpu, page: u32, purpose: u32) -> u32;
    pub fn lg_frames_stale(vcpu: *const RawVcpu) -> bool;
    pub fn lg_frames_take(vcpu: *mut RawVcpu, set: *mut u32) -> bool;
    pub fn lg_frames_counts(vcpu: *const RawVcpu, known: *mut u32, gone: *mut u32, retried: *mut u32);
    pub fn lg_vcpu_load(vcpu: *mut RawVcpu);
    pub fn lg_vcpu_put(vcpu: *mut RawVcpu);
    pub fn lg_vcpu_enter(vcpu: *mut RawVcpu, state: *mut c_void, seen: u32, ts: u32) -> u32;
    pub fn lg_vcpu_interrupted(vcpu: *mut RawVcpu) -> bool;
    pub safe fn lg_vcpu_reschedule_point() -> bool;
    pub fn lg_vcpu_raise(vcpu: *mut RawVcpu, irq: u32);
    pub fn lg_vcpu_wait(vcpu: *mut RawVcpu, mask: u32);
    pub fn lg_vcpu_set_timer(vcpu: *mut RawVcpu, nanoseconds: u32);

    pub fn lg_wall_clock(seconds: *mut u32, nanoseconds: *mut u32);
    pub safe fn lg_tsc_khz() -> u32;

    pub fn lg_vcpu_visit(vcpu: *mut RawVcpu);
    pub fn lg_vcpu_visited(vcpu: *mut RawVcpu);
    pub fn lg_vcpu_let_visitors_in(vcpu: *mut RawVcpu) -> bool;

    pub safe fn lg_eventfd_get(fd: i32) -> *mut RawEventfd;
    pub fn lg_eventfd_put(eventfd: *mut RawEventfd);
    pub fn lg_eventfd_signal(eventfd: *mut RawEventfd);

    pub fn lg_recording_create(number: u32, plugin: *mut RawPlugin) -> *mut RawRecording;
    pub fn lg_recording_write(recording: *mut RawRecording, piece: *const u8, size: u32) -> bool;
    pub fn lg_recording_end(recording: *mut RawRecording);

    pub fn lg_views_create(file: *const c_void, number: u32, user: *const RawUser) -> *mut RawViews;
    pub fn lg_views_remove(views: *mut RawViews);
    pub fn lg_text_create(size: u32, error: *mut i32) -> *mut RawText;
    pub fn lg_text_destroy(text: *mut RawText);

    pub safe fn lg_trace_exit(guest: u32, kind: u32, vector: u32, eip: u32);
    pub safe fn lg_trace_hypercall(guest: u32, ring: u32, number: u32, a: u32, b: u32, c: u32, d: u32);
    pub safe fn lg_trace_fault(guest: u32, va: u32, error: u32, outcome: u32);
    pub safe fn lg_trace_load(guest: u32, directory: u32, hit: u32);
    pub safe fn lg_trace_evict(guest: u32, victim: u32, incoming: u32);
    pub safe fn lg_trace_flush(guest: u32, entries: u32);
    pub safe fn lg_trace_table_alloc(guest: u32, frame: u32, kind: u32);
    pub safe fn lg_trace_table_free(guest: u32, frame: u32, kind: u32);
    pub safe fn lg_trace_in_switcher(guest: u32, calls: u32, ring_calls: u32, reflected: u32, fills: u32);
}
