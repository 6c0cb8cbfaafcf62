//! The `tokenweir` command: replay a recorded trace, check a policy, explain a decision, import a policy, drive a gateway.
//!
//! It reads and prints. Every decision is the engine's, and `tokenweir-replay` drives it through a trace.
//!
//! - `args`, `failure`: the command line, and how a run ends;
//! - `policy_file`, `limits`, `quota_file`: what is read, and of the last what is written at the end;
//! - `replay`, `check`, `explain`, `import`: the commands;
//! - `together`: a trace through several processes;
//! - `gateway`: a gateway on a state file;
//! - `tally`, `timeline`, `axis`: what a replay adds up;
//! - `summary`, `report`, `text`, `output`, `progress`: what is written.

mod args;
mod axis;
mod check;
mod explain;
mod failure;
mod gateway;
mod import;
mod limits;
mod output;
mod policy_file;
mod progress;
mod quota_file;
mod replay;
mod report;
mod summary;
mod tally;
mod text;
mod timeline;
mod together;

use std::process::ExitCode;

use clap::Parser;

use args::{Command, CommandLine, Import};

fn main() -> ExitCode {
    // Damage of a file of quotas is told as an error.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !tokenweir_redb::is_told(panic) {
            print(panic);
        }
    }));
    let done = match CommandLine::parse().command {
        Command::Replay(args) => match args.processes {
            Some(processes) => together::run(&args, processes),
            None => replay::run(&args),
        },
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Gateway(args) => gateway::run(&args),
        Command::Import(Import::Apim(args)) => import::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
