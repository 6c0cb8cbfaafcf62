//! A process that asks one limit, many times at once, and says what came of it.

use super::ready;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A limiter of one limit.
pub trait Check: Send + Sync + 'static {
    /// Whether one request more may pass; nothing if the server was away.
    fn check(&self) -> impl Future<Output = Option<bool>> + Send;
}

/// What each process does.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Of the limit, an hour.
    pub amount: u64,
    pub time: Duration,
    pub at_once: usize,
    /// Between two checks of the same task.
    pub pause: Duration,
}

impl Job {
    /// As the process is told it.
    pub fn words(&self) -> [String; 4] {
        [self.amount, self.time.as_millis() as u64, self.at_once as u64, self.pause.as_millis() as u64]
            .map(|number| number.to_string())
    }

    /// Of such words.
    pub fn of(words: &[String]) -> Job {
        let [amount, time, at_once, pause] = std::array::from_fn(|at| words[at].parse().expect("a number"));
        Job {
            amount,
            time: Duration::from_millis(time),
            at_once: at_once as usize,
            pause: Duration::from_millis(pause),
        }
    }
}

/// What checks came to: admitted, refused, errors, and the longest wait in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums(pub [u64; 4]);

impl Sums {
    pub fn with(self, other: Sums) -> Sums {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Sums([a + e, b + f, c + g, d.max(h)])
    }

    pub fn checks(self) -> u64 {
        self.0[0] + self.0[1] + self.0[2]
    }
}

async fn run(limiter: Arc<impl Check>, until: Instant, pause: Duration) -> Sums {
    let mut sums = Sums::default();
    while Instant::now() < until {
        let asked = Instant::now();
        let which = match limiter.check().await {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        sums.0[which] += 1;
        sums.0[3] = sums.0[3].max(asked.elapsed().as_micros() as u64);
        // What a limiter does beside its answers gets its turn, as it does in a host that waits for sockets.
        if pause.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(pause).await }
    }
    sums
}

/// One of the processes: says that it is ready, waits, asks, and says what came of it.
pub fn ask<C: Check>(connect: impl Future<Output = C>, job: &Job) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let limiter = Arc::new(runtime.block_on(connect));
    ready();
    let until = Instant::now() + job.time;
    let Sums(sums) = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..job.at_once {
            tasks.spawn(run(limiter.clone(), until, job.pause));
        }
        tasks.join_all().await.into_iter().fold(Sums::default(), Sums::with)
    });
    println!("{} {} {} {}", sums[0], sums[1], sums[2], sums[3]);
}
