//! What QEMU calls, and what of QEMU is called: its plug-in interface, version 1 (`qemu-plugin.h`, as QEMU 7.2
//! documents it; Debian does not package the header).

use crate::counters::Counters;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{ptr, slice};

/// A translation block while QEMU makes it.
#[repr(C)]
struct Block([u8; 0]);

/// An instruction of such a block.
#[repr(C)]
struct Instruction([u8; 0]);

/// `QEMU_PLUGIN_CB_NO_REGS`: a call does not look at the processor.
const NO_REGISTERS: c_uint = 0;
/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_uint = 0;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, call: extern "C" fn(u64, *mut Block));
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const u8;
    fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    fn qemu_plugin_insn_haddr(instruction: *const Instruction) -> *mut c_void;
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        call: extern "C" fn(c_uint, *mut c_void),
        flags: c_uint,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_inline(
        instruction: *mut Instruction,
        operation: c_uint,
        counter: *mut c_void,
        operand: u64,
    );
}

/// `xchg %cx,%cx`.
const BEGIN: [u8; 3] = [0x66, 0x87, 0xc9];
/// `xchg %dx,%dx`.
const END: [u8; 3] = [0x66, 0x87, 0xd2];

static COUNTERS: LazyLock<Mutex<Counters>> = LazyLock::new(Mutex::default);
static FILE: OnceLock<PathBuf> = OnceLock::new();

fn counters() -> MutexGuard<'static, Counters> {
    COUNTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The version of the interface.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU looks for this name")]
pub static qemu_plugin_version: c_int = 1;

/// QEMU has loaded the plug-in, with `count` arguments of the form `name=value`. Anything but 0 ends QEMU.
///
/// # Safety
/// `arguments` has to name that many strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let arguments: Vec<_> = match usize::try_from(count) {
        // SAFETY: QEMU hands over `count` strings that live as long as the plug-in.
        Ok(count @ 1..) => unsafe { slice::from_raw_parts(arguments, count) }.to_vec(),
        _ => Vec::new(),
    };
    let mut file = None;
    for argument in arguments {
        // SAFETY: as above.
        let argument = unsafe { CStr::from_ptr(argument) }.to_string_lossy();
        match argument.split_once('=') {
            Some(("out", path)) => file = Some(PathBuf::from(path)),
            _ => {
                eprintln!("qemu-counter: `{argument}` means nothing; there is out=FILE");
                return 1;
            }
        }
    }
    let Some(file) = file else {
        eprintln!("qemu-counter: say where the counts go: out=FILE");
        return 1;
    };
    FILE.get_or_init(|| file);
    // SAFETY: the call that the interface is for, with a function of the type that it requires.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// QEMU makes a block: each of its instructions gets its counter, marks get their call.
extern "C" fn translated(_id: u64, block: *mut Block) {
    let mut counters = counters();
    // SAFETY: the block and its instructions are QEMU's for the time of this call; a counter lives for ever
    // and is nothing but eight bytes.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let place =
                (qemu_plugin_insn_haddr(instruction).addr() as u64, qemu_plugin_insn_vaddr(instruction));
            let counter = counters.of(place).as_ptr().cast();
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, counter, 1);
            let size = qemu_plugin_insn_size(instruction);
            let call = match slice::from_raw_parts(qemu_plugin_insn_data(instruction), size) {
                bytes if *bytes == BEGIN => begin,
                bytes if *bytes == END => end,
                _ => continue,
            };
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, call, NO_REGISTERS, ptr::null_mut());
        }
    }
}

extern "C" fn begin(_processor: c_uint, _data: *mut c_void) {
    counters().begin();
}

extern "C" fn end(_processor: c_uint, _data: *mut c_void) {
    let mut counters = counters();
    counters.end();
    let Some(path) = FILE.get() else { return };
    if let Err(error) = File::create(path).and_then(|file| counters.write(&mut BufWriter::new(file))) {
        eprintln!("qemu-counter: cannot write {}: {error}", path.display());
    }
}
