//! The machine that a benchmark runs on. Times on the wall's clock mean nothing without it, and little where others load it.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

/// The mean number of runnable tasks over the last 1, 5 and 15 minutes (proc(5), `/proc/loadavg`).
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load_in(&text).unwrap_or_else(|| "unknown".to_owned())
}

fn load_in(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    (words.len() == 3 && words.iter().all(|word| word.parse::<f64>().is_ok())).then(|| words.join(" "))
}

/// The machine, with its load `before` the benchmark and now.
pub fn describe(before: &str) -> BTreeMap<String, String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    [
        ("machine", format!("{processors} processors, {}", model_in(&cpuinfo))),
        ("load of the machine before and after", format!("{before}; {}", load())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The first processor's name in `/proc/cpuinfo`.
fn model_in(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown", |(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_and_model_are_found() {
        assert_eq!(load_in("0.20 0.18 0.12 1/80 11206\n").as_deref(), Some("0.20 0.18 0.12"));
        assert_eq!(load_in("0.20 0.18"), None);
        assert_eq!(load_in("a b c"), None);
        let cpuinfo = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC  \nstepping\t: 1\n";
        assert_eq!(model_in(cpuinfo), "AMD EPYC");
        assert_eq!(model_in(""), "unknown");
    }
}
