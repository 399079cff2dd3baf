//! The parts of `lguest`, the program that owns a guest.
//!
//! A guest is a process here: its physical memory is a mapping, its devices are threads, and running it
//! is reading `/dev/lguest`. This library prepares the memory, speaks with the kernel module, and serves
//! the devices; `main.rs` gives it a terminal. The guest is not trusted: what it writes
//! to memory or notifies can end it, and nothing else.
//!
//! | module | its part |
//! | --- | --- |
//! | [`cli`], [`lguest_c`], [`memory_size`], [`user`] | what the user asked for |
//! | [`files`], [`disk_file`], [`tap`], [`sockets`], [`opener`], [`helper`] | what the launcher opens, at the start and later, and removes at its end |
//! | [`confinement`] | what it gives up in between |
//! | [`kernel`], [`unpack`], [`lzop`], [`boot_params`], [`paging`] | what the guest finds in memory when it starts |
//! | [`guest_memory`] | that memory, shared with a running guest |
//! | [`host`] | the kernel module's requests |
//! | [`launch`], [`launch_error`], [`run`](mod@run) | a guest's life from start to end, and again after a restart |
//! | [`hints`] | what the user should know of a kernel that states too little |
//! | [`control`], [`monitor`], [`cpu_time`] | what others may do with it meanwhile, and how long |
//! | [`gdb`] | a debugger on its kernel |
//! | [`outcome`], [`visible`], [`counters`], [`spans`], [`hardware_counters`], [`recording`] | what is reported about it afterwards |
//! | [`top`], [`rates`], [`guest_views`] | what all guests of the host do, for people to watch |
//! | [`virtqueue`], [`devices`] | virtio on the lguest bus and on a PCI bus |
//! | [`instruction`] | what the guest executes to use the latter |
//! | [`terminal`], [`console_output`] | the two ends of the console |

pub mod boot_params;
pub mod cli;
pub mod confinement;
pub mod console_output;
pub mod control;
pub mod counters;
pub mod cpu_time;
pub mod devices;
pub mod disk_file;
pub mod files;
pub mod gdb;
pub mod guest_memory;
pub mod guest_views;
pub mod hardware_counters;
pub mod helper;
pub mod hints;
pub mod host;
pub mod instruction;
pub mod kernel;
pub mod launch;
pub mod launch_error;
pub mod lguest_c;
pub mod lzop;
pub mod memory_size;
pub mod monitor;
pub mod opener;
pub mod outcome;
pub mod paging;
pub mod rates;
pub mod recording;
pub mod run;
pub mod sockets;
pub mod spans;
pub mod tap;
pub mod terminal;
pub mod top;
pub mod unpack;
pub mod user;
pub mod virtqueue;
pub mod visible;
