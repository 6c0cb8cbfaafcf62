//! Requests of one route that wait for the server at the same time are decided by one call, each for itself.
//!
//! Few at a time are asked for alone, at once. While so many are on their way, those that come wait for one of them to be
//! answered, and then go together: one after the other they are decided by what the first left, as if each had been alone. What is
//! not the usual case is left undecided, and asked for alone.

use crate::answer::{Answer, Said, Status};
use crate::limiter::Inner;
use crate::link::Failure;
use crate::numbers::unpacked;
use crate::plan::Plan;
use crate::record;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokenweir::Estimate;
use tokio::sync::oneshot;

/// So many calls of one route are on their way at once before others wait.
pub(crate) const ALONE: usize = 4;
/// So many requests go together at most.
const TOGETHER: usize = 64;

/// What waits of one route.
#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    on_their_way: usize,
    requests: Vec<Asked>,
}

/// One that waits; `None` is told where it is to be asked for alone.
#[derive(Debug)]
struct Asked {
    charges: Vec<u64>,
    id: u64,
    estimate: Estimate,
    answered: oneshot::Sender<Option<Result<Answer, Failure>>>,
}

/// A call on its way; when it is over, those that wait go.
struct OnItsWay {
    inner: Arc<Inner>,
    plan: Arc<Plan>,
}

/// Those that go next, if any wait.
fn next(waiting: &mut Waiting) -> Vec<Asked> {
    let some = waiting.requests.len().min(TOGETHER);
    waiting.on_their_way += usize::from(some > 0);
    waiting.requests.drain(..some).collect()
}

impl OnItsWay {
    /// Sends these together. Never called under the queue's lock: a runtime that has ended drops them here and now.
    fn send(inner: &Arc<Inner>, plan: &Arc<Plan>, requests: Vec<Asked>) {
        if requests.is_empty() {
            return;
        }
        let way = OnItsWay { inner: inner.clone(), plan: plan.clone() };
        inner.runtime.spawn(async move { way.inner.ask_together(&way.plan, requests).await });
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let requests = {
            let mut waiting = self.plan.queue.0.lock();
            waiting.on_their_way -= 1;
            next(&mut waiting)
        };
        OnItsWay::send(&self.inner, &self.plan, requests);
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
        let alone = || self.ask((plan, charges), (id, estimate), (0.0, self.permit_ttl), by);
        match self.enter(plan, charges, (id, estimate)) {
            Err(_way) => alone().await,
            Ok(answer) => match tokio::time::timeout_at(by.into(), answer).await {
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None)) => alone().await,
                Ok(Err(_)) => Err(Failure::Away),
                Err(_) => Err(Failure::Late),
            },
        }
    }

    /// What a request waits for, or the way that is free for it alone.
    fn enter(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        charges: &[u64],
        (id, estimate): (u64, Estimate),
    ) -> Result<oneshot::Receiver<Option<Result<Answer, Failure>>>, OnItsWay> {
        let mut waiting = plan.queue.0.lock();
        if waiting.on_their_way < self.alone {
            waiting.on_their_way += 1;
            return Err(OnItsWay { inner: self.clone(), plan: plan.clone() });
        }
        let (answered, answer) = oneshot::channel();
        waiting.requests.push(Asked { charges: charges.to_vec(), id, estimate, answered });
        let requests = if waiting.on_their_way == 0 { next(&mut waiting) } else { Vec::new() };
        drop(waiting);
        OnItsWay::send(self, plan, requests);
        Ok(answer)
    }

    async fn ask_together(&self, plan: &Plan, requests: Vec<Asked>) {
        // Whose time is over, or who has gone, is told later that it was nothing.
        let requests: Vec<Asked> = requests.into_iter().filter(|request| !request.answered.is_closed()).collect();
        if requests.is_empty() {
            return;
        }
        let limits = plan.legs.len();
        let permits: Vec<Vec<u8>> = requests.iter().map(|request| plan.permit_key(request.id)).collect();
        let keys: Vec<&[u8]> = plan.legs.iter().map(|leg| &*leg.key).chain(permits.iter().map(|key| &**key)).collect();
        let head = [self.permit_ttl.as_micros() as f64, limits as f64, requests.len() as f64];
        let mut numbers = plan.numbers(&head, &vec![0; limits], self.link.server_now());
        for request in &requests {
            request.charges.iter().for_each(|charge| numbers.push(crate::numbers::number(*charge)));
        }
        let lives = (self.permit_ttl + Duration::from_secs(1)).as_millis().to_string();
        let own = |request: &Asked| (request.id.to_le_bytes(), record::write(plan, request.estimate));
        let own: Vec<_> = requests.iter().map(own).collect();
        let mut args = vec![numbers.bytes(), lives.as_bytes()];
        own.iter().for_each(|(id, record)| args.extend([&id[..], record]));
        let answer = self.link.run(&self.scripts.many, &keys, &args, self.by()).await;
        let answers = match answer {
            Ok(bytes) => read(&bytes, limits, requests.len()),
            Err(failure) => {
                requests.into_iter().for_each(|request| drop(request.answered.send(Some(Err(failure.clone())))));
                return;
            }
        };
        let Some((now, answers)) = answers else {
            let failure = || Failure::Refused("what a script answered is not readable".to_owned());
            requests.into_iter().for_each(|request| drop(request.answered.send(Some(Err(failure())))));
            return;
        };
        self.link.seen(now);
        for (request, answer) in requests.into_iter().zip(answers) {
            drop(request.answered.send(answer.map(Ok)));
        }
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
