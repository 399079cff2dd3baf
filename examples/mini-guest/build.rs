//! Builds the user programs as an ELF file of their own, for the kernel to carry inside itself, and hands
//! the kernel's linker script to the linker. On the developer's machine, where only the library is
//! compiled, there is nothing to do.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
        let script = here.join("src/kernel.ld");
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
        let programs = build_programs(&here);
        println!("cargo::rustc-env=MINI_PROGRAMS={}", programs.display());
    }
}

/// Runs cargo on `programs/`, with the target and compiler of this build, and returns the ELF file.
fn build_programs(here: &Path) -> PathBuf {
    for input in ["programs/src", "programs/programs.ld", "programs/build.rs", "programs/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", here.join(input).display());
    }
    let target = variable("TARGET");
    // For a target that is a file, cargo passes only the file's name.
    let spec = here.join("../../xtask/targets").join(&target).with_extension("json");
    let target_dir = PathBuf::from(variable("OUT_DIR")).join("programs");
    let status = Command::new(variable("CARGO"))
        .args(["build", "--release", "--bin", "mini-programs"])
        .args(["-Zbuild-std=core,compiler_builtins", "-Zjson-target-spec", "--target"])
        .arg(spec)
        .current_dir(here.join("programs"))
        .env("CARGO_TARGET_DIR", &target_dir)
        // The kernel carries the file: debug information would only take room.
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        // What cargo passed to this build does not hold for the other.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .expect("cargo could not be started");
    assert!(status.success(), "building the user programs failed; cargo's own messages above say why");
    target_dir.join(target).join("release/mini-programs")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo sets {name}, but: {error}"))
}
