//! The constructors of the strategies and plug-ins, which this module runs itself: Debian's i386 kernels run none
//! (CONFIG_CONSTRUCTORS is not set).

/// A constructor, as the `ctor` crate makes them.
type Constructor = extern "C" fn();

unsafe extern "C" {
    // Bounds of the list, set by the link script (xtask/src/prelink.rs).
    static lg_constructors_start: [Constructor; 0];
    static lg_constructors_stop: [Constructor; 0];
}

/// Runs all, in the order of their priorities. To be called once, before anything that they register is looked for.
pub fn run() {
    // SAFETY: the link script puts both symbols round the list, which nothing changes after the module is loaded.
    let all = unsafe {
        let (start, stop) = (lg_constructors_start.as_ptr(), lg_constructors_stop.as_ptr());
        core::slice::from_raw_parts(start, stop.offset_from_unsigned(start))
    };
    for constructor in all {
        constructor();
    }
}
