//! The gateway as a process of its own, with its workers, and requests that each come over a connection of their own.

use crate::support::{ADMIN, Answer, LOOK, get, post};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Program {
    child: Child,
    pub address: SocketAddr,
    pub directory: TempDir,
}

fn command(arguments: &[&str], directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenweir-gateway"));
    command.args(arguments).arg(directory.path().join("gateway.toml")).stdout(Stdio::piped());
    command
}

fn write(directory: &TempDir, text: &str) {
    let new = directory.path().join("new.toml");
    // Its own region, so that nothing is left when the directory goes.
    let whole = format!("region = '@/region'\n{text}").replace('@', &directory.path().display().to_string());
    std::fs::write(&new, whole).expect("written");
    std::fs::rename(&new, directory.path().join("gateway.toml")).expect("in place");
}

/// Where there is memory for a region.
pub fn directory() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a directory")
}

/// Why it does not start, in a directory of its own.
pub fn does_not_start(arguments: &[&str], text: &str) -> String {
    why_not(arguments, text, &directory())
}

/// Why it does not start in a directory that may have what another has left.
pub fn why_not(arguments: &[&str], text: &str, directory: &TempDir) -> String {
    write(directory, text);
    why(command(arguments, directory))
}

/// Why it does not start with this text as it is.
pub fn does_not_start_as(arguments: &[&str], text: &str) -> String {
    let directory = directory();
    std::fs::write(directory.path().join("gateway.toml"), text).expect("written");
    why(command(arguments, &directory))
}

fn why(mut command: Command) -> String {
    let output = command.output().expect("a process");
    assert!(!output.status.success(), "it starts");
    String::from_utf8(output.stderr).expect("text")
}

impl Program {
    pub fn with(arguments: &[&str], text: &str) -> Program {
        Program::within(directory(), arguments, text)
    }

    /// In a directory that may have what another has left.
    pub fn within(directory: TempDir, arguments: &[&str], text: &str) -> Program {
        write(&directory, text);
        let mut child = command(arguments, &directory).spawn().expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("it starts").expect("text");
        let (_, rest) = first.split_once("http://").unwrap_or_else(|| panic!("{first}"));
        let address = rest.split(';').next().expect("an address").parse().expect("an address");
        // It goes on talking.
        std::thread::spawn(move || lines.for_each(drop));
        Program { child, address, directory }
    }

    pub fn write(&self, text: &str) {
        write(&self.directory, text);
    }

    /// Over a connection of its own.
    pub async fn ask(&self, request: Request<Full<Bytes>>) -> http::Response<hyper::body::Incoming> {
        ask(self.address, request).await.expect("a response")
    }

    pub async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        Answer::of(self.ask(post(path, key, body)).await).await
    }

    pub async fn get(&self, path: &str, key: &str) -> Answer {
        Answer::of(self.ask(get(path, key)).await).await
    }

    pub async fn operate(&self, operation: Value) -> Answer {
        self.post("/admin/operations", ADMIN, &operation.to_string()).await
    }

    /// What the counters of a limit have used in all.
    pub async fn used(&self, limit: &str) -> u64 {
        let usage = self.get("/admin/usage", LOOK).await.json();
        let counters = usage["counters"].as_array().expect("counters").iter();
        counters
            .filter(|counter| counter["limit"] == limit)
            .map(|counter| counter["used"].as_u64().expect("a number"))
            .sum()
    }

    /// The processes that serve. Asked once more where one that was killed had taken the connection.
    pub async fn workers(&self) -> Vec<u64> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let response = loop {
            match ask(self.address, get("/admin/configuration", LOOK)).await {
                Ok(response) => break response,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let told = Answer::of(response).await.json();
        let processes = told["workers"]["processes"].as_array().expect("processes");
        processes.iter().map(|process| process.as_u64().expect("a number")).collect()
    }

    pub fn signal(&self, signal: &str) {
        send(signal, u64::from(self.child.id()));
    }

    /// Waits until it has ended. What it has left.
    pub fn ended(mut self) -> (ExitStatus, TempDir) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("it was started") {
                let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().expect("a directory"));
                return (status, directory);
            }
            assert!(Instant::now() < deadline, "it ends within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn ask(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<http::Response<hyper::body::Incoming>, hyper_util::client::legacy::Error> {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let (mut head, body) = request.into_parts();
    head.uri = format!("http://{address}{}", head.uri).parse().expect("an address");
    client.request(Request::from_parts(head, body)).await
}

pub fn send(signal: &str, process: u64) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status().expect("kill");
    assert!(sent.success(), "process {process} is there");
}

/// Whether a process is there, and not only still to be waited for.
pub fn lives(process: u64) -> bool {
    let told = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    told.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
