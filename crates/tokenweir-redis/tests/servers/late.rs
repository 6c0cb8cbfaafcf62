//! What arrives late: bytes of a connection that was given up, carried out after what came by the next one.

use crate::leases::by_lease;
use crate::stage::*;
use crate::support::RedisServer;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokenweir::{Request, Usage};
use tokenweir_redis::{Leases, RedisLimiter, Server};

/// A way to a server on which connections can come to a stand: what comes by them arrives when they are let go, also if nobody
/// waits for it any more. Connections made afterwards are as any.
struct Way {
    port: u16,
    stands: Arc<AtomicUsize>,
    free: Arc<AtomicBool>,
    /// The next answer is lost, and its connection broken.
    breaks: Arc<AtomicBool>,
}

impl Way {
    fn to(server: u16) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let way = Way { port, stands: Arc::default(), free: Arc::default(), breaks: Arc::default() };
        let (stands, free, breaks) = (way.stands.clone(), way.free.clone(), way.breaks.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (stands, free, breaks) = (stands.clone(), free.clone(), breaks.clone());
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                let (mut answers, mut to_client) =
                    (server.try_clone().expect("a copy"), client.try_clone().expect("a copy"));
                std::thread::spawn(move || {
                    let mut bytes = [0; 65536];
                    while let Ok(length @ 1..) = answers.read(&mut bytes) {
                        if breaks.swap(false, SeqCst) || to_client.write_all(&bytes[..length]).is_err() {
                            let _ = to_client.shutdown(Shutdown::Both);
                        }
                    }
                });
                std::thread::spawn(move || pass(client, server, &stands, &free));
            }
        });
        way
    }

    /// The connections there are come to a stand.
    fn stand(&self) {
        self.stands.fetch_add(1, SeqCst);
    }

    fn let_go(&self) {
        self.free.store(true, SeqCst);
    }
}

fn pass(mut client: TcpStream, mut server: TcpStream, stands: &AtomicUsize, free: &AtomicBool) {
    let (began, mut bytes) = (stands.load(SeqCst), [0; 65536]);
    while let Ok(length @ 1..) = client.read(&mut bytes) {
        while stands.load(SeqCst) != began && !free.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if server.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
    // The server reads before it learns that the client has gone.
    std::thread::sleep(Duration::from_millis(500));
}

async fn charged(limiter: &RedisLimiter) -> Option<u64> {
    limiter.remaining(&Request::new("search", "gpt-4o")).await.expect("an answer")[0].charged_total
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_by_a_second_connection_is_not_charged_again_by_the_first() {
    let server = RedisServer::start();
    for (round, kind) in ["what is owed", "a stream's record"].into_iter().enumerate() {
        let way = Way::to(server.port);
        let address = Server::parse(&format!("redis://127.0.0.1:{}", way.port)).expect("an address");
        let builder = RedisLimiter::builder(address, limits(&[MONTH])).prefix(format!("round{round}"));
        let builder = builder.deadline(Duration::from_secs(1)).back_off(Duration::from_millis(50));
        let limiter = up(builder.leases(Leases::new().life(Duration::from_secs(60)))).await;
        let (permit, other) = (by_lease(&limiter, 1).await, by_lease(&limiter, 1).await);
        way.stand();
        if kind == "what is owed" {
            assert!(!permit.settle(Usage::new(300, 0)).await.expect("settled").told);
            until("it is away", async || limiter.stats().outages > 0).await;
            // Owed beside what may have been charged already, unless the server is back as soon as that.
            other.settle(Usage::new(250, 0)).await.expect("settled");
        } else {
            for _ in 0..2 {
                let _ = permit.observe(150, 0).await.expect("open");
            }
            until("it is away", async || limiter.stats().outages > 0).await;
            until("it is back", async || limiter.stats().up).await;
            let _ = permit.observe(100, 0).await.expect("open");
            permit.settle(Usage::new(300, 0)).await.expect("settled");
            other.settle(Usage::new(250, 0)).await.expect("settled");
        }
        until("it is back", async || limiter.stats().up).await;
        assert!(limiter.flush(Duration::from_secs(20)).await);
        assert_eq!(charged(&limiter).await, Some(550), "{kind}");
        way.let_go();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(charged(&limiter).await, Some(550), "{kind}, after what was late");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_carried_out_before_its_connection_broke_is_given_back() {
    let server = RedisServer::start();
    let way = Way::to(server.port);
    let address = Server::parse(&format!("redis://127.0.0.1:{}", way.port)).expect("an address");
    let limiter = up(RedisLimiter::builder(address, limits(&[MONTH, AT_ONCE])).deadline(Duration::from_secs(20))).await;
    for round in 0..5 {
        admitted(&limiter, 10).await.settle(Usage::new(10, 0)).await.expect("settled");
        way.breaks.store(true, SeqCst);
        assert!(!ask(&limiter, 100).await.is_admitted(), "nobody knows that it was");
        until("it is back", async || limiter.stats().up).await;
        assert!(limiter.flush(Duration::from_secs(20)).await);
        assert_eq!(charged(&limiter).await, Some(10 * (round + 1)));
        let limits = limiter.remaining(&Request::new("search", "gpt-4o")).await.expect("an answer");
        assert_eq!(limits[1].remaining, 3, "no place is taken");
    }
}
