//! Every piece of work, by criterion: `cargo bench -p tokenweir-benches`, with `--features peers` beside other limiters.
//!
//! Figures are to be read as ratios within one run; `--bin bars` prints them.

use criterion::Criterion;
use tokenweir_benches::{machine, work};

fn main() {
    println!("{}", machine::description());
    let mut criterion = Criterion::default().configure_from_args();
    for case in work::all() {
        let mut group = criterion.benchmark_group(case.group);
        // Made when it is first run, so that a filter leaves the others unmade.
        let mut timed = None;
        group.bench_function(case.name, |b| {
            let timed = timed.get_or_insert_with(case.make);
            b.iter_custom(&mut *timed);
        });
        group.finish();
    }
    criterion.final_summary();
}
