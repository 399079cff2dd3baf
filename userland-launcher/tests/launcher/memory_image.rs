//! What the guest finds in memory when it starts.

use crate::support::elf::Elf;
use crate::support::{Screen, disk_name, piped_terminal};
use arch_i386::paging::Paging;
use clap::Parser;
use std::path::PathBuf;
use std::sync::Arc;
use userland_launcher::cli::Cli;
use userland_launcher::devices::AnyDevice;
use userland_launcher::devices::block::Block;
use userland_launcher::devices::bus::{Layout, TooManyDevices};
use userland_launcher::devices::console::Console;
use userland_launcher::files::Files;
use userland_launcher::launch::{LaunchError, Prepared};
use userland_launcher::sockets::Sockets;
use userland_launcher::terminal::Terminal;

/// A folder with a good kernel, and a command line that starts it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("kernel", &Elf::good().bytes());
        folder
    }

    fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn prepare(&self, options: &[&str]) -> Result<Prepared, LaunchError> {
        let kernel = self.0.path().join("kernel").into_os_string().into_string().unwrap();
        let line = std::iter::once("lguest").chain(options.iter().copied()).chain([kernel.as_str(), "quiet"]);
        let (terminal, _) = piped_terminal();
        let cli = Cli::parse_from(line);
        let mut files = Files::open(&cli, &Sockets::default())?;
        files.host_paging = Some(Paging::Pae);
        Prepared::new(&cli, &files, &terminal, &Screen::default().output())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn kernel_parameters_initrd_and_devices_are_in_their_places() {
    let folder = Folder::new();
    let initrd = folder.write("initrd", &[0x77; 5000]);
    let mut prepared = folder.prepare(&["--memory", "4M", "--initrd", initrd.to_str().unwrap()]).unwrap();
    let memory = prepared.memory().bytes_mut();
    // A device page and two rings of three pages for the console.
    assert_eq!(memory.len(), (4 << 20) + 7 * 4096);
    assert_eq!(memory[0x10_0000..0x10_0004], [1, 2, 3, 4]);
    let line = u32_at(memory, 0x228) as usize;
    assert!(memory[line..].starts_with(b"lguest.paging=3 quiet\0"));
    assert_eq!((u32_at(memory, 0x218), u32_at(memory, 0x21c)), ((4 << 20) - 8192, 5000));
    assert_eq!(memory[(4 << 20) - 8193], 0);
    assert!(memory[(4 << 20) - 8192..][..5000].iter().all(|&byte| byte == 0x77));
    assert_eq!(memory[4 << 20], 3, "the device page begins with the console");
}

#[test]
fn an_initrd_that_does_not_fit_says_how_much_memory_would_do() {
    let folder = Folder::new();
    // The kernel ends in the page at 1 MiB; the last page but one is the first that may be used.
    let fits = folder.write("fits", &vec![0; (1 << 20) - 4096]);
    assert!(folder.prepare(&["--memory", "2M", "--initrd", fits.to_str().unwrap()]).is_ok());
    let larger = folder.write("larger", &vec![0; (1 << 20) - 4095]);
    let refused = folder.prepare(&["--memory", "2M", "--initrd", larger.to_str().unwrap()]);
    let Err(error @ LaunchError::InitrdTooLarge { .. }) = refused else { panic!("taken") };
    assert!(error.to_string().contains("--memory 3M"), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let folder = Folder::new();
    let missing = |option| match folder.prepare(&[option, "/nonexistent/file"]) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{option} does not mind"),
    };
    for option in ["--initrd", "--block"] {
        assert!(missing(option).contains("/nonexistent/file"));
    }
    let line = "x".repeat(2048);
    assert!(matches!(folder.prepare(&["--append", &line]), Err(LaunchError::CommandLine(_))));
}

/// A device as a Linux guest reads it from the device page.
#[derive(Debug, PartialEq)]
struct Described {
    kind: u8,
    /// Entries, interrupt and page of each ring.
    rings: Vec<(u16, u16, u32)>,
    offered: Vec<u8>,
    config: Vec<u8>,
}

fn described(page: &[u8]) -> Vec<Described> {
    let mut devices = Vec::new();
    let mut at = 0;
    while at < page.len() && page[at] != 0 {
        let [kind, queues, features, config, status] = page[at..at + 5].try_into().unwrap();
        assert_eq!(status, 0);
        at += 5;
        let mut rings = Vec::new();
        for _ in 0..queues {
            let half = |at: usize| u16::from_le_bytes(page[at..at + 2].try_into().unwrap());
            rings.push((half(at), half(at + 2), u32_at(page, at + 4)));
            at += 8;
        }
        let (features, config) = (usize::from(features), usize::from(config));
        let offered = page[at..at + features].to_vec();
        assert!(page[at + features..at + 2 * features].iter().all(|&byte| byte == 0));
        at += 2 * features;
        devices.push(Described { kind, rings, offered, config: page[at..at + config].to_vec() });
        at += config;
    }
    devices
}

#[test]
fn the_device_page_describes_the_devices() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(512 * 3).unwrap();
    let (terminal, _) = piped_terminal();
    let devices: [AnyDevice; 2] = [
        Console::new(terminal, Screen::default().output()).into(),
        Block::open(&disk_name(file.path())).unwrap().into(),
    ];
    let layout = Layout::new(&devices, arch_i386::addr::GuestFrame(0x2000)).unwrap();
    assert_eq!(layout.page.len(), 4096);
    let console = Described {
        kind: 3,
        rings: vec![(256, 1, 0x2001), (256, 2, 0x2004)],
        offered: vec![],
        config: vec![],
    };
    // Features 2 (seg_max) and 9 (flush); 3 sectors, no size_max, 254 segments.
    let disk = Described {
        kind: 2,
        rings: vec![(256, 3, 0x2007)],
        offered: vec![0x04, 0x02],
        config: vec![3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 254, 0, 0, 0],
    };
    assert_eq!(described(&layout.page), [console, disk]);
    assert_eq!(layout.page_limit, 0x200a);
}

#[test]
fn the_bus_has_31_interrupts() {
    let terminal = |_| {
        let (terminal, _) = piped_terminal();
        AnyDevice::from(Console::new(terminal, Screen::default().output()))
    };
    let devices: Vec<_> = (0..15).map(terminal).collect();
    assert!(Layout::new(&devices, arch_i386::addr::GuestFrame(0)).is_ok());
    let devices: Vec<_> = (0..16).map(terminal).collect();
    assert_eq!(Layout::new(&devices, arch_i386::addr::GuestFrame(0)).unwrap_err(), TooManyDevices);
}

#[test]
fn a_pipe_is_left_alone_by_the_terminal() {
    let (terminal, _keyboard): (Arc<Terminal>, _) = piped_terminal();
    assert!(!terminal.is_interactive());
    terminal.hand_over().unwrap();
}
