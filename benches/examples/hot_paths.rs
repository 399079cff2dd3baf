//! `hot_paths`: the hot paths of shadow paging once each, for `cargo xtask instructions` to count their instructions
//! under callgrind. Prints their names in order, each with its number of operations.

use benches::hot_paths::{self, measured};

fn main() {
    hot_paths::all(&mut |name, mut bench| {
        // The first time, memory that is kept for later is had from the system.
        bench.prepare();
        bench.prepare();
        measured(&mut bench);
        println!("{name} {}", bench.path().operations());
    });
}
