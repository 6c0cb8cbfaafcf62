//! A gateway's console as one value that takes commands in JSON: what other languages and the command line drive.
//!
//! - `command`: the commands, as they are read;
//! - `settings`: how a console is built, and what of it a document keeps;
//! - `control`: the estate, and the gate of each resource, which follows it;
//! - `calls`: calls that are decided on and ended by commands;
//! - `status`, `verify`: what is shown, and whether it works;
//! - `kept`: the newest records, for who polls;
//! - `error`: what a command is refused with.

mod calls;
mod command;
mod control;
mod error;
mod kept;
mod settings;
mod status;
mod verify;

pub use error::ConsoleError;
pub use settings::{ConsoleBuilder, ConsoleOptions, ConsoleSettings, ConsoleTime};

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::code::Code;
use super::estate::Estate;
use super::model::{ResourceName, Timestamp};
use super::rules::rules;
use super::traffic::Gate;
use super::{Observation, diagnose};
use crate::clock::{Clock, ManualClock, Now};
use crate::sync::Mutex;
use calls::OpenCalls;
use command::{Command, Envelope};
use control::Control;
use kept::KeptRecords;

/// The Admin console of Foundry resources and the traffic through their gateways, driven by commands in JSON.
///
/// A command is an object with the command's name, and `now` where the console is told the time. The answer is
/// `{"ok": ...}` or `{"error": {"code": ..., "message": ..., "next": ..., "findings": [...]}}`. A refused command has changed
/// nothing but the audit trail. A call that a limit refuses is an answer, not an error. Where there is one Foundry resource,
/// `resource` may be left out, except in operations.
///
/// | command | fields | answer |
/// |---|---|---|
/// | `apply` | `by`, `operation`: an [`Operation`](super::Operation) | an [`Applied`](super::Applied) |
/// | `declare` | a [`Declaration`](super::Declaration) | an [`Applied`](super::Applied) |
/// | `refresh` | | `changes`: what came to an end |
/// | `status` | `resource` (all if absent) | `resources`, `instances` with states, limits and their use |
/// | `candidates` | `by`, `resource` | each instance, with what keeps it from hosting the gateway |
/// | `verify` | `resource`, `project`, `deployment`, `usage` (1 and 1 tokens if absent) | `passed`, `checks` |
/// | `call` | `resource`, `project`, `deployment`, `agent`, `tool`, `keys`, `estimate`, `streamed`, `correlation_id`, `operation` | `outcome`, and `call` to end it by, or `status`, `message`, `retry_after`, `headers`, `body` |
/// | `observe` | `call`, `input`, `output`: tokens more of a stream | `spent`: whether a limit is; `remaining` |
/// | `renew` | `call`: it lives for [`call_ttl_seconds`](ConsoleOptions::call_ttl_seconds) from now on | `seconds` |
/// | `settle` | `call`, `usage`, `estimated` (whether a part of it was counted), `reasoning`, `response_code`, `backend_response_code`, `deployment_served`, `model_served`, `backend_ns`, `first_token_ns` | `settlement`, `remaining`, `headers`, `record` |
/// | `cancel` | `call` | as `settle` |
/// | `diagnose` | `resource`, `seen`: an [`Observation`] | `causes` |
/// | `audit` | `after` (a number), `most` | `entries`, `dropped` |
/// | `records` | `most` | `records`: the oldest that were not taken yet, `dropped` |
/// | `policy` | `resource` | the limits as one policy of the engine |
/// | `rules` | | the requirements V-01 to V-23 |
/// | `save` | `counters` (true if absent) | `document` |
/// | `load` | `document` | `counters`: by resource, how many were `restored` and what was `left_out` |
///
/// All methods may be called from any thread at once. Calls by command find their gate under the lock that operations, views
/// and documents hold while they work; on the path of many calls keep the [`gate`](Console::gate) itself, which takes none of it.
///
/// # Example
/// ```
/// use tokenweir::gateway::{Console, ConsoleOptions};
///
/// // Told the time by each command; instances are ready at once.
/// let console = Console::new(&serde_json::from_str::<ConsoleOptions>(r#"{"time": "given"}"#)?);
/// let ok = |command: &str| {
///     let answer: serde_json::Value = serde_json::from_str(&console.command(command))?;
///     Ok::<_, Box<dyn std::error::Error>>(answer["ok"].clone())
/// };
/// for command in [
///     r#"{"now": "2026-11-23T09:00:00Z", "declare": {"resource": {"name": "contoso", "public_network_access": true,
///         "site": {"tenant": "t", "subscription": "s", "resource_group": "g", "region": "swedencentral"}}}}"#,
///     r#"{"declare": {"deployment": {"resource": "contoso", "name": "gpt-4o", "model": "gpt-4o"}}}"#,
///     r#"{"declare": {"project": {"resource": "contoso", "name": "search", "created": "2026-01-01T00:00:00Z"}}}"#,
///     r#"{"declare": {"principal": {"id": "ada", "assignments": [
///         {"role": "Owner", "scope": "/subscriptions/s"}, {"role": "Foundry Owner", "scope": "/subscriptions/s"}]}}}"#,
///     r#"{"apply": {"by": "ada", "operation": {"create_gateway": {"resource": "contoso", "name": "front"}}}}"#,
///     r#"{"apply": {"by": "ada", "operation": {"add_project": {"resource": "contoso", "project": "search"}}}}"#,
///     r#"{"apply": {"by": "ada", "operation": {"set_limit": {"resource": "contoso", "project": "search",
///         "deployment": "gpt-4o", "limit": {"tokens_per_minute": 100}}}}}"#,
/// ] {
///     assert_ne!(ok(command)?, serde_json::Value::Null, "{command}");
/// }
/// let passed = ok(r#"{"call": {"project": "search", "deployment": "gpt-4o"}}"#)?;
/// assert_eq!(passed["outcome"], "admitted");
/// let settle = format!(r#"{{"settle": {{"call": {}, "usage": {{"input": 90, "output": 20}}}}}}"#, passed["call"]);
/// assert_eq!(ok(&settle)?["settlement"]["output"], 20);
/// let refused = ok(r#"{"call": {"project": "search", "deployment": "gpt-4o"}}"#)?;
/// assert_eq!((&refused["status"], &refused["retry_after"]), (&429.into(), &7.into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Console {
    clock: Arc<dyn Clock>,
    /// The clock, where commands set it.
    given: Option<GivenTime>,
    control: Mutex<Control>,
    open: Mutex<OpenCalls>,
    records: Arc<KeptRecords>,
}

/// A clock that commands set, and whether one has.
struct GivenTime {
    clock: Arc<ManualClock>,
    told: OnceLock<()>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl Console {
    /// The most bytes of a command: 64 MiB.
    pub const MOST_BYTES: usize = 64 << 20;

    /// A console without resources, as `options` say.
    pub fn new(options: &ConsoleOptions) -> Self {
        Self::builder().options(options).build()
    }

    /// A console to be configured.
    pub fn builder() -> ConsoleBuilder {
        ConsoleBuilder::default()
    }

    /// Carries out a command. The answer is JSON whatever the command is.
    pub fn command(&self, command: &str) -> String {
        let answer = match self.read(command).and_then(|(now, command)| self.run(now, command)) {
            Ok(answer) => json!({ "ok": answer }),
            Err(error) => json!({ "error": error }),
        };
        answer.to_string()
    }

    /// Carries out a command that is a value already. [`command`](Console::command) is for text of strangers: it bounds
    /// length and depth, and refuses names that are given twice.
    ///
    /// # Errors
    /// What it is refused with.
    pub fn execute(&self, command: Value) -> Result<Value, ConsoleError> {
        let (now, command) = Envelope::of(command)?.parts();
        self.run(now, command)
    }

    /// The gate of a resource, for calls that are not to pass through JSON. `None` if there is no such resource.
    ///
    /// It follows what is administered here until the gateway is deleted or a document is loaded; ask for it again then.
    pub fn gate(&self, resource: &ResourceName) -> Option<Gate> {
        self.control.lock().gate(resource)
    }

    /// The command `load` with a document as text, of any length.
    ///
    /// # Errors
    /// `DOCUMENT_VERSION`, `DOCUMENT_INVALID`, or why its limits cannot be put in force. Nothing has changed then.
    pub fn load(&self, document: &str) -> Result<Value, ConsoleError> {
        self.load_at(document, self.at(None)?)
    }

    /// Becomes what a document says of resources, instances, principals and what was done, in one step: as if all that it has
    /// more than this console had been done here. Gates stay with their counters and the calls that are under way, and follow;
    /// counters in the document are not looked at. For a host that makes several changes on a copy first, all or none.
    ///
    /// # Errors
    /// `DOCUMENT_VERSION`, `DOCUMENT_INVALID`, `NOW_MISSING`, or why its limits cannot be put in force. Nothing has changed then.
    pub fn adopt(&self, document: &str) -> Result<(), ConsoleError> {
        let now = self.at(None)?;
        self.control.lock().adopt(document, now)
    }

    /// Looks at the estate, while nothing changes it.
    pub fn estate<T>(&self, look: impl FnOnce(&Estate) -> T) -> T {
        look(&self.control.lock().estate)
    }

    /// What the console's clock shows.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    fn read(&self, text: &str) -> Result<(Option<Timestamp>, Command), ConsoleError> {
        if text.len() > Self::MOST_BYTES {
            let message = format!("the command has {} bytes, and at most {} are read", text.len(), Self::MOST_BYTES);
            return Err(ConsoleError::new(Code::CommandTooLarge, message, "give it in parts"));
        }
        Ok(Envelope::read(text)?.parts())
    }

    fn run(&self, given: Option<Timestamp>, command: Command) -> Result<Value, ConsoleError> {
        let now = self.at(given)?;
        match command {
            Command::Apply { by, operation } => self.control.lock().apply(&by, now, &operation),
            Command::Declare(declaration) => self.control.lock().declare(now, &declaration),
            Command::Refresh {} => self.control.lock().refresh(now),
            Command::Status { resource } => self.control.lock().status(resource.as_ref(), now),
            Command::Candidates { by, resource } => self.control.lock().candidates(&by, resource.as_ref()),
            Command::Verify(verify) => self.verify(&verify, now),
            Command::Call(call) => self.call(*call, now),
            Command::Observe { call, input, output } => self.observe(&call, input, output, now),
            Command::Renew { call } => self.renew(&call, now),
            Command::Settle(settle) => self.settle(&settle, now),
            Command::Cancel { call } => self.cancel(&call, now),
            Command::Diagnose { resource, seen } => self.diagnose(resource.as_ref(), &seen, now),
            Command::Audit { after, most } => Ok(self.control.lock().audit(after, most)),
            Command::Records { most } => Ok(self.records.take(most)),
            Command::Policy { resource } => self.control.lock().policy(resource.as_ref()),
            Command::Rules {} => Ok(all_rules()),
            Command::Save { counters } => Ok(self.control.lock().save(counters, now)),
            Command::Load { document } => self.load_at(&document.to_string(), now),
        }
    }

    /// The instant of a command.
    fn at(&self, given: Option<Timestamp>) -> Result<Now, ConsoleError> {
        match (&self.given, given) {
            (Some(given), Some(now)) => {
                given.clock.set(Now::new(u64::try_from(now.nanos()).unwrap_or(0), now.nanos()));
                given.told.get_or_init(|| ());
            }
            (Some(given), None) if given.told.get().is_none() => {
                let message = "this console is told the time, and no command has told it yet";
                return Err(ConsoleError::new(Code::NowMissing, message, "give \"now\", like 2026-11-23T17:30:00Z"));
            }
            (None, Some(_)) => {
                let message = "this console reads a clock, and \"now\" was given";
                let next = "leave \"now\" out, or make the console with {\"time\": \"given\"}";
                return Err(ConsoleError::new(Code::NowNotTaken, message, next));
            }
            _ => {}
        }
        Ok(self.now())
    }

    fn diagnose(&self, resource: Option<&ResourceName>, seen: &Observation, now: Now) -> Result<Value, ConsoleError> {
        let control = self.control.lock();
        let causes = diagnose(&control.estate, &control.named(resource)?, now.into(), seen)?;
        Ok(json!({ "causes": causes }))
    }

    fn load_at(&self, document: &str, now: Now) -> Result<Value, ConsoleError> {
        // Calls that are under way belong to the gates that go: they end as dropped, outside of every lock.
        let (answer, gone) = {
            let mut control = self.control.lock();
            let answer = control.load(document, now)?;
            (answer, self.open.lock().take_all())
        };
        drop(gone);
        Ok(answer)
    }
}

fn all_rules() -> Value {
    let each = rules().map(|rule| {
        let events: Vec<_> = rule.events.iter().map(|event| event.as_str()).collect();
        json!({ "id": rule.id, "demands": rule.demands, "evidence": rule.evidence, "severity": rule.severity,
            "remedy": rule.remedy, "events": events })
    });
    Value::Array(each.collect())
}
