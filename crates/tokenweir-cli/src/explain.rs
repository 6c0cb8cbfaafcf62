//! `tokenweir explain`: which limits a request meets, what it is charged, and why the others do not apply.

use std::ffi::OsStr;
use std::fmt::Write;

use tokenweir::{Estimate, Key, Limiter, ManualClock, Now, Request};
use tokenweir_replay::instant;

use crate::args::Explain;
use crate::failure::Failure;
use crate::limits::LimitFacts;
use crate::output;
use crate::policy_file;
use crate::text::{counted, grouped, printable};

/// Runs the command.
///
/// # Errors
/// The policy or the request is wrong, or the standard output cannot be written.
pub fn run(args: &Explain) -> Result<(), Failure> {
    let policy = policy_file::load(&args.policy, args.policy_format)?;
    let limits = LimitFacts::of(&policy);
    let keys: Vec<Key<'_>> = args.keys.iter().map(|(name, value)| Key::new(name, value)).collect();
    let (project, deployment) = (bytes(&args.project), bytes(&args.deployment));
    let request = Request::new(&*project, &*deployment).with_keys(&keys);
    let estimate = Estimate::new(args.input, args.output);
    let limiter = Limiter::builder(policy).clock(ManualClock::default()).build();
    let explanation = limiter
        .explain_at(&request, estimate, Now::at(0))
        .map_err(|error| Failure::Problems(vec![format!("{}: {error}", args.policy.display())]))?;

    let mut out = String::new();
    let _ = write!(out, "request  project={} deployment={}", printable(request.project), printable(request.deployment));
    for key in &keys {
        let _ = write!(out, " {}={}", printable(key.name.as_bytes()), printable(key.value));
    }
    let answer = if explanation.admitted { "admitted" } else { "denied: larger than a limit" };
    let _ = writeln!(
        out,
        "\nestimate {} input and {} output tokens\nanswer   {answer}, with nothing used yet",
        grouped(estimate.input),
        grouped(estimate.output)
    );
    let facts = |name: &str| limits.iter().find(|limit| limit.name == name);
    let _ = writeln!(out, "\n{}", headed(explanation.applied.len(), "applies", "apply"));
    for applied in &explanation.applied {
        let view = &applied.view;
        let Some(facts) = facts(&view.limit) else { continue };
        let shadow = if facts.enforced { "" } else { " (shadow: refuses nothing)" };
        let _ = writeln!(out, "  {}{shadow}: {}", printable(view.limit.as_bytes()), facts.terms);
        let counter: Vec<String> =
            applied.scope.iter().map(|(part, value)| format!("{part}={}", printable(value))).collect();
        let counter = if counter.is_empty() { "one for all requests".to_string() } else { counter.join(" ") };
        let _ = writeln!(out, "    counter {counter}");
        let fits = match (view.fits, view.never_fits, view.wait) {
            (true, ..) => "fits".to_string(),
            (_, true, _) => "never fits".to_string(),
            (_, _, Some(wait)) => format!("fits after {}", instant::span_text(wait)),
            (_, _, None) => "does not fit".to_string(),
        };
        let (charge, amount) = (grouped(view.charge), grouped(view.amount));
        let _ = writeln!(out, "    charge  {charge} of {amount} {}: {fits}", facts.unit);
    }
    if !explanation.skipped.is_empty() {
        let _ = writeln!(out, "\n{}", headed(explanation.skipped.len(), "does not apply", "do not apply"));
        for (name, reason) in &explanation.skipped {
            let _ = writeln!(out, "  {}: {reason}", printable(name.as_bytes()));
        }
    }
    output::print(&out)
}

fn headed(count: usize, one: &str, many: &str) -> String {
    let limits = counted(count as u64, "limit", "limits");
    format!("{limits} {}", if count == 1 { one } else { many })
}

/// An argument as the bytes of a key.
fn bytes(text: &OsStr) -> Vec<u8> {
    // On Unix these are the bytes as given; elsewhere UTF-8, or what stands for it.
    text.as_encoded_bytes().to_vec()
}
