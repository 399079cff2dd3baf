//! What the i386 architecture and the lguest ABI fix.
//!
//! Nothing here decides anything: this crate names the formats, numbers and memory layouts that
//! processor, guest and launcher have agreed on, so that every other crate spells them the same way.
//! It allocates nothing, executes no privileged instruction and depends on nothing of this project.
//!
//! | module | what it fixes | source |
//! | --- | --- | --- |
//! | [`addr`] | address and frame-number newtypes | – |
//! | [`paging`] | page-table entries and the two page formats | Intel SDM vol. 3A, 4.3 and 4.4 |
//! | [`shadow_tables`] | what the framework and the Switcher agree on about shadow tables | SDM vol. 3A, 4.3 |
//! | [`table`] | one page-table page in memory | – |
//! | [`trap`] | exception vectors and page-fault error codes | SDM vol. 3A, 6.3 and 4.7 |
//! | [`segment`] | segment and gate descriptors, the guest's selectors | SDM vol. 3A, 3.4.5 and 6.11 |
//! | [`regs`] | the register frame that the Switcher saves | lguest's `asm/lguest.h` |
//! | [`kernel_view`] | what the Switcher must know to work on a guest's memory | – |
//! | [`done_in_switcher`] | what the Switcher has done by itself: hypercalls, fills | – |
//! | [`hypercall`] | hypercall numbers and arguments | lguest's `asm/lguest_hcall.h` |
//! | [`lguest_data`] | the page that guest and host share | lguest's `linux/lguest.h` |
//! | [`debug`] | what a debugger in a launcher exchanges with the host | – |
//! | [`launcher`] | the requests on `/dev/lguest`, the device page | lguest's `linux/lguest_launcher.h` |
#![no_std]

pub mod addr;
pub mod debug;
pub mod done_in_switcher;
pub mod hypercall;
pub mod kernel_view;
pub mod launcher;
pub mod lguest_data;
pub mod paging;
pub mod regs;
pub mod segment;
pub mod shadow_tables;
pub mod table;
pub mod trap;

pub use x86_64::registers::rflags::RFlags;
