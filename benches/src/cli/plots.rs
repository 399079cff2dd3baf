//! The pictures of an analysis.

use crate::analysis::{Misses, Window};
use crate::chart::{self, Band, ChartError, Curve, Texts};
use std::path::Path;

/// Points of a line that are drawn at most.
const POINTS: usize = 1024;

/// LRU's misses, with their bounds where they are estimated.
pub fn misses(path: &Path, trace: &str, all: &[Misses]) -> Result<(), ChartError> {
    let estimated = all.iter().any(|point| point.misses.is_none());
    let mut points: Vec<(f64, f64)> = Vec::new();
    for point in thinned(all) {
        let (slots, percent) = (point.slots as f64, 100.0 * point.ratio);
        // Up to the next change the misses stay the same.
        if let Some(&(before, same)) = points.last()
            && !estimated
            && before < slots - 1.0
        {
            points.push((slots - 1.0, same));
        }
        points.push((slots, percent));
    }
    let bounds = all.iter().map(|point| (point.slots as f64, 100.0 * point.low, 100.0 * point.high));
    let band = Band { name: "bounds of the error".to_owned(), points: bounds.collect() };
    let name = if estimated { "lru, estimated from a sample" } else { "lru" };
    let curve = Curve { name: name.to_owned(), points };
    let title = format!("LRU's misses on {trace}");
    chart::curves(path, chart::of_misses(&title), &[curve], estimated.then_some(&band))
}

/// The working set over time.
pub fn working_set(path: &Path, trace: &str, windows: &[Window]) -> Result<(), ChartError> {
    let curve = |name: &str, directories: fn(&Window) -> u64| Curve {
        name: name.to_owned(),
        points: thinned(windows).map(|window| (window.from as f64, directories(window) as f64)).collect(),
    };
    let curves =
        [curve("working set", |window| window.directories), curve("new ones of them", |window| window.new)];
    let title = format!("Working set on {trace}");
    let texts = Texts { title: &title, x: "page-directory loads", y: "page directories in an interval" };
    chart::curves(path, texts, &curves, None)
}

/// The histogram of reuse distances.
pub fn reuse(path: &Path, trace: &str, buckets: &[(String, u64)]) -> Result<(), ChartError> {
    let loads: u64 = buckets.iter().map(|(_, loads)| loads).sum();
    let share = |of: u64| 100.0 * of as f64 / loads as f64;
    let bars: Vec<_> = buckets.iter().map(|(text, loads)| (text.clone(), share(*loads))).collect();
    let title = format!("Reuse distances on {trace}");
    let texts = Texts {
        title: &title,
        x: "other page directories loaded since the last load of the same",
        y: "page-directory loads, %",
    };
    chart::bars(path, texts, &bars)
}

/// So many of them that a picture stays small, the last one included.
fn thinned<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let step = all.len().div_ceil(POINTS).max(1);
    let last = all.len().saturating_sub(1);
    all.iter()
        .enumerate()
        .filter(move |(number, _)| number % step == 0 || *number == last)
        .map(|(_, each)| each)
}
