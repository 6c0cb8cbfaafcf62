//! Real servers for the tests: started on spare loopback ports, stopped by their process ids.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A port that nobody has at the moment.
pub fn spare_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("bound").port()
}

/// The server, or "cli" beside it: redis-server, or what `TOKENWEIR_REDIS_SERVER` names instead (`scripts/valkey` prints Valkey's).
fn program(word: &str) -> Command {
    let server = std::env::var("TOKENWEIR_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let name = server.strip_suffix("server").expect("TOKENWEIR_REDIS_SERVER ends in server");
    Command::new(format!("{name}{word}"))
}

/// One redis-server. Killed when it is dropped.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    directory: tempfile::TempDir,
    extra: Vec<String>,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further arguments of redis-server.
    pub fn with(extra: &[&str]) -> Self {
        Self::spawned(extra, spawn)
    }

    pub fn spawned(extra: &[&str], spawn: fn(u16, &std::path::Path, &[String]) -> Child) -> Self {
        let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
        for _ in 0..20 {
            let port = spare_port();
            let directory = tempfile::tempdir().expect("a temporary directory");
            let child = spawn(port, directory.path(), &extra);
            let mut server = RedisServer { child, port, directory, extra: extra.clone() };
            if server.answers(Duration::from_secs(10)) {
                return server;
            }
            // Somebody else has taken the port.
        }
        panic!("redis-server does not start; run it by hand to see why");
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, self.directory.path(), &self.extra);
        assert!(self.answers(Duration::from_secs(10)), "redis-server does not start again");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn answers(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            if command(self.port, &["PING"])
                .is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP: it neither answers nor closes anything.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success(), "kill {signal}");
    }

    /// One command; the raw beginning of what it answers.
    pub fn command(&self, words: &[&str]) -> String {
        self.asked(words).expect("the server answers")
    }

    /// How far it is in what a primary and its replicas decide: bytes.
    pub fn offset(&self) -> u64 {
        let said = self.command(&["INFO", "replication"]);
        // A replica's `master_repl_offset` is what it has read and may not have carried out yet.
        let of = |field| said.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok());
        of("slave_repl_offset:").or_else(|| of("master_repl_offset:")).unwrap_or_else(|| panic!("no offset: {said}"))
    }

    /// One command to a server that may close the connection under it, as sentinels have the one do that they put in the
    /// primary's place (`CLIENT KILL`).
    pub fn asked(&self, words: &[&str]) -> std::io::Result<String> {
        command(self.port, words)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, directory: &std::path::Path, extra: &[String]) -> Child {
    let mut server = program("server");
    server.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    run(server.arg("--dir").arg(directory).args(extra))
}

/// A sentinel, with these lines in its configuration.
pub fn spawn_sentinel(port: u16, directory: &std::path::Path, lines: &[String]) -> Child {
    let file = directory.join("sentinel.conf");
    let text = format!("bind 127.0.0.1\nport {port}\ndir {}\n{}\n", directory.display(), lines.join("\n"));
    std::fs::write(&file, text).expect("a configuration");
    run(program("server").arg(file).arg("--sentinel"))
}

fn run(server: &mut Command) -> Child {
    match server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => panic!(
            "redis-server cannot be run ({error}): these tests need a real one. On Debian scripts/redis-server installs it \
             (apt-get install redis-server)"
        ),
    }
}

/// A network that can be cut: connections to its port go to the server's, and while it is cut nothing passes, nothing is closed,
/// and who connects is not answered.
pub struct Network {
    pub port: u16,
    cut: Arc<AtomicBool>,
}

impl Network {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("bound").port();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let is_cut = is_cut.clone();
                std::thread::spawn(move || {
                    while is_cut.load(Relaxed) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                    let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
                    let back = is_cut.clone();
                    std::thread::spawn(move || pass(from_server, client, &back));
                    pass(from_client, server, &is_cut);
                });
            }
        });
        Network { port, cut }
    }

    pub fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    pub fn mend(&self) {
        self.cut.store(false, Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut bytes = [0; 16384];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        // What was sent before the cut arrives after it, late.
        while is_cut.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Sends one command and returns what comes back at once.
fn command(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; 65536];
    let read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// What makes a server a node, which no other takes for dead because the machine is busy.
pub const NODE: [&str; 10] = [
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    "nodes.conf",
    "--cluster-port",
    "0",
    "--cluster-node-timeout",
    "10000",
    "--repl-diskless-sync-delay",
    "0",
];

/// Three masters that have all slots between them, each with so many replicas.
pub struct Cluster(pub Vec<RedisServer>);

impl Cluster {
    pub fn start() -> Self {
        Self::with(0)
    }

    pub fn with(replicas: usize) -> Self {
        let nodes: Vec<RedisServer> = (0..3 * (1 + replicas)).map(|_| RedisServer::with(&NODE)).collect();
        let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
        Self::of(nodes, &ports, replicas, &[])
    }

    /// Of these nodes, which the client reaches by these ports and with these words.
    pub fn of(nodes: Vec<RedisServer>, ports: &[u16], replicas: usize, words: &[&str]) -> Self {
        let cluster = Cluster(nodes);
        let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
        words.extend(["--cluster", "create"].map(str::to_owned));
        words.extend(ports.iter().map(|port| format!("127.0.0.1:{port}")));
        words.extend(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"].map(str::to_owned));
        cluster.cli(&words);
        let is_ok = |node: &RedisServer| node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        eventually("the cluster is together", || cluster.0.iter().all(is_ok));
        cluster
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.0.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    pub fn cli(&self, words: &[String]) -> String {
        let output = program("cli").args(words).stdin(Stdio::null()).output();
        let output = output
            .unwrap_or_else(|error| panic!("redis-cli cannot be run ({error}): scripts/redis-server installs it"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "redis-cli {words:?}: {said}");
        said
    }
}

/// A primary, its replica, and three sentinels that know both and each other.
pub struct Sentinels {
    pub primary: RedisServer,
    pub replica: RedisServer,
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    pub fn start() -> Self {
        let primary = RedisServer::with(&["--repl-diskless-sync-delay", "0"]);
        let port = primary.port.to_string();
        let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &port]);
        eventually("the replica follows", || replica.command(&["ROLE"]).contains("connected"));
        let lines = [
            &*format!("sentinel monitor main 127.0.0.1 {port} 2"),
            // Nobody takes the primary for dead because the machine is busy.
            "sentinel down-after-milliseconds main 10000",
            "sentinel failover-timeout main 5000",
            // Who asks them for the primary logs in; they among themselves, and the tests, need not.
            "user gateway on >secret ~* &* +@all",
            "user default on nopass ~* &* +@all -sentinel|masters -sentinel|get-master-addr-by-name",
        ];
        let sentinels: Vec<_> = (0..3).map(|_| RedisServer::spawned(&lines, spawn_sentinel)).collect();
        let know_all = |sentinel: &RedisServer| {
            sentinel.command(&["SENTINEL", "CKQUORUM", "main"]).starts_with("+OK 3 usable")
                && sentinel.command(&["SENTINEL", "REPLICAS", "main"]).contains(&replica.port.to_string())
        };
        eventually("the sentinels know all", || sentinels.iter().all(know_all));
        Sentinels { primary, replica, sentinels }
    }

    /// Has the replica take the primary's place, which goes on deciding until the sentinels have told it.
    pub fn fail_over(&self) {
        // `-NOGOODSLAVE` while the sentinel has heard of the replica and is not connected to it yet; `-INPROG` where it has begun
        // by itself.
        eventually("a sentinel fails over", || {
            let said = self.sentinels[0].command(&["SENTINEL", "FAILOVER", "main"]);
            assert!(["+OK", "-NOGOODSLAVE", "-INPROG"].iter().any(|known| said.starts_with(known)), "{said}");
            said.starts_with("+OK")
        });
    }

    /// Has them take the primary for dead after half a second without an answer.
    pub fn are_quick(&self) {
        for sentinel in &self.sentinels {
            let said = sentinel.command(&["SENTINEL", "SET", "main", "down-after-milliseconds", "500"]);
            assert!(said.starts_with("+OK"), "{said}");
        }
    }

    /// Their address, of a gateway that does not log in.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// What an address says of the login that they ask for.
    pub fn login(&self) -> &'static str {
        "?sentinel-user=gateway&sentinel-password=secret"
    }
}

/// Waits, about a minute at the most, until this is so.
fn eventually(what: &str, so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it did not come to this in time: {what}");
}
