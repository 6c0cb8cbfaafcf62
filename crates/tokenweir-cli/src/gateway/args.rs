//! The command line of `tokenweir gateway`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Drive an AI Gateway of Foundry on a state file: create it, put projects behind it, limit, call, watch, take it down.
///
/// Nothing is called: the model, its rules and its counters are the library's own, in memory, and kept in the state file
/// between commands. Two commands at once wait for one another; a refused operation changes nothing but the audit trail.
///
///   tokenweir gateway init contoso --deployment gpt-4o --project search
///   tokenweir gateway create front
///   tokenweir gateway add-project search
///   tokenweir gateway set-limit search gpt-4o --tpm 100 --quota 250/monthly
///   tokenweir gateway call search gpt-4o --usage 40+20 --count 3
///   tokenweir gateway status
///
/// Exit codes beside those of `tokenweir`: 3 the operation was refused, or verify found something. A call that a limit
/// refuses is a result, not a failure.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Gateway {
    /// What all commands share.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What all commands share.
#[derive(Debug, Args)]
pub struct Common {
    /// Where the gateway is kept between commands.
    #[arg(long, global = true, value_name = "FILE", default_value = "gateway.json")]
    pub state: PathBuf,
    /// Who asks, for what asks for permission. Needed where more than one principal is known.
    #[arg(long = "as", global = true, value_name = "WHO")]
    pub by: Option<String>,
    /// The Foundry resource it is about. Needed where there is more than one.
    #[arg(long, global = true, value_name = "NAME")]
    pub resource: Option<String>,
    /// What time it is, for runs that can be repeated: RFC 3339. The system's clock unless given.
    #[arg(long, global = true, value_name = "RFC3339")]
    pub now: Option<String>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do. The text of each stands at its arguments.
#[derive(Debug, Subcommand)]
pub enum Action {
    Init(Box<Init>),
    /// Have a new Basic v2 instance made, and a gateway on it.
    Create {
        /// The gateway's name.
        name: String,
        /// The new instance's name; the gateway's unless given.
        #[arg(long, value_name = "NAME")]
        instance: Option<String>,
        /// Where to make it; the resource's own group unless given.
        #[arg(long, value_name = "NAME")]
        resource_group: Option<String>,
    },
    /// Make a gateway on an API Management instance that exists.
    Associate {
        /// The instance.
        instance: String,
        /// The gateway's name.
        name: String,
    },
    /// Show each instance with what keeps it from hosting the gateway.
    Candidates,
    /// Try again what failed.
    Retry,
    /// Make a project. It is behind the gateway from the start if that is Enabled.
    CreateProject(Project),
    /// Put a project behind the gateway.
    AddProject(Project),
    /// Take a project from behind the gateway; its limits are kept.
    RemoveProject(Project),
    /// Remove and add in one step: the last resort against errors 500 that stay.
    ReAddProject(Project),
    SetLimit(SetLimit),
    /// Take a limit away. Without a deployment: the one on all projects together.
    ClearLimit {
        /// The project.
        #[arg(requires = "deployment")]
        project: Option<String>,
        /// The deployment.
        deployment: Option<String>,
    },
    RegisterAgent(RegisterAgent),
    /// Have requests to a custom agent refused.
    BlockAgent(Agent),
    /// Let requests to a custom agent through again.
    UnblockAgent(Agent),
    CreateTool(CreateTool),
    Call(Box<Call>),
    /// Show gateways, projects, limits and what is left of them.
    Status,
    /// Send a test call, and see that it is governed, counted and logged, and that limits refuse.
    Verify {
        /// The project that calls.
        project: String,
        /// The deployment that it calls.
        deployment: String,
    },
    Diagnose(Box<Diagnose>),
    /// Take the gateway from its resource. All projects must be removed first; the instance stays, and bills.
    Delete,
    /// Delete an instance, which ends its charges.
    DeleteInstance {
        /// The instance.
        instance: String,
    },
    /// Keep the instance whose gateway was deleted: it bills on, and can host another.
    KeepInstance {
        /// The instance.
        instance: String,
    },
    /// State that someone holds a role more. Roles are given elsewhere: it states a fact, and asks for nobody's permission.
    Grant {
        /// Who.
        who: String,
        /// The role, by its name, former name or id.
        role: String,
        /// Where: /subscriptions/S and further down. The resource's subscription unless given.
        #[arg(long, value_name = "SCOPE")]
        scope: Option<String>,
    },
    /// State that someone holds no role: makes someone known, or forgets all roles. Like grant, it asks for no permission.
    Revoke {
        /// Who.
        who: String,
    },
    /// Show who did what, when, and how it ended.
    Audit {
        /// The newest so many entries.
        #[arg(long, value_name = "N", default_value = "20")]
        last: usize,
    },
    /// Print the gateway's limits as a policy of the engine, in JSON.
    Policy,
    /// Carry out any command of the library's console, in JSON; - reads it from the standard input.
    ///
    /// For what has no command of its own: {"apply": {"by": ..., "operation": ...}}, {"declare": ...} and so on, without
    /// "now".
    Command {
        /// The command.
        #[arg(value_name = "JSON")]
        text: String,
    },
}

/// A project.
#[derive(Debug, Args)]
pub struct Project {
    /// The project.
    pub project: String,
}

/// A custom agent.
#[derive(Debug, Args)]
pub struct Agent {
    /// The project.
    pub project: String,
    /// The agent.
    pub agent: String,
}

/// Begin a state file with one Foundry resource, its deployments and projects, and someone who may do everything.
#[derive(Debug, Args)]
pub struct Init {
    /// The Foundry resource.
    pub name: String,
    /// A model deployment of it. May be repeated.
    #[arg(long = "deployment", value_name = "NAME[=MODEL]")]
    pub deployments: Vec<String>,
    /// A project of it, older than any gateway. May be repeated.
    #[arg(long = "project", value_name = "NAME")]
    pub projects: Vec<String>,
    /// Who holds Owner and Foundry Owner on the subscription.
    #[arg(long, value_name = "WHO", default_value = "admin")]
    pub principal: String,
    /// Its directory.
    #[arg(long, value_name = "ID", default_value = "tenant")]
    pub tenant: String,
    /// Its subscription.
    #[arg(long, value_name = "ID", default_value = "subscription")]
    pub subscription: String,
    /// Its resource group.
    #[arg(long, value_name = "NAME", default_value = "group")]
    pub resource_group: String,
    /// Where it stands.
    #[arg(long, value_name = "REGION", default_value = "swedencentral")]
    pub region: String,
    /// It cannot be reached from the public network.
    #[arg(long)]
    pub private: bool,
    /// Seconds until a gateway is ready: 300 to 600 in the cloud.
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub ready_after: u64,
    /// Seconds until a deleted instance is gone.
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub gone_after: u64,
    /// Have everything that is made fail with this reason.
    #[arg(long, value_name = "REASON")]
    pub failure: Option<String>,
    /// How limits are counted and answered.
    #[arg(long, value_name = "PROFILE", default_value = "v2")]
    pub profile: Profile,
}

/// How limits are counted and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// As the v2 tiers of API Management do: token buckets, charged afterwards.
    V2,
    /// As the classic tiers do: sliding windows, charged afterwards.
    Classic,
    /// As this library's own policies do: estimates are charged at once.
    Native,
}

/// Set or adjust the limit of a project on a deployment; without them, the limit on all projects together.
///
/// A limit has two halves, tokens per minute and a quota. The half that is not given stays as it is; none takes it away.
/// clear-limit takes both away.
#[derive(Debug, Args)]
pub struct SetLimit {
    /// The project.
    #[arg(requires = "deployment")]
    pub project: Option<String>,
    /// The deployment.
    pub deployment: Option<String>,
    /// Tokens per minute, or none.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub tpm: Option<String>,
    /// Tokens in a period (hourly, daily, weekly, monthly or yearly), or none.
    #[arg(long, value_name = "N/PERIOD", allow_hyphen_values = true)]
    pub quota: Option<String>,
}

/// Register a custom agent that is hosted elsewhere.
#[derive(Debug, Args)]
pub struct RegisterAgent {
    /// The project.
    pub project: String,
    /// The agent.
    pub agent: String,
    /// Where it is: an address of its own.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// How it is spoken to: HTTP or A2A.
    #[arg(long, value_name = "PROTOCOL", default_value = "A2A")]
    pub protocol: String,
}

/// Make a tool. Whether its calls pass the gateway is decided here, and never after.
#[derive(Debug, Args)]
pub struct CreateTool {
    /// The project.
    pub project: String,
    /// The tool.
    pub tool: String,
    /// Where its server is.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// mcp, a2a, open_api, share_point or code_first_mcp.
    #[arg(long, value_name = "KIND", default_value = "mcp")]
    pub kind: String,
    /// key, managed_identity, custom_o_auth, managed_o_auth or none.
    #[arg(long, value_name = "AUTH", default_value = "key")]
    pub auth: String,
    /// Refuse it if its calls would not pass the gateway.
    #[arg(long)]
    pub require_gated: bool,
}

/// Send calls through the gateway, as if a model had answered.
///
/// Each is decided on, and settled with --usage if it passes. Prints 200, or 429 or 403 with the text and the Retry-After
/// that a client would see.
#[derive(Debug, Args)]
pub struct Call {
    /// The project that calls.
    pub project: String,
    /// The deployment that it calls; none where it calls --agent or --tool.
    pub deployment: Option<String>,
    /// The tokens that each call takes: input+output.
    #[arg(long, value_name = "IN+OUT", default_value = "1+1", value_parser = pair)]
    pub usage: (u64, u64),
    /// Of the input, how many came from the provider's cache.
    #[arg(long, value_name = "N", default_value = "0")]
    pub cached: u64,
    /// The tokens that each call is expected to take: input+output.
    #[arg(long, value_name = "IN+OUT", value_parser = pair)]
    pub estimate: Option<(u64, u64)>,
    /// The responses are streamed.
    #[arg(long)]
    pub stream: bool,
    /// How many calls, one after the other.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// A caller key, for instance user=u-17. May be repeated.
    #[arg(long = "key", value_name = "NAME=VALUE", value_parser = crate::args::key)]
    pub keys: Vec<(String, String)>,
    /// The custom agent that is called, or on whose behalf.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// The tool that is called.
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
}

/// Say why something does not work, from what was seen. Each fact is optional.
///
/// Who could not make a gateway, or not choose an instance, is given by --as.
#[derive(Debug, Args)]
pub struct Diagnose {
    /// The project it is about.
    pub project: Option<String>,
    /// The deployment, as the call named it.
    pub deployment: Option<String>,
    /// When a call was made: RFC 3339. Now unless given.
    #[arg(long, value_name = "RFC3339")]
    pub at: Option<String>,
    /// A call's status.
    #[arg(long, value_name = "CODE")]
    pub status: Option<u16>,
    /// A header of a call's answer. May be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// A call's body.
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// The host that the client called.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// How long a call took.
    #[arg(long, value_name = "MILLISECONDS")]
    pub latency: Option<u64>,
    /// The status of the same call past the gateway.
    #[arg(long, value_name = "CODE")]
    pub direct_status: Option<u16>,
    /// How long the same call took past the gateway.
    #[arg(long, value_name = "MILLISECONDS")]
    pub direct_latency: Option<u64>,
    /// Whether the call passed the gateway: its counters moved.
    #[arg(long, value_name = "BOOL")]
    pub passed_gateway: Option<bool>,
    /// LastErrorReason of a call in the gateway's log.
    #[arg(long, value_name = "REASON")]
    pub last_error_reason: Option<String>,
    /// Whether the gateway is in its list.
    #[arg(long, value_name = "BOOL")]
    pub gateway_listed: Option<bool>,
    /// Whether the project is in the gateway's list.
    #[arg(long, value_name = "BOOL")]
    pub project_listed: Option<bool>,
    /// Which Gateway status the project has there: enabled or disabled.
    #[arg(long, value_name = "STATUS")]
    pub listed_as: Option<String>,
    /// When the list was read last: RFC 3339.
    #[arg(long, value_name = "RFC3339")]
    pub list_read: Option<String>,
    /// An instance that cannot be chosen.
    #[arg(long, value_name = "NAME")]
    pub missing_instance: Option<String>,
    /// What the making of a gateway was refused with. May be repeated.
    #[arg(long, value_name = "CODE")]
    pub refused: Vec<String>,
    /// Tokens that passed a limit that should have refused, and the seconds in which.
    #[arg(long, value_name = "TOKENS/SECONDS")]
    pub unrefused: Option<String>,
    /// The tool that was called.
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// The custom agent that was called.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Everything as JSON, in place of what else tells what was seen.
    #[arg(long, value_name = "JSON")]
    pub seen: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("a header is written NAME=VALUE, for instance retry-after=7".into()),
    }
}

fn pair(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is not two whole numbers; write input+output, for instance 40+20");
    let (input, output) = text.split_once('+').ok_or_else(wrong)?;
    Ok((input.trim().parse().map_err(|_| wrong())?, output.trim().parse().map_err(|_| wrong())?))
}
