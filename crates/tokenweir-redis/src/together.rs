//! What waits for the server at the same time, of one route, goes to it together: requests to be decided on, and permits to be
//! ended, each kind by itself. One after the other they are dealt with by what the first left, as if each had been alone.
//!
//! Few at a time go alone, at once. While so many are on their way, those that come wait for one of them to be answered, and then
//! go together. What the script does not know is left undone, and asked for alone.

use crate::answer::{Answer, Said, Status};
use crate::limiter::Inner;
use crate::link::Failure;
use crate::numbers::{number, unpacked};
use crate::permit::Ending;
use crate::plan::Plan;
use crate::record;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokenweir::Estimate;
use tokio::sync::oneshot;

/// So many calls of one route are on their way at once before others wait.
pub(crate) const ALONE: usize = 4;
/// So many go together at most.
const TOGETHER: usize = 64;

/// What waits of one route.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    requests: Queue<Asked>,
    ends: Queue<Over>,
}

#[derive(Debug)]
struct Queue<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    on_their_way: usize,
    waiting: Vec<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue(Mutex::new(Waiting { on_their_way: 0, waiting: Vec::new() }))
    }
}

/// Where one that waits is told; `None` where it is to be asked for alone.
type Told<A> = oneshot::Sender<Option<Result<A, Failure>>>;
type ToBeTold<A> = oneshot::Receiver<Option<Result<A, Failure>>>;

/// What may wait, and go together with others.
trait Gathered: Send + Sized + 'static {
    type Answer: Send;

    fn queue(plan: &Plan) -> &Queue<Self>;

    fn told(self) -> Told<Self::Answer>;

    fn has_gone(&self) -> bool;

    /// What the server says of each; `None` of those that it leaves undone.
    fn ask(
        inner: &Inner,
        plan: &Plan,
        some: &[Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Failure>> + Send;
}

/// A call on its way; when it is over, those that wait go.
struct OnItsWay<T: Gathered> {
    inner: Arc<Inner>,
    plan: Arc<Plan>,
    of: std::marker::PhantomData<fn() -> T>,
}

/// Those that go next, if any wait.
fn next<T>(queue: &mut Waiting<T>) -> Vec<T> {
    let some = queue.waiting.len().min(TOGETHER);
    queue.on_their_way += usize::from(some > 0);
    queue.waiting.drain(..some).collect()
}

impl<T: Gathered> OnItsWay<T> {
    fn new(inner: &Arc<Inner>, plan: &Arc<Plan>) -> Self {
        OnItsWay { inner: inner.clone(), plan: plan.clone(), of: std::marker::PhantomData }
    }

    /// Sends these together. Never called under the queue's lock: a runtime that has ended drops them here and now.
    fn send(inner: &Arc<Inner>, plan: &Arc<Plan>, some: Vec<T>) {
        if some.is_empty() {
            return;
        }
        let way = OnItsWay::<T>::new(inner, plan);
        inner.runtime.spawn(async move { way.go(some).await });
    }

    async fn go(&self, some: Vec<T>) {
        // Whose time is over, or who has gone, is told later that it was nothing.
        let some: Vec<T> = some.into_iter().filter(|one| !one.has_gone()).collect();
        if some.is_empty() {
            return;
        }
        match T::ask(&self.inner, &self.plan, &some).await {
            Ok(answers) => {
                for (one, answer) in some.into_iter().zip(answers) {
                    drop(one.told().send(answer.map(Ok)));
                }
            }
            Err(failure) => some.into_iter().for_each(|one| drop(one.told().send(Some(Err(failure.clone()))))),
        }
    }
}

impl<T: Gathered> Drop for OnItsWay<T> {
    fn drop(&mut self) {
        let some = {
            let mut queue = T::queue(&self.plan).0.lock();
            queue.on_their_way -= 1;
            next(&mut queue)
        };
        OnItsWay::send(&self.inner, &self.plan, some);
    }
}

impl Inner {
    /// Asks the server to decide, alone or together with others of the same route.
    pub(crate) async fn decide(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        charges: &[u64],
        (id, estimate): (u64, Estimate),
        by: Instant,
    ) -> Result<Answer, Failure> {
        let asked = |told| Asked { charges: charges.to_vec(), id, estimate, told };
        match self.together(plan, asked, by).await {
            Ok(answer) => answer,
            Err(_way) => self.ask((plan, charges), (id, estimate), (0.0, self.permit_ttl), by).await,
        }
    }

    /// Ends a permit, alone or together with others of the same route.
    pub(crate) async fn end(self: &Arc<Self>, ending: &Ending, by: Instant) -> Result<Status, Failure> {
        if let Some(record) = &ending.record {
            return self.make_or_end(record, ending, by).await;
        }
        let over = |told| Over { charges: ending.charges.clone(), id: ending.id, told };
        match self.together(&ending.plan, over, by).await {
            Ok(status) => status,
            Err(_way) => Ok(self.tell(ending, 0.0, (0, 0), by).await?.status),
        }
    }

    /// What came of it, if it went with others; otherwise the way that it has alone, if it was not left undone by then.
    async fn together<T: Gathered>(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        one: impl FnOnce(Told<T::Answer>) -> T,
        by: Instant,
    ) -> Result<Result<T::Answer, Failure>, Option<OnItsWay<T>>> {
        let answer = self.enter(plan, one).map_err(Some)?;
        match tokio::time::timeout_at(by.into(), answer).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(None),
            Ok(Err(_)) => Ok(Err(Failure::Away)),
            Err(_) => Ok(Err(Failure::Late)),
        }
    }

    /// What one waits for, or the way that is free for it alone.
    fn enter<T: Gathered>(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        one: impl FnOnce(Told<T::Answer>) -> T,
    ) -> Result<ToBeTold<T::Answer>, OnItsWay<T>> {
        let mut queue = T::queue(plan).0.lock();
        if queue.on_their_way < self.alone {
            queue.on_their_way += 1;
            return Err(OnItsWay::new(self, plan));
        }
        let (told, answer) = oneshot::channel();
        queue.waiting.push(one(told));
        let some = if queue.on_their_way == 0 { next(&mut queue) } else { Vec::new() };
        drop(queue);
        OnItsWay::send(self, plan, some);
        Ok(answer)
    }
}

fn not_readable() -> Failure {
    Failure::Refused("what a script answered is not readable".to_owned())
}

/// A request that waits.
#[derive(Debug)]
struct Asked {
    charges: Vec<u64>,
    id: u64,
    estimate: Estimate,
    told: Told<Answer>,
}

impl Gathered for Asked {
    type Answer = Answer;

    fn queue(plan: &Plan) -> &Queue<Self> {
        &plan.queues.requests
    }

    fn told(self) -> Told<Answer> {
        self.told
    }

    fn has_gone(&self) -> bool {
        self.told.is_closed()
    }

    async fn ask(inner: &Inner, plan: &Plan, requests: &[Self]) -> Result<Vec<Option<Answer>>, Failure> {
        let limits = plan.legs.len();
        let permits: Vec<Vec<u8>> = requests.iter().map(|request| plan.permit_key(request.id)).collect();
        let keys: Vec<&[u8]> = plan.legs.iter().map(|leg| &*leg.key).chain(permits.iter().map(|key| &**key)).collect();
        let head = [inner.permit_ttl.as_micros() as f64, limits as f64, requests.len() as f64];
        let mut numbers = plan.numbers(&head, &vec![0; limits], inner.link.server_now());
        for request in requests {
            request.charges.iter().for_each(|charge| numbers.push(number(*charge)));
        }
        let lives = (inner.permit_ttl + Duration::from_secs(1)).as_millis().to_string();
        let own = |request: &Asked| (request.id.to_le_bytes(), record::write(plan, request.estimate));
        let own: Vec<_> = requests.iter().map(own).collect();
        let mut args = vec![numbers.bytes(), lives.as_bytes()];
        own.iter().for_each(|(id, record)| args.extend([&id[..], record]));
        let bytes = inner.link.run(&inner.scripts.many, &keys, &args, inner.by()).await?;
        let (now, answers) = read(&bytes, limits, requests.len()).ok_or_else(not_readable)?;
        inner.link.seen(now);
        Ok(answers)
    }
}

/// A permit whose end waits.
#[derive(Debug)]
struct Over {
    charges: Vec<u64>,
    id: u64,
    told: Told<Status>,
}

impl Gathered for Over {
    type Answer = Status;

    fn queue(plan: &Plan) -> &Queue<Self> {
        &plan.queues.ends
    }

    fn told(self) -> Told<Status> {
        self.told
    }

    fn has_gone(&self) -> bool {
        self.told.is_closed()
    }

    async fn ask(inner: &Inner, plan: &Plan, ends: &[Self]) -> Result<Vec<Option<Status>>, Failure> {
        let permits: Vec<(u64, &[u64])> = ends.iter().map(|end| (end.id, &*end.charges)).collect();
        let answer = inner.settle(plan, &permits, 0.0, (0, 0), inner.by()).await?;
        if answer.status == Status::OtherPeriod || permits.len() == 1 {
            return Ok(vec![(answer.status != Status::OtherPeriod).then_some(answer.status); permits.len()]);
        }
        let statuses = answer.totals.iter().map(|status| match *status as u8 {
            0 => Some(Status::Done),
            1 => Some(Status::Not),
            _ => None,
        });
        let statuses: Vec<_> = statuses.collect();
        if statuses.len() == permits.len() { Ok(statuses) } else { Err(not_readable()) }
    }
}

/// The server's time, and what it says of each request; of an undecided one nothing.
fn read(bytes: &[u8], limits: usize, requests: usize) -> Option<(i64, Vec<Option<Answer>>)> {
    let mut numbers = unpacked(bytes);
    let now = numbers.next()? as i64;
    let mut answers = Vec::with_capacity(requests);
    for _ in 0..requests {
        let status = match numbers.next()? as u8 {
            0 => Some(Status::Done),
            3 => Some(Status::Taken),
            _ => None,
        };
        let said: Vec<Said> = numbers.by_ref().take(limits).map(|used| Said { fits: true, used, more: 0.0 }).collect();
        answers.push(status.filter(|_| said.len() == limits).map(|status| Answer {
            status,
            now,
            said,
            totals: Vec::new(),
        }));
    }
    Some((now, answers))
}
