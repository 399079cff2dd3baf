//! The launcher's parts together, with a guest and a host that the tests play.
//!
//! | file | what it checks |
//! | --- | --- |
//! | `kernel` | which files are kernels, the error for each other one, and where segments go |
//! | `memory_image` | what a guest finds in memory: kernel, boot parameters, initrd, devices |
//! | `virtqueue` | rings against a model of an honest driver, and against hostile ones |
//! | `devices` | each device's answers, served without a thread |
//! | `background` | the console in the background of a shell, at a real terminal |
//! | `pci` | what a guest finds on the PCI bus, and devices there in use |
//! | `life` | a guest's life on a scripted host, from start to exit code |
//! | `gdb` | a debugger on a guest that runs on one |
//! | `monitor` | what other programs do with a guest that runs on one |
//! | `sockets` | the program itself: whose sockets it takes, and what it leaves |

mod background;
mod devices;
mod gdb;
mod kernel;
mod life;
mod memory_image;
mod monitor;
mod pci;
mod sockets;
mod support;
mod virtqueue;
