//! A worker, as it is itself: the data path, and no more.

use axum::Router;
use axum::routing::any;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokenweir::gateway::{Gate, RecordObserver, UsageRecord};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::message::{Orders, Report};
use super::{DRAIN, NAME, operator, refuse};
use crate::admin::PATHS;
use crate::config::Config;
use crate::directory::{Current, Directory};
use crate::estate::{PERMIT_TTL, RESOURCE, profile};
use crate::on_server::OnServer;
use crate::region;
use crate::sample::Sample;
use crate::serve::serve;
use crate::server::{LOOK_EVERY, calls};

/// So many reports may wait to be told.
const QUEUE: usize = 8192;
/// So long a process may take to go when its files are closed.
const GONE: Duration = Duration::from_millis(200);
/// So long the last ones may take.
const LAST: Duration = Duration::from_secs(5);

/// Serves as a worker, until the process that started this one says that it is enough, or is gone.
///
/// # Errors
/// Why it cannot serve.
pub async fn work() -> Result<(), String> {
    // It was started from the program's file by another name, which is what `ps` shows. Where there is no such file it is no matter.
    let _ = std::fs::write("/proc/self/comm", NAME);
    let wrong = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let listener = io::stdin().as_fd().try_clone_to_owned().map(TcpListener::from).map_err(wrong("the listener"))?;
    let channel =
        io::stdout().as_fd().try_clone_to_owned().map(UnixStream::from).map_err(wrong("the first process"))?;
    if listener.local_addr().is_err() || channel.peer_addr().is_err() {
        return Err("this is for the gateway itself to start; see --workers".to_owned());
    }
    let (shared, parent) = (listener.try_clone().map_err(wrong("the listener"))?, std::os::unix::process::parent_id());
    let mut orders = BufReader::new(channel.try_clone().map_err(wrong("the first process"))?);
    let Some(first) = next(&mut orders)? else { return Ok(()) };
    let config = Config::parse(&first.text, &first.file).map_err(|error| error.to_string())?;

    let (queue, reports) = sync_channel(QUEUE);
    let reporter = Arc::new(Reporter { queue: queue.clone(), dropped: AtomicU64::new(0) });
    let counted = reporter.clone();
    let telling = std::thread::Builder::new().name("telling".to_owned());
    telling.spawn(move || tell(&reports, &counted, channel)).map_err(wrong("a thread"))?;

    let on_server = OnServer::of(&config).await?.map(Arc::new);
    if let Some(server) = on_server.clone() {
        // Each worker has its own link, and the first process does not see it.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                server.say();
            }
        });
    }
    let gate = gate(&first, &config, reporter, on_server.as_deref())?;
    let directory = Current::new(Directory::new(&config, &first.resource)?);
    listener.set_nonblocking(true).map_err(wrong("the listener"))?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(wrong("the listener"))?;
    let brain: Arc<Path> = first.brain.as_path().into();
    let router = PATHS.iter().fold(Router::new(), |router, path| router.route(path, any(operator::serve)));
    let router = router.with_state(brain).merge(calls(gate.clone(), directory.clone(), &config, Sample::default()));

    let (stop, mut stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut told, stop) = (signal(kind).map_err(wrong("a signal"))?, stop.clone());
        tokio::spawn(async move {
            told.recv().await;
            let _ = stop.send(true);
        });
    }
    let last = queue.clone();
    let following = std::thread::Builder::new().name("following".to_owned());
    let follow = move || {
        let _ = queue.send(Message::Report(Report::InForce(first.version)));
        while let Some(orders) = next(&mut orders).unwrap_or_else(|error| {
            eprintln!("{error}");
            None
        }) {
            if let Err(error) = follow(&orders, &gate, &directory) {
                eprintln!("what has changed is not in force here: {error}");
            }
            let _ = queue.send(Message::Report(Report::InForce(orders.version)));
        }
        // Where the first process is gone, nobody is to come any more: as it would have seen to, see `Crew::stop`. It goes
        // a moment after its end of the channel.
        let until = Instant::now() + GONE;
        while std::os::unix::process::parent_id() == parent && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::os::unix::process::parent_id() != parent {
            refuse(&shared);
        }
        let _ = stop.send(true);
    };
    following.spawn(follow).map_err(wrong("a thread"))?;

    let idle = Duration::from_secs(config.idle_seconds);
    let mut begun = stopped.clone();
    let serving = serve(listener, router, idle, async move { drop(begun.wait_for(|stop| *stop).await) });
    let drained = async move {
        drop(stopped.wait_for(|stop| *stop).await);
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = serving => {}
        () = drained => {}
    }
    if let Some(server) = &on_server {
        server.stop().await;
    }
    // Whoever does not take them keeps nobody from ending.
    let (told, all) = sync_channel(0);
    let flushed = tokio::task::spawn_blocking(move || {
        if last.send(Message::End(told)).is_ok() {
            // It answers by letting go of its end.
            let _ = all.recv();
        }
    });
    let _ = tokio::time::timeout(LAST, flushed).await;
    Ok(())
}

/// The next orders; none if there will be no more.
fn next(from: &mut impl BufRead) -> Result<Option<Orders>, String> {
    let mut line = Vec::new();
    match from.read_until(b'\n', &mut line) {
        Ok(_) if line.ends_with(b"\n") => {
            serde_json::from_slice(&line).map(Some).map_err(|error| format!("orders that cannot be read: {error}"))
        }
        // Whoever gave them was killed, perhaps while it wrote.
        _ => Ok(None),
    }
}

fn gate(
    orders: &Orders,
    config: &Config,
    reporter: Arc<Reporter>,
    on_server: Option<&OnServer>,
) -> Result<Gate, String> {
    let name = RESOURCE.parse().map_err(|error| format!("{RESOURCE}: {error}"))?;
    let mut building =
        Gate::builder(name, &orders.resource).observer(reporter).limiter(|limiter| limiter.permit_ttl(PERMIT_TTL));
    if let Some(region) = orders.region.clone() {
        building = building.built_by(move |limiter| region::follow(&region, limiter));
    }
    if let Some(server) = on_server {
        building = building.counters(server.counters());
    }
    if let Some(profile) = profile(config.counting) {
        building = building.profile(profile);
    }
    building.build().map_err(|error| error.to_string())
}

fn follow(orders: &Orders, gate: &Gate, directory: &Current) -> Result<(), String> {
    let config = Config::parse(&orders.text, &orders.file).map_err(|error| error.to_string())?;
    let newer = Directory::new(&config, &orders.resource)?;
    match orders.region {
        // Limits are for the first process to put in force, in the region.
        Some(_) => gate.update_standing(&orders.resource),
        None => gate.update(&orders.resource),
    }
    .map_err(|error| error.to_string())?;
    directory.set(newer);
    Ok(())
}

enum Message {
    Report(Report),
    /// Everything before this has been told when the sender is gone.
    End(#[allow(dead_code)] SyncSender<()>),
}

/// Tells the first process of each call. When it does not listen in time records are dropped, and counted.
struct Reporter {
    queue: SyncSender<Message>,
    dropped: AtomicU64,
}

impl RecordObserver for Reporter {
    fn recorded(&self, record: &UsageRecord) {
        if self.queue.try_send(Message::Report(Report::Record(Box::new(record.clone())))).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Writes reports, until the end or until nobody takes them.
fn tell(reports: &Receiver<Message>, reporter: &Reporter, channel: UnixStream) {
    let mut channel = BufWriter::new(channel);
    let mut dropped = 0;
    while let Ok(first) = reports.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Report(report) if write(&mut channel, &report).is_ok() => {}
                Message::Report(_) => return,
                Message::End(_end) => {
                    let _ = channel.flush();
                    return;
                }
            }
            next = reports.try_recv().ok();
        }
        let now = reporter.dropped.load(Relaxed);
        if now != std::mem::replace(&mut dropped, now) && write(&mut channel, &Report::Dropped(now)).is_err() {
            return;
        }
        if channel.flush().is_err() {
            return;
        }
    }
}

fn write(to: &mut impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer(&mut *to, report)?;
    to.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenweir::gateway::Call;

    #[test]
    fn what_nobody_takes_in_time_is_dropped_and_counted_and_said() {
        let (queue, reports) = sync_channel(2);
        let reporter = Arc::new(Reporter { queue: queue.clone(), dropped: AtomicU64::new(0) });
        let resource = serde_json::from_str(
            r#"{"site": {"tenant": "t", "subscription": "s", "resource_group": "g", "region": "r"},
                "public_network_access": true}"#,
        );
        let name = RESOURCE.parse().expect("a name");
        let gate = Gate::builder(name, &resource.expect("a resource")).observer(reporter.clone()).build();
        let gate = gate.expect("a gate");
        // Nobody writes yet, as if the first process stood still.
        for id in ["1", "2", "3", "4", "5"] {
            drop(gate.admit(&Call::model("p", "d").with_correlation_id(id)).expect("a decision"));
        }
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let telling = std::thread::spawn({
            let reporter = reporter.clone();
            move || tell(&reports, &reporter, theirs)
        });
        let mut lines = BufReader::new(ours);
        let mut next = || {
            let mut line = String::new();
            lines.read_line(&mut line).expect("a line");
            serde_json::from_str::<Report>(&line).expect("a report")
        };
        for id in ["1", "2"] {
            let Report::Record(record) = next() else { panic!("a record") };
            assert_eq!(record.correlation_id, id);
        }
        assert!(matches!(next(), Report::Dropped(3)));
        let (told, all) = sync_channel(0);
        queue.send(Message::End(told)).expect("it is taken");
        assert!(all.recv().is_err(), "it has let go of its end");
        telling.join().expect("no panic");
    }
}
