//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokenweir_apim::Scope;
use tokenweir_replay::OutputRule;

/// Token limits for LLM gateways: check a policy, explain a decision, replay a recorded trace, import a policy, drive an
/// AI Gateway.
///
/// Exit codes: 0 done; 1 a result could not be written; 2 the policy, the trace or the command line is wrong; 3 a
/// gateway refused what was asked.
#[derive(Debug, Parser)]
#[command(name = "tokenweir", version)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do. The text of each stands at its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Replay(Box<Replay>),
    Check(Check),
    Explain(Explain),
    Gateway(Box<crate::gateway::args::Gateway>),
    /// Make a policy of another gateway's.
    #[command(subcommand)]
    Import(Import),
}

/// Of which gateway.
#[derive(Debug, Subcommand)]
pub enum Import {
    Apim(Box<Apim>),
}

/// Say what a policy would have admitted of a recorded trace.
///
/// The trace drives the engine that the library exports, on a clock that shows the times of the trace. The same trace
/// and policy give the same decisions, to the byte.
///
/// A trace of JSON lines is sorted by "at"; each line is one request:
///
///   {"at": 12.25, "project": "search", "deployment": "gpt-4o", "keys": {"user": "u-17"},
///    "estimate": {"input": 900, "output": 400},
///    "usage": {"input": 912, "cached_input": 0, "output": 77}, "duration": 3.5}
///
/// "at" is RFC 3339 text or a number of seconds since 1970 (or since --start). "duration" is the seconds until it
/// settles, 0 if absent. "usage" null or absent: dropped without a word, the estimate stands. "cancel": true: cancelled
/// at that time, and whatever "usage" says is not charged. "keys" and "estimate" may be absent. Numbers are read
/// exactly, to the nanosecond; digits beyond it are dropped. An unknown field, a malformed or empty line, and a line
/// that is earlier than the one before it stop the run with its number: nothing is skipped.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Replay {
    /// The policy, TOML or JSON by its extension.
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// The format of the policy, whatever its extension.
    #[arg(long, value_name = "FORMAT")]
    pub policy_format: Option<PolicyFormat>,
    /// The trace; - is the standard input.
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,
    /// The format of the trace.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub format: TraceFormat,
    /// Write one JSON line for each request, in the order of the trace; - is the standard output.
    ///
    /// It is written under a temporary name beside it and renamed when the run is done: a run that fails leaves what
    /// was there before.
    #[arg(long, value_name = "FILE")]
    pub decisions: Option<PathBuf>,
    /// Write a report for a browser, one file that needs no other. Renamed into place as --decisions is.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// What a number in "at" counts from.
    #[arg(long, value_name = "RFC3339")]
    pub start: Option<String>,
    /// How many counters may be live at a time, as the host that is tried out configures it.
    #[arg(long, value_name = "N", default_value = "262144", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_counters: u32,
    /// Show every key in the summary, not only those that were denied most.
    #[arg(long)]
    pub all: bool,
    /// Run the trace through so many processes at once, each with a part of its requests, on the real clock, and say what was
    /// admitted in all. Every limit begins with nothing used.
    #[arg(long, value_name = "N", help_heading = "Several processes", value_parser = clap::value_parser!(u32).range(1..=64), conflicts_with_all = ["decisions", "report"])]
    pub processes: Option<u32>,
    /// Where counters are besides this process's memory. redb:PATH: a file of quotas, made if there is none. Each run goes on
    /// from the use that the runs before it have left there, and adds its own when it is done: a run that fails leaves the
    /// file as it was. Limits of other kinds begin with nothing used.
    ///
    /// Periods are those of the trace, not of the day of the run. Where the file has an earlier period of a quota than the
    /// trace, the trace begins a new one. Where it has a later one, since a later trace was run before, the trace uses of that:
    /// a quota does not go back. Take another file for each course of time.
    ///
    /// With --processes: shared, a region in the memory of this host (Linux; room for 16,384 counters at most);
    /// redis://HOST:PORT, redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT/NAME. Without it each has
    /// counters of its own.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Offer the requests so many times as fast as the trace has them; as fast as they are decided on unless set.
    #[arg(long, value_name = "TIMES", help_heading = "Several processes", requires = "processes", value_parser = speed)]
    pub speed: Option<f64>,
    /// Which of the processes this is.
    #[arg(long, hide = true, requires = "processes")]
    pub worker: Option<u32>,
    /// Where the counters of the run are.
    #[arg(long, hide = true, requires = "worker")]
    pub place: Option<String>,
    /// azure-llm: the project that makes the requests.
    #[arg(long, value_name = "NAME", help_heading = "Azure LLM traces", default_value = "azure")]
    pub project: String,
    /// azure-llm: the deployment that they call.
    #[arg(long, value_name = "NAME", help_heading = "Azure LLM traces", default_value = "llm")]
    pub deployment: String,
    /// azure-llm: the output that each request expects: 400 (tokens), or 4x or 1.5x (times what it produced, rounded
    /// up). With the default the estimate is right, which shows the demand itself.
    #[arg(long, value_name = "RULE", help_heading = "Azure LLM traces", default_value = "1x")]
    pub estimate_output: OutputRule,
    /// azure-llm: seconds until a request settles.
    #[arg(long, value_name = "SECONDS", help_heading = "Azure LLM traces", default_value = "0", value_parser = seconds)]
    pub duration: i64,
    /// azure-llm: further seconds for each token that it produced.
    #[arg(long, value_name = "SECONDS", help_heading = "Azure LLM traces", default_value = "0", value_parser = seconds)]
    pub duration_per_token: i64,
}

/// Say whether policy files are right, and what limits they hold.
#[derive(Debug, Args)]
pub struct Check {
    /// The policies, TOML or JSON by their extension.
    #[arg(value_name = "POLICY", required = true)]
    pub policies: Vec<PathBuf>,
    /// The format of the policies, whatever their extension.
    #[arg(long, value_name = "FORMAT")]
    pub policy_format: Option<PolicyFormat>,
}

/// Say which limits a request meets, what it is charged, and why the others do not apply.
///
/// Nothing has been used yet in what it shows: a limit that the estimate does not fit now can never admit it.
#[derive(Debug, Args)]
pub struct Explain {
    /// The policy, TOML or JSON by its extension.
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// The format of the policy, whatever its extension.
    #[arg(long, value_name = "FORMAT")]
    pub policy_format: Option<PolicyFormat>,
    /// The project that calls.
    #[arg(long, value_name = "NAME")]
    pub project: std::ffi::OsString,
    /// The deployment that it calls.
    #[arg(long, value_name = "NAME")]
    pub deployment: std::ffi::OsString,
    /// A caller key, for instance user=u-17. May be repeated.
    #[arg(long = "key", value_name = "NAME=VALUE", value_parser = key)]
    pub keys: Vec<(String, String)>,
    /// The estimated input tokens.
    #[arg(long, value_name = "N", default_value = "0", value_parser = tokens)]
    pub input: u64,
    /// The estimated output tokens.
    #[arg(long, value_name = "N", default_value = "0", value_parser = tokens)]
    pub output: u64,
}

/// Make a policy of policy documents of Azure API Management.
///
/// Reads llm-token-limit, azure-openai-token-limit, rate-limit, rate-limit-by-key, quota, quota-by-key and
/// limit-concurrency, and the dimensions of llm-emit-token-metric and azure-openai-emit-token-metric. Every element is
/// imported, listed with the reason as not mapped, or listed as not about limits. A document that API Management
/// refuses or ought to (a counter without a key, two limits on one counter that do not allow the same) is an error.
///
///   tokenweir import apim api.xml --document product:gold=gold.xml --set tpm=1000 --output policy.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Apim {
    /// The policy document.
    #[arg(value_name = "POLICY.xml")]
    pub policy: PathBuf,
    /// The level at which it stands: global, workspace, product, api or operation, and of which one it is. Without an id
    /// it is of all requests.
    #[arg(long, value_name = "SCOPE[:ID]", default_value = "api", value_parser = scope)]
    pub scope: (Scope, Option<String>),
    /// A further document, of another level or of another product, API and so on; <base /> brings in the level around.
    /// May be repeated.
    #[arg(long = "document", value_name = "SCOPE[:ID]=FILE", value_parser = document)]
    pub documents: Vec<((Scope, Option<String>), PathBuf)>,
    /// A fragment that documents include. May be repeated.
    #[arg(long = "fragment", value_name = "ID=FILE", value_parser = pair)]
    pub fragments: Vec<(String, String)>,
    /// The value of {{NAME}}. May be repeated.
    #[arg(long = "named-value", value_name = "NAME=VALUE", value_parser = pair)]
    pub named_values: Vec<(String, String)>,
    /// The value of the placeholder {NAME} or ${NAME}. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub placeholders: Vec<(String, String)>,
    /// What a part of a request is called in the policy, for instance product=project. May be repeated.
    #[arg(long = "part", value_name = "PART=NAME", value_parser = pair)]
    pub parts: Vec<(String, String)>,
    /// The tiers of API Management: classic ones count rates in a sliding window, v2 ones in a token bucket.
    #[arg(long, value_name = "TIER", default_value = "v2")]
    pub tier: Tier,
    /// Write the policy there; - is the standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Print the account of every element as JSON, the policy in it.
    #[arg(long)]
    pub json: bool,
    /// Fail where anything is not mapped.
    #[arg(long)]
    pub strict: bool,
}

/// The tiers of API Management.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Consumption, Developer, Basic, Standard, Premium.
    Classic,
    /// Basic v2, Standard v2, Premium v2.
    V2,
}

/// How a policy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyFormat {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// JSON lines.
    Jsonl,
    /// The CSV of the public Azure LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens.
    AzureLlm,
}

fn seconds(text: &str) -> Result<i64, String> {
    tokenweir_replay::instant::seconds(text)
        .map_err(|reason| format!("{text:?} {reason}; write seconds, for instance 0.05"))
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed >= 1e-3);
    speed.ok_or_else(|| format!("{text:?} is not a number from 0.001; write 1 for the trace's own speed"))
}

fn tokens(text: &str) -> Result<u64, String> {
    tokenweir_replay::tokens(text).ok_or_else(|| format!("{text:?} is not a whole number from 0 to 2^53"))
}

/// A caller key: `user=u-17`.
pub fn key(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.strip_prefix("key:").unwrap_or(name).to_string(), value.to_string()))
        }
        _ => Err("a caller key is written NAME=VALUE, for instance user=u-17".into()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("it is written with a name, = and a value, for instance tpm=1000".into()),
    }
}

fn scope(text: &str) -> Result<(Scope, Option<String>), String> {
    let (scope, id) = match text.split_once(':') {
        Some((_, "")) => return Err("the id is empty; write one, or leave : out".into()),
        Some((scope, id)) => (scope, Some(id.to_string())),
        None => (text, None),
    };
    Ok((scope.parse()?, id))
}

fn document(text: &str) -> Result<((Scope, Option<String>), PathBuf), String> {
    let (of, file) = pair(text).map_err(|_| "write SCOPE=FILE or SCOPE:ID=FILE, for instance product:gold=gold.xml")?;
    Ok((scope(&of)?, file.into()))
}
