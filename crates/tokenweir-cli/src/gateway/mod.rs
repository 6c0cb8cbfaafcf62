//! `tokenweir gateway`: a gateway on a state file.
//!
//! It makes commands of its arguments, has the library's console carry them out, and prints the answers: no rule is here.
//!
//! - `args`: the command line;
//! - `state`: the file between commands;
//! - `commands`: what each argument asks of the console;
//! - `calls`: calls through the gateway;
//! - `shown`: answers for readers.

pub mod args;
mod calls;
mod commands;
mod shown;
mod state;

use serde_json::{Value, json};
use tokenweir::gateway::model::Timestamp;
use tokenweir::gateway::{Console, ConsoleError};

use crate::failure::Failure;
use crate::output;
use args::{Action, Gateway};

/// Runs `tokenweir gateway`.
///
/// # Errors
/// A state file that cannot be read, locked or written, arguments that are wrong, or what the gateway refuses.
pub fn run(args: &Gateway) -> Result<(), Failure> {
    if let (Some(_), Some(why)) = (&args.common.by, commands::asks_nobody(&args.action)) {
        return Err(Failure::input("--as", format!("nobody's permission is asked here: {why}"), "leave it out"));
    }
    let now = match &args.common.now {
        Some(now) => now.clone(),
        None => Timestamp::from(tokenweir::Clock::now(&tokenweir::SystemClock::new())).to_string(),
    };
    let state = &args.common.state;
    match args.action {
        Action::Init(_) => state::is_free(state)?,
        _ => state::is_there(state)?,
    }
    state::locked(state, || {
        if let Action::Init(init) = &args.action {
            // Another command may have begun it while this one waited.
            state::is_free(state)?;
            let console = commands::init(init, &now)?;
            state::write(state, &console, None)?;
            return Session { console: &console, args }.print(&commands::status(&console)?, shown::status);
        }
        let (console, before) = state::read(state, &now)?;
        let session = Session { console: &console, args };
        let changes = session.ask(json!({ "refresh": {} }))?;
        let passed_on = changes["changes"].as_array().is_some_and(|changes| !changes.is_empty());
        if !args.common.json {
            shown::changes(&changes);
        }
        let done = commands::run(&session);
        // The audit trail has what was refused as well.
        if passed_on || commands::changes(&args.action) {
            state::write(state, &console, Some(&before))?;
        }
        done
    })
}

/// A console and what is asked of it.
struct Session<'a> {
    console: &'a Console,
    args: &'a Gateway,
}

impl Session<'_> {
    fn ask(&self, command: Value) -> Result<Value, Failure> {
        self.console.execute(command).map_err(|error| match self.args.common.json {
            true => Failure::Told(serde_json::to_string_pretty(&json!({ "error": error })).unwrap_or_default()),
            false => refused(&error),
        })
    }

    fn print(&self, answer: &Value, show: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        match self.args.common.json {
            true => output::print(&format!("{}\n", serde_json::to_string_pretty(answer).unwrap_or_default())),
            false => output::print(&show(answer)),
        }
    }

    /// Who asks: the one that was named, or the only one there is.
    fn by(&self) -> Result<String, Failure> {
        if let Some(by) = &self.args.common.by {
            return Ok(by.clone());
        }
        let known: Vec<_> = self.console.estate(|estate| estate.principals().keys().map(ToString::to_string).collect());
        match &known[..] {
            [only] => Ok(only.clone()),
            [] => Err(Failure::input("--as", "nobody is known here", "make someone known with `grant`")),
            _ => Err(Failure::input(
                "--as",
                "more than one principal is known",
                format!("give one of {}", known.join(", ")),
            )),
        }
    }

    /// The resource: the one that was named, or the only one there is.
    fn resource(&self) -> Result<String, Failure> {
        if let Some(resource) = &self.args.common.resource {
            return Ok(resource.clone());
        }
        let known: Vec<_> = self.console.estate(|estate| estate.resources().keys().map(ToString::to_string).collect());
        match &known[..] {
            [only] => Ok(only.clone()),
            [] => Err(Failure::input("--resource", "there is no Foundry resource here", "declare one")),
            _ => Err(Failure::input(
                "--resource",
                "there is more than one Foundry resource",
                format!("give one of {}", known.join(", ")),
            )),
        }
    }

    /// An operation on the resource.
    fn apply(&self, operation: &str, mut fields: Value) -> Result<(), Failure> {
        if let Some(fields) = fields.as_object_mut()
            && !operation.ends_with("_instance")
        {
            fields.insert("resource".into(), self.resource()?.into());
        }
        let applied = self.ask(json!({ "apply": { "by": self.by()?, "operation": { operation: fields } } }))?;
        self.print(&applied, shown::applied)
    }
}

/// What a reader is told of what was refused: everything that stands against it, each with what to do.
fn refused(error: &ConsoleError) -> Failure {
    let mut lines = vec![format!("{}: {}", error.code, error.message)];
    if error.findings.len() < 2 {
        lines.push(format!("  next: {}", error.next));
    } else {
        for finding in &error.findings {
            let warning = match finding.severity {
                tokenweir::gateway::Severity::Warning => "warning: ",
                tokenweir::gateway::Severity::Error => "",
            };
            lines.push(format!("  {warning}{finding}"));
        }
    }
    Failure::Refused(vec![lines.join("\n")])
}
