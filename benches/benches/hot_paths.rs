//! The hot paths of shadow paging by the clock: `cargo bench -p benches`. `benches::hot_paths` lists them.

use benches::hot_paths::{self, measured};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};

fn hot_paths(criterion: &mut Criterion) {
    hot_paths::all(&mut |name, mut bench| {
        let mut group = criterion.benchmark_group(bench.path().to_string());
        group.throughput(Throughput::Elements(bench.path().operations().into()));
        let (_, which) = name.split_once('/').expect("names have parts");
        group.bench_function(BenchmarkId::from_parameter(which), |timer| {
            timer.iter_custom(|times| {
                let mut sum = Duration::ZERO;
                for _ in 0..times {
                    bench.prepare();
                    let begun = Instant::now();
                    measured(&mut bench);
                    sum += begun.elapsed();
                }
                sum
            });
        });
        group.finish();
    });
}

criterion_group!(all, hot_paths);
criterion_main!(all);
