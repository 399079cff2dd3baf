//! Where the instructions of some workloads go: each is run once more with each strategy, in the host VM under a QEMU
//! that counts every instruction (`cargo xtask profile` lists the functions).

use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::host::{Host, keep_log};
use super::results::{ProfileOutcome, Profiled};
use crate::profile::{Counted, Counter, Functions, WORLDS, Work};
use crate::workloads::Guest;
use xtask::qemu::Clock;

/// Profiled when nothing else is requested, as far as they are measured: one workload of each kind.
const USUAL: [&str; 3] = ["ctx16", "fork", "mmap1000"];

/// Which of the `measured` workloads are profiled: those that were requested, or the [`USUAL`] ones.
///
/// # Errors
/// When one is requested that cannot be profiled.
pub fn chosen(asked: &[String], measured: &[String], guest: Guest, clock: Clock) -> Result<Vec<String>> {
    let possible = guest == Guest::Mini && clock != Clock::Real;
    match asked {
        [] if possible => {
            Ok(measured.iter().filter(|name| USUAL.contains(&name.as_str())).cloned().collect())
        }
        [] => Ok(Vec::new()),
        [word] if word == "none" => Ok(Vec::new()),
        _ if !possible => bail!("--profile is for `--guest mini` and `--clock instructions`"),
        [word] if word == "all" => Ok(measured.to_vec()),
        names => {
            for name in names {
                ensure!(
                    measured.contains(name),
                    "--profile {name}: it is not measured; there are none, all, {}",
                    measured.join(", ")
                );
            }
            Ok(names.to_vec())
        }
    }
}

/// Profiles `workloads` under `strategies`. `done` is called for each that has ended.
///
/// # Errors
/// When the plug-in cannot be built, or a log cannot be written.
pub fn run(
    host: &Host<'_>,
    kernel: &Path,
    workloads: &[String],
    strategies: &[String],
    seed: u32,
    mut done: impl FnMut(),
) -> Result<Vec<Profiled>> {
    if workloads.is_empty() {
        return Ok(Vec::new());
    }
    let flavour = host.vm.flavour;
    let functions = Functions::of_elf_file(kernel)?;
    let counter = Counter::new(host.project, host.kernels, host.contents.clone(), functions, flavour)?;
    let mut profiles = Vec::new();
    for workload in workloads {
        for strategy in strategies {
            let counted = counter.count(&Work {
                strategy,
                memory: host.memory,
                guest: Guest::Mini,
                workload,
                seed,
                scale: host.scale,
            });
            let outcome = match counted {
                Ok(Counted { operations, profile }) => ProfileOutcome::Counted {
                    operations,
                    instructions: WORLDS.map(|world| (world.to_string(), profile.of(world))).into(),
                },
                Err(error) => {
                    let read = |name: &str| fs::read_to_string(counter.folder().join(name));
                    let console = read("console.log").unwrap_or_default();
                    let log = format!("{error:#}\n\n-- the VM's console --\n{console}");
                    let log = keep_log(host.out, &["profile", flavour.name(), workload, strategy], 0, &log)?;
                    let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                    ProfileOutcome::Failed { why, log }
                }
            };
            profiles.push(Profiled {
                host: flavour.name().to_owned(),
                workload: workload.clone(),
                strategy: strategy.clone(),
                outcome,
            });
            done();
        }
    }
    Ok(profiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    #[test]
    fn what_is_profiled_is_among_what_is_measured() {
        let measured = words(&["null", "ctx16", "fork"]);
        let of = |asked: &[&str], guest, clock| chosen(&words(asked), &measured, guest, clock);
        let counted = Clock::Instructions(1);
        assert_eq!(of(&[], Guest::Mini, counted).unwrap(), ["ctx16", "fork"]);
        assert_eq!(of(&["null"], Guest::Mini, counted).unwrap(), ["null"]);
        assert_eq!(of(&["all"], Guest::Mini, counted).unwrap(), measured);
        assert!(of(&["none"], Guest::Mini, counted).unwrap().is_empty());
        assert!(of(&[], Guest::Linux, counted).unwrap().is_empty());
        assert!(of(&[], Guest::Mini, Clock::Real).unwrap().is_empty());
        let error = of(&["fork", "exec"], Guest::Mini, counted).unwrap_err().to_string();
        assert!(
            error.starts_with("--profile exec: it is not measured; there are none, all, null, "),
            "{error}"
        );
        assert!(of(&["fork"], Guest::Linux, counted).is_err());
    }
}
