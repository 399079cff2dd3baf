//! What `modinfo lg.ko` shows of the strategies: fields that `build.rs` has written.

include!(concat!(env!("OUT_DIR"), "/modinfo.rs"));
