//! Sets the linker's options: `guest-bench` brings its own start and needs no C library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--gc-sections"] {
        println!("cargo::rustc-link-arg-bin=guest-bench={argument}");
    }
}
