//! `cargo xtask linux-guest`: the kernel and the initial file system of a Linux guest, ready to be started.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};

use super::initrd::{GuestFiles, ext4_image};
use super::kernel::{self, LinuxKernel, Recipe};
use super::manifest::{Manifest, Use};
use super::source::Series;
use xtask::programs::Program;
use xtask::project::Project;
use xtask::setup::Machine;
use xtask::toolchain::Target;
use xtask::vm::GuestFile;

/// The programs that run in a Linux guest, static 32-bit ones.
const PROGRAMS: Program<'_> = Program {
    what: "programs for the Linux guest",
    folder: "examples/linux-guest/programs",
    target: Target::Program,
    options: &[],
};

/// Options of `cargo xtask linux-guest`.
#[derive(clap::Args)]
pub struct Args {
    /// With three-level page tables, for hosts with the 686-pae kernel
    #[arg(long)]
    pub pae: bool,
    /// Which of Debian's Linux sources
    #[arg(long, value_enum, value_name = "VERSION", default_value = "6.1")]
    source: Series,
    /// Lay this configuration fragment over the others: one of examples/linux-guest/config, such as `debug`, or
    /// a file (may be repeated)
    #[arg(long, value_name = "FRAGMENT")]
    config: Vec<String>,
    /// Request today's source from Debian
    #[arg(long)]
    refresh: bool,
    /// Run this scenario of `cargo xtask test --list` on the guest, or without a name all but the long ones, on each host
    /// that has its page tables (may be repeated)
    #[arg(long, value_name = "SCENARIO", num_args = 0..=1)]
    pub test: Option<Vec<String>>,
}

/// What it takes to start a Linux guest.
#[derive(Debug, Clone)]
pub struct LinuxGuest {
    /// The kernel.
    pub kernel: LinuxKernel,
    /// The initial file system.
    pub initrd: PathBuf,
    /// The programs in it.
    programs: Vec<PathBuf>,
}

impl LinuxGuest {
    /// As files of the host VM, under the name that `linux-guest` there starts it by.
    pub fn files(&self, name: &str) -> [GuestFile; 2] {
        [
            GuestFile { name: name.to_owned(), path: self.kernel.image.clone() },
            GuestFile { name: format!("{name}.initrd"), path: self.initrd.clone() },
        ]
    }

    /// The program of this name, as a file of the host VM.
    pub fn program(&self, name: &str) -> Option<GuestFile> {
        let path = self.programs.iter().find(|path| path.ends_with(name))?;
        Some(GuestFile { name: name.to_owned(), path: path.clone() })
    }
}

/// Builds what `args` request, and shows what of Linux the port replaces.
///
/// # Errors
/// When something does not build.
pub fn run(project: &Project, machine: &Machine, args: &Args) -> Result<LinuxGuest> {
    let recipe = Recipe {
        fragments: args.config.clone(),
        refresh: args.refresh,
        ..Recipe::guest(args.source, args.pae)
    };
    let guest = prepare(project, machine, &recipe)?;
    let manifest = kernel::manifest(project)?;
    println!("{}", replaced(&manifest, args.source));
    println!("{}", allowed(&manifest));
    if let Some(audit) = &guest.kernel.audit {
        println!("image audit: {audit}");
    }
    println!("kernel: {}\ninitrd: {}", guest.kernel.image.display(), guest.initrd.display());
    Ok(guest)
}

/// Builds kernel, programs and initial file system, as far as they are not there.
pub fn prepare(project: &Project, machine: &Machine, recipe: &Recipe) -> Result<LinuxGuest> {
    let kernel = kernel::build(project, recipe)?;
    let (initrd, programs) =
        initial_file_system(project, machine, &recipe.name(), &kernel.release, &kernel.modules)?;
    Ok(LinuxGuest { kernel, initrd, programs })
}

/// Builds the programs, and the initial file system `name` with them for a kernel that calls itself `release`; returns
/// both.
pub fn initial_file_system(
    project: &Project,
    machine: &Machine,
    name: &str,
    release: &str,
    modules: &[PathBuf],
) -> Result<(PathBuf, Vec<PathBuf>)> {
    let programs = Vec::from(PROGRAMS.build(project, machine, ["guest-bench", "guest-test"])?);
    let folder = project.out().join("linux-guest");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let files = GuestFiles {
        folder: kernel::folder(project),
        busybox: machine.kernels.busybox(),
        programs: programs.clone(),
        release: release.to_owned(),
        modules: modules.to_vec(),
        image: ext4_image(&folder, &project.logs())?,
    };
    let initrd = folder.join(format!("{name}.initrd"));
    fs::write(&initrd, files.archive()?).with_context(|| format!("cannot write {}", initrd.display()))?;
    Ok((initrd, programs))
}

/// What of Linux the port replaces, for people.
fn replaced(manifest: &Manifest, series: Series) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["replaced in Linux", "by", "why"]);
    for place in manifest.places(series).filter(|place| place.usage == Use::Replaced) {
        table.add_row([format!("{}\n{}", place.name(), place.file), place.by.clone(), place.why.clone()]);
    }
    table
}

/// Where sensitive instructions are left, for people.
fn allowed(manifest: &Manifest) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["left in Linux", "instructions", "why they do no harm"]);
    for entry in &manifest.allowed {
        table.add_row([entry.symbol.clone(), entry.instructions.join(", "), entry.why.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::manifest::Place;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Result<Args, clap::Error> {
        Command::try_parse_from(["linux-guest"].iter().chain(words)).map(|command| command.args)
    }

    #[test]
    fn an_unknown_source_is_refused_with_those_there_are() {
        assert_eq!(parsed(&[]).unwrap().source, Series::V6_1);
        assert_eq!(parsed(&["--source", "7.3"]).unwrap().source, Series::V7_3);
        let error = parsed(&["--source", "7.2"]).err().expect("there is no such series").to_string();
        assert!(error.contains("'7.2'") && error.contains("6.1, 6.12, 7.3"), "{error}");
    }

    #[test]
    fn scenarios_are_all_or_those_that_are_named() {
        assert_eq!(parsed(&[]).unwrap().test, None);
        assert_eq!(parsed(&["--test", "--pae"]).unwrap().test, Some(Vec::new()));
        let named = parsed(&["--test", "linux-reboot", "--test", "linux-panic"]).unwrap().test;
        assert_eq!(named, Some(vec!["linux-reboot".to_owned(), "linux-panic".to_owned()]));
    }

    #[test]
    fn only_what_is_replaced_in_this_series_is_shown() {
        let place = |item: &str, usage, series: &str| Place {
            file: "a.h".into(),
            item: Some(item.into()),
            usage,
            by: "b.h".into(),
            why: "because".into(),
            hash: [(series.to_owned(), String::new())].into(),
        };
        let place_list = vec![
            place("first", Use::Replaced, "6.1"),
            place("second", Use::Relied, "6.1"),
            place("third", Use::Replaced, "6.12"),
        ];
        let manifest = Manifest { place: place_list, ..Manifest::default() };
        let shown = replaced(&manifest, Series::V6_1).to_string();
        assert!(shown.contains("first") && !shown.contains("second") && !shown.contains("third"), "{shown}");
    }
}
