//! How a scene is explored.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::sync::Arc;

/// At how many points of a schedule a thread is overtaken by one of lower priority, in the schedulers by priority.
const DEPTHS: [usize; 3] = [1, 2, 4];

/// Plays the scene under so many random schedules, and as many by priority. `SHUTTLE_ITERATIONS` says another number,
/// and takes another seed each time; `SHUTTLE_SEED` says the seed.
pub fn explore(ordinarily: usize, scene: impl Fn() + Send + Sync + 'static) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let iterations = number("SHUTTLE_ITERATIONS");
    let by_clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = number("SHUTTLE_SEED").or_else(|| iterations.map(|_| by_clock())).unwrap_or(20_261_123);
    let iterations = iterations.map_or(ordinarily, |iterations| iterations as usize);
    // Shown if the test fails: with it and as many iterations, the same schedules come again.
    println!("SHUTTLE_SEED={seed} SHUTTLE_ITERATIONS={iterations}");
    let scene = Arc::new(scene);
    let play = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        config.max_steps = MaxSteps::FailAfter(200_000);
        config.silence_warnings = true;
        config.failure_persistence = FailurePersistence::Print;
        let scene = scene.clone();
        let played = Runner::new(scheduler, config).run(move || scene());
        assert!(played > 0);
    };
    play(Box::new(RandomScheduler::new_from_seed(seed, iterations)));
    for depth in DEPTHS {
        let iterations = iterations / DEPTHS.len() + 1;
        play(Box::new(PctScheduler::new_from_seed(seed ^ depth as u64, depth, iterations)));
    }
}
