//! `tokenweir check`: whether policies are right, and what is in them.

use std::fmt::Write;

use crate::args::Check;
use crate::failure::Failure;
use crate::limits::LimitFacts;
use crate::output;
use crate::policy_file;
use crate::text::{Table, counted, printable};

/// Runs the command: every policy is read, and everything that is wrong with any of them is said.
///
/// # Errors
/// A policy is wrong, or the standard output cannot be written.
pub fn run(args: &Check) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for path in &args.policies {
        let policy = match policy_file::load(path, args.policy_format) {
            Ok(policy) => policy,
            Err(Failure::Problems(lines)) => {
                problems.extend(lines);
                continue;
            }
            Err(failure) => {
                problems.push(failure.to_string());
                continue;
            }
        };
        let mut out = String::new();
        let limits = LimitFacts::of(&policy);
        let count = counted(limits.len() as u64, "limit", "limits");
        let prices = policy.prices().len() as u64;
        let _ = writeln!(out, "{}: ok, {count}, {}", path.display(), counted(prices, "price", "prices"));
        let mut table = Table::new(2, 3, &["limit", "terms", "counters", "mode"]);
        for limit in &limits {
            table.row(vec![
                printable(limit.name.as_bytes()),
                limit.terms.clone(),
                limit.scope_text(),
                if limit.enforced { "enforce" } else { "shadow" }.into(),
            ]);
        }
        if !limits.is_empty() {
            out.push_str(&table.render());
        }
        output::print(&out)?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Problems(problems)) }
}
