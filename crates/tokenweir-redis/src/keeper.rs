//! What goes on in the background: reaching a server that is away, and telling it what has happened meanwhile.

use crate::answer::{Answer, Status};
use crate::limiter::Inner;
use crate::link::{Failure, Sent};
use crate::outage::Moved;
use crate::permit::Ending;
use crate::server::Connection;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokenweir::Estimate;

/// The longest that one attempt to connect takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The time before the first of several attempts.
const FIRST: Duration = Duration::from_millis(10);

/// So many endings are told at once.
const AT_ONCE: usize = 256;

/// How long the server remembers that something owed was charged, so that it is charged once.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The time between two looks at whether the limiter is still there, and who is the primary.
const LOOK: Duration = Duration::from_millis(500);

/// So long the sentinels have to answer such a look.
const HEARD: Duration = Duration::from_millis(200);

/// Looks after the link for as long as the limiter lives.
pub(crate) async fn keep(limiter: Weak<Inner>) {
    // When the server was reached last, and the time to wait before it is tried again.
    let (mut reached, mut wait) = (None::<Instant>, FIRST);
    let (mut told, mut asked, mut fresh) = (false, Instant::now(), false);
    loop {
        let Some(inner) = limiter.upgrade() else { return };
        inner.detached.expire(&inner);
        if inner.link.is_up() && inner.link.suspect.load(Relaxed) {
            probe(&inner).await;
        }
        if inner.link.is_up() {
            catch_up(&inner).await;
        }
        if asked.elapsed() >= LOOK {
            follow(&inner).await;
            asked = Instant::now();
        }
        if inner.link.is_up() {
            // Not before it has taken what it was told: one that is full, or a replica, answers and decides nothing.
            if std::mem::take(&mut told) {
                inner.recoveries.fetch_add(1, Relaxed);
                log::warn!("tokenweir: {} is back; {}", inner.link.server, account(&inner));
            }
            // The limiter may be dropped while this waits: looked at now and then.
            tokio::select! {
                () = inner.link.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            continue;
        }
        if reached.is_some_and(|reached| reached.elapsed() > inner.back_off) {
            wait = FIRST;
        }
        if reached.is_some() && !told {
            told = true;
            say_away(&inner);
        }
        if std::mem::take(&mut fresh) && reached.is_some_and(|reached| reached.elapsed() <= inner.back_off) {
            // It can be reached and does not stay: no reason to try faster than one that cannot.
            let most = inner.back_off;
            drop(inner);
            pause(&mut wait, most).await;
            continue;
        }
        match connect(&inner).await {
            Ok(()) => {
                (reached, fresh) = (Some(Instant::now()), true);
                continue;
            }
            Err(why) => *inner.link.why.lock() = why,
        }
        if !told {
            told = true;
            say_away(&inner);
        }
        inner.outage.expire();
        let most = inner.back_off;
        drop(inner);
        pause(&mut wait, most).await;
    }
}

/// Waits before the next attempt, and longer before the one after it.
async fn pause(wait: &mut Duration, most: Duration) {
    // A third more or less, so that many processes do not come at once.
    tokio::time::sleep(wait.mul_f64(0.67 + (crate::ids::random() % 1000) as f64 / 1500.0)).await;
    *wait = (*wait * 2).min(most);
}

/// The one line of an outage.
fn say_away(inner: &Inner) {
    inner.outages.fetch_add(1, Relaxed);
    log::warn!("tokenweir: {} is away ({}); until it is back: {:?}", inner.link.server, inner.why(), inner.outage.mode);
}

/// What was admitted without the server, in words.
fn account(inner: &Inner) -> String {
    let uses = inner.outage.uses();
    if uses.is_empty() {
        return "nothing was admitted without it".to_owned();
    }
    let uses = uses.iter().map(|one| format!("{:?} {} requests, {} charged", one.limit, one.requests, one.charged));
    format!("admitted without it so far: {}", uses.collect::<Vec<_>>().join("; "))
}

/// A call went unanswered: does the server answer at all?
async fn probe(inner: &Inner) {
    let Some(connection) = inner.link.connection() else { return };
    let mut own = Connection::clone(&connection);
    match inner.link.send(&mut own, &redis::cmd("PING"), inner.by()).await {
        Ok(_) => inner.link.suspect.store(false, Relaxed),
        Err(Sent::Failed(error)) => {
            inner.link.put_down(error);
        }
        Err(Sent::Late) => {
            inner.link.put_down(format!("no answer within {:?}", inner.link.deadline));
        }
    }
}

/// Goes over to another primary where the sentinels name one, without an outage: the old one may decide for seconds yet, and
/// what it is told then is lost.
async fn follow(inner: &Arc<Inner>) {
    let Some(connection) = inner.link.connection() else { return };
    if inner.link.server.is_replaced(&connection, HEARD).await {
        // If that fails, it is tried again, or what is found by calls.
        let _ = connect(inner).await;
    }
}

/// Reaches the server, and finds that it answers.
async fn connect(inner: &Arc<Inner>) -> Result<(), String> {
    let connecting = tokio::time::timeout(PATIENCE, inner.link.server.connect(PATIENCE));
    let mut connection = match connecting.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no connection within {PATIENCE:?}")),
    };
    match inner.link.send(&mut connection, &redis::cmd("PING"), inner.by()).await {
        Ok(_) => {}
        // It may not be permitted, and says so: it is there.
        Err(Sent::Failed(error)) if !crate::link::is_away(&error) => {}
        Err(Sent::Failed(error)) => return Err(error.to_string()),
        Err(Sent::Late) => return Err(format!("no answer within {:?}", inner.link.deadline)),
    }
    inner.link.put_up(connection);
    Ok(())
}

/// Tells the server what it has missed: what is owed, permits that it does not know, ends of permits.
async fn catch_up(inner: &Arc<Inner>) {
    inner.outage.expire();
    if inner.outage.is_pending() {
        // Whoever waits until all is told sees it here while it is on its way; telling the ends sets it back.
        inner.telling.store(1, Relaxed);
    }
    let mut gone = false;
    for (key, mut owed) in inner.outage.take_owed() {
        if gone {
            inner.outage.owe_again(key, owed);
            continue;
        }
        let charge = [owed.charge];
        let charged =
            inner.ask((&owed.plan, &charge), (owed.id, Estimate::default()), (1.0, REMEMBERED), inner.by()).await;
        if is_known(&charged) {
            // It need not be remembered, unless it may come once more.
            if !owed.unsure {
                inner.later(Ending { id: owed.id, plan: owed.plan, charges: charge.to_vec(), record: None });
            }
            inner.outage.has_paid();
        } else {
            gone = lost(&charged);
            owed.unsure |= charged.is_err_and(|failure| failure.may_be_done());
            inner.outage.owe_again(key, owed);
        }
    }
    for moving in inner.outage.take_open() {
        let asked =
            inner.ask((&moving.plan, &moving.charges), (moving.id, moving.estimate), (1.0, moving.left), inner.by());
        let known = is_known(&asked.await);
        match inner.outage.moved(moving.id, known) {
            Moved::Ended(charges) => {
                inner.later(Ending { id: moving.id, plan: moving.plan, charges, record: None });
            }
            Moved::Renewed(ttl) => {
                let _ = inner.renew(&moving.plan, moving.id, Some(ttl)).await;
            }
            Moved::Nothing => {}
        }
    }
    tell(inner).await;
}

/// Whether the server has it: done, or done before.
fn is_known(answer: &Result<Answer, Failure>) -> bool {
    matches!(answer, Ok(Answer { status: Status::Done | Status::Taken, .. }))
}

fn lost<A>(answer: &Result<A, Failure>) -> bool {
    answer.as_ref().is_err_and(|failure| !matches!(failure, Failure::Refused(_)))
}

/// Tells the ends that wait, many at a time. What the server refuses, or has already, is not told again.
async fn tell(inner: &Arc<Inner>) {
    loop {
        let endings: Vec<Ending> = {
            let mut waiting = inner.waiting.lock();
            let some = waiting.len().min(AT_ONCE);
            // Counted before they are taken, so that nobody finds nothing to wait for.
            inner.telling.store(some as u64, Relaxed);
            waiting.drain(..some).collect()
        };
        if endings.is_empty() {
            return;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for ending in endings {
            let inner = Arc::clone(inner);
            tasks.spawn(async move {
                let by = Instant::now() + inner.link.deadline;
                let told = inner.end(&ending, by).await;
                lost(&told).then_some(ending)
            });
        }
        let mut again = Vec::new();
        while let Some(task) = tasks.join_next().await {
            again.extend(task.ok().flatten());
        }
        let stopped = !again.is_empty();
        let mut waiting = inner.waiting.lock();
        waiting.extend(again);
        inner.telling.store(0, Relaxed);
        drop(waiting);
        if stopped {
            return;
        }
    }
}
