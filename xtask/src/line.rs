//! The lines of kernels of which Debian has packages for i386. A line is fetched as a whole: all of its kernels are of one
//! version, and share headers and build tools. And those of which it has the source only, whose kernels are built one by one.

use serde::{Deserialize, Serialize};

use crate::apt_sources;
use crate::flavour::Flavour;

/// One line of kernels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// Debian 12's own, 6.1.
    #[default]
    Bookworm,
    /// The same with PREEMPT_RT.
    RealTime,
    /// Debian 11's own, 5.10.
    Bullseye,
    /// 6.12, as source.
    Source612,
    /// 7.3, as source.
    Source73,
}

impl Line {
    /// All of them.
    pub const ALL: [Line; 5] =
        [Line::Bookworm, Line::RealTime, Line::Bullseye, Line::Source612, Line::Source73];

    /// The source package that its kernels are built of, such as `6.12` of `linux-source-6.12`; none where they are packages.
    pub fn source(self) -> Option<&'static str> {
        match self {
            Line::Bookworm | Line::RealTime | Line::Bullseye => None,
            Line::Source612 => Some("6.12"),
            Line::Source73 => Some("7.3"),
        }
    }

    /// The suite that its packages are in.
    pub fn suite(self) -> &'static str {
        match self {
            Line::Bookworm | Line::RealTime | Line::Source612 | Line::Source73 => apt_sources::SUITE,
            Line::Bullseye => "bullseye",
        }
    }

    /// The kernels that there are of it.
    pub fn flavours(self) -> &'static [Flavour] {
        match self {
            Line::Bookworm | Line::Bullseye | Line::Source612 | Line::Source73 => &Flavour::ALL,
            Line::RealTime => &[Flavour::Pae],
        }
    }

    /// What the packages' names have before the flavour, and the name of their headers after a hyphen; empty as a rule.
    pub fn featureset(self) -> Option<&'static str> {
        (self == Line::RealTime).then_some("rt")
    }

    /// A kernel's name without its release, such as `rt-686-pae`.
    pub fn kernel(self, flavour: Flavour) -> String {
        self.featureset().into_iter().chain([flavour.name()]).collect::<Vec<_>>().join("-")
    }

    /// What distinguishes its files in the cache from Debian 12's own: nothing for those.
    pub fn suffix(self) -> &'static str {
        match self {
            Line::Bookworm => "",
            Line::RealTime => "-rt",
            Line::Bullseye => "-bullseye",
            Line::Source612 => "-source-6.12",
            Line::Source73 => "-source-7.3",
        }
    }

    /// Whether its headers name the compiler of this system.
    pub fn has_systems_compiler(self) -> bool {
        self.suite() == apt_sources::SUITE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_debians_packages() {
        assert_eq!(Line::RealTime.kernel(Flavour::Pae), "rt-686-pae");
        assert_eq!(Line::Bullseye.kernel(Flavour::Plain), "686");
    }

    #[test]
    fn lines_are_apart_in_the_cache() {
        let mut suffixes = Line::ALL.map(Line::suffix).to_vec();
        suffixes.sort();
        suffixes.dedup();
        assert_eq!(suffixes.len(), Line::ALL.len());
    }
}
