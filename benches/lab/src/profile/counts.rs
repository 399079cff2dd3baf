//! What the plug-in has counted (`benches/lab/qemu-counter`), and to which world's function each count belongs.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use anyhow::Result;

use super::symbols::{Functions, Kallsyms};

/// Linux's `PAGE_OFFSET`, and that of the example guest.
const KERNEL_HALF: u64 = 0xc000_0000;

/// Whose code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum World {
    /// The guest's kernel.
    GuestKernel,
    /// Programs: the guest's, and the launcher when it is called.
    Programs,
    /// The world switch.
    Switcher,
    /// `lg.ko`.
    Module,
    /// The host's kernel.
    HostKernel,
}

impl Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            World::GuestKernel => "guest kernel",
            World::Programs => "programs",
            World::Switcher => "Switcher",
            World::Module => "module",
            World::HostKernel => "host kernel",
        })
    }
}

/// All that is needed to find which function is at an address.
pub struct Map<'a> {
    /// The host; none on the bare machine.
    pub host: Option<HostMap>,
    /// The guest's kernel, which is all that there is on the bare machine.
    pub guest: &'a Functions,
}

/// What a host executes.
pub struct HostMap {
    /// Its kernel and the module.
    pub symbols: Kallsyms,
    /// The Switcher, where it runs.
    pub switcher: Functions,
}

impl Map<'_> {
    /// Whose function is at an address; `host_linear` means that the host's kernel sees there the memory which
    /// the instruction was fetched from.
    fn find(&self, address: u64, host_linear: bool) -> (World, &str) {
        let (world, name) = if address < KERNEL_HALF {
            (World::Programs, None)
        } else if let Some(found) = self.host.as_ref().and_then(|host| host.find(address, host_linear)) {
            found
        } else {
            (World::GuestKernel, self.guest.at(address))
        };
        (world, name.unwrap_or(if world == World::Programs { "(all)" } else { "(unknown)" }))
    }
}

impl HostMap {
    /// As [`Map::find`]; none if it is nothing of the host's.
    fn find(&self, address: u64, host_linear: bool) -> Option<(World, Option<&str>)> {
        if host_linear {
            return Some((World::HostKernel, self.symbols.kernel.at(address)));
        }
        let switcher = self.switcher.at(address).map(|name| (World::Switcher, Some(name)));
        switcher.or_else(|| Some((World::Module, Some(self.symbols.module.at(address)?))))
    }
}

/// Instructions by world and function.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Profile {
    functions: BTreeMap<(World, String), u64>,
}

/// The part of a world in a profile.
pub const WORLDS: [World; 5] =
    [World::GuestKernel, World::Programs, World::Switcher, World::Module, World::HostKernel];

impl Profile {
    /// Adds up what the plug-in has written.
    pub fn read(counts: &str, map: &Map<'_>) -> Result<Profile> {
        let mut lines = counts.lines().peekable();
        let hex = |word: Option<&str>| u64::from_str_radix(word?, 16).ok();
        let linear = lines.next_if(|line| line.starts_with("linear ")).and_then(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some(hex(words.next())?.wrapping_sub(hex(words.next())?))
        });
        if map.host.is_some() && linear.is_none() {
            anyhow::bail!("the plug-in's file does not begin with the line `linear`: did the kernel start?");
        }
        let mut profile = Profile::default();
        for line in lines {
            let mut words = line.split_whitespace();
            let (place, address) = (hex(words.next()), hex(words.next()));
            let count = words.next().and_then(|word| word.parse::<u64>().ok());
            let (Some(place), Some(address), Some(count)) = (place, address, count) else {
                anyhow::bail!("`{line}` in the plug-in's file is not: place address count");
            };
            let (world, name) = map.find(address, Some(place.wrapping_sub(address)) == linear);
            *profile.functions.entry((world, name.to_owned())).or_default() += count;
        }
        Ok(profile)
    }

    /// All instructions.
    pub fn total(&self) -> u64 {
        self.functions.values().sum()
    }

    /// Those of a world.
    pub fn of(&self, world: World) -> u64 {
        self.functions.iter().filter(|((w, _), _)| *w == world).map(|(_, count)| count).sum()
    }

    /// The functions, the one with the most instructions first.
    pub fn sorted(&self) -> Vec<(World, &str, u64)> {
        let mut all: Vec<_> =
            self.functions.iter().map(|((world, name), &count)| (*world, name.as_str(), count)).collect();
        all.sort_by_key(|&(world, name, count)| (std::cmp::Reverse(count), world, name));
        all
    }

    /// As lines `world;function count`, which programs that draw flame graphs read.
    pub fn collapsed(&self) -> String {
        self.sorted().iter().map(|(world, name, count)| format!("{world};{name} {count}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::flavour::Flavour;

    const KALLSYMS: &str = "c1000000 T _stext\nc1000100 T schedule\nc1002000 T _etext\n\
        f8a00000 t lguest_switcher_two_level_start\t[lg]\nf8a01010 t lg_read\t[lg]";

    fn read(counts: &str) -> Result<Profile> {
        let host = Kallsyms::parse(KALLSYMS.lines()).unwrap();
        let guest = Functions::new([(0xc100_0000, "guest_entry".to_owned())], 0xc100_1000);
        let switcher = host.switcher(Flavour::Plain, 0xffc0_0000).unwrap();
        Profile::read(counts, &Map { host: Some(HostMap { symbols: host, switcher }), guest: &guest })
    }

    #[test]
    fn one_address_in_two_worlds_is_two_functions() {
        // Memory is at 0x7000_0000 in QEMU, and the host's kernel sees it from 0xc000_0000 on.
        let counts = "linear 71000000 c1000000\n\
            71000104 c1000104 5\n75000104 c1000104 7\n76000010 ffc00010 1\n77000000 f8a01014 2\n\
            71000108 c1000108 10\n78000000 8048000 3\n78000004 c2000000 4\n";
        let profile = read(counts).unwrap();
        let expected = [
            (World::HostKernel, "schedule", 15),
            (World::GuestKernel, "guest_entry", 7),
            (World::GuestKernel, "(unknown)", 4),
            (World::Programs, "(all)", 3),
            (World::Module, "lg_read", 2),
            (World::Switcher, "lguest_switcher_two_level_start", 1),
        ];
        assert_eq!(profile.sorted(), expected);
        assert_eq!((profile.total(), profile.of(World::GuestKernel)), (32, 11));
        assert!(profile.collapsed().starts_with("host kernel;schedule 15\nguest kernel;guest_entry 7\n"));
    }

    #[test]
    fn on_the_bare_machine_there_is_one_kernel() {
        let kernel = Functions::new([(0xc100_0000, "schedule".to_owned())], 0xc100_1000);
        let counts = "71000104 c1000104 5\n78000000 8048000 3\n";
        let profile = Profile::read(counts, &Map { host: None, guest: &kernel }).unwrap();
        assert_eq!(profile.sorted(), [(World::GuestKernel, "schedule", 5), (World::Programs, "(all)", 3)]);
    }

    #[test]
    fn what_is_no_count_is_an_error() {
        for counts in ["", "71000104 c1000104 5\n", "linear 7 c1000000\n71000104 c1000104\n"] {
            assert!(read(counts).is_err(), "{counts:?}");
        }
    }
}
