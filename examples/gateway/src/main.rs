//! The gateway as a program.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokenweir_gateway::{Digest, Sample, WORKER, cannot_listen, new_key, serve_sample, start, start_workers, work};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
A gateway in front of models, with projects, limits and keys.

  tokenweir-gateway [FILE]              runs the gateway that FILE describes; the sample's unless given
  tokenweir-gateway --workers N [FILE]  the same with N processes that serve, whose limits count once
  tokenweir-gateway key                 makes an API key, and the digest that belongs into the file
  tokenweir-gateway digest              reads a key from standard input, and writes its digest
  tokenweir-gateway sample [ADDRESS]    runs the sample upstream alone, without a pace; on 127.0.0.1:8788 unless given
";

fn main() -> ExitCode {
    // Damage of a file of quotas is told as an error.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !tokenweir_redb::is_told(panic) {
            print(panic);
        }
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // An option and its value may be one word.
    let parts = |word: &'_ String| match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") => vec![option.to_owned(), value.to_owned()],
        _ => vec![word.clone()],
    };
    let arguments: Vec<String> = arguments.iter().flat_map(parts).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["-h" | "--help"] => {
            print!("{USAGE}");
            Ok(())
        }
        ["key"] => new_key().map(|key| println!("key     {key}\nsha256  {}", Digest::of(key.as_bytes()))),
        ["digest"] => digest(),
        ["sample"] => sample("127.0.0.1:8788"),
        ["sample", address] => sample(address),
        [WORKER] => runtime().and_then(|runtime| {
            let worked = runtime.block_on(work());
            // What is still under way has had its time.
            runtime.shutdown_background();
            worked
        }),
        [] => run(&sample_file(), None),
        ["--workers", number] => workers(number).and_then(|number| run(&sample_file(), Some(number))),
        ["--workers", number, file] if !file.starts_with('-') => {
            workers(number).and_then(|number| run(Path::new(file), Some(number)))
        }
        [file] if !file.starts_with('-') => run(Path::new(file), None),
        _ => Err(format!("the arguments are not understood\n\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokenweir-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The sample's file, beside this program's source.
fn sample_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml")
}

fn digest() -> Result<(), String> {
    let mut key = String::new();
    std::io::stdin().read_line(&mut key).map_err(|error| error.to_string())?;
    println!("{}", Digest::of(key.trim().as_bytes()));
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())
}

fn sample(address: &str) -> Result<(), String> {
    let address: SocketAddr = address.parse().map_err(|_| format!("{address:?} is no address; give 127.0.0.1:8788"))?;
    let serving = serve_sample(address, Sample { pace: Duration::ZERO });
    runtime()?.block_on(serving).map_err(|error| cannot_listen(address, &error))
}

fn workers(number: &str) -> Result<usize, String> {
    number.parse().map_err(|_| format!("--workers {number}: give how many processes are to serve"))
}

fn run(file: &Path, workers: Option<usize>) -> Result<(), String> {
    runtime()?.block_on(async {
        let wrong = |error: std::io::Error| error.to_string();
        let mut terminate = signal(SignalKind::terminate()).map_err(wrong)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(wrong)?;
        let started = match workers {
            Some(number) => start_workers(file, number).await,
            None => start(file, Sample::default()).await,
        };
        let gateway = started.map_err(|error| error.to_string())?;
        println!("the gateway is at http://{0}; its status page at http://{0}/status", gateway.address());
        let lost = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            why = gateway.lost() => Some(why),
        };
        println!("no new connections; waiting for the calls that are under way");
        gateway.shutdown().await;
        lost.map_or(Ok(()), Err)
    })
}
