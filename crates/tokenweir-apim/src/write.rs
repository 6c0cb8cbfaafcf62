//! The policy as TOML, with comments that say where everything comes from.

use std::fmt::Write as _;

use crate::limits::Dimension;
use crate::plan::Planned;
use crate::report::{Accounted, Line, Report};
use crate::value::shown;

/// How wide comments are.
const WIDTH: usize = 120;

/// Text as a TOML string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            _ if letter.is_control() => drop(write!(quoted, "\\u{:04X}", letter as u32)),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A comment, in lines that begin with `lead`; no text can end it.
fn comment(out: &mut String, lead: &str, text: &str) {
    let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let mut line = format!("# {lead}");
    let mut width = line.chars().count();
    let mut fresh = true;
    for word in clean.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if !fresh && width + 1 + length > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = format!("# {}", " ".repeat(lead.chars().count()));
            width = line.chars().count();
            fresh = true;
        }
        if !fresh {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
        fresh = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn place(line: &Line) -> String {
    format!("{}:{}: <{}>", line.file, line.line, line.element)
}

/// Writes the policy of `limits`, whose reports stand in the same order in `report`.
pub(crate) fn policy(limits: &[Planned], report: &Report, classic: bool) -> String {
    let mut out = String::new();
    let files: Vec<&str> = report.documents.iter().map(|source| source.file.as_str()).collect();
    comment(
        &mut out,
        "",
        &format!("Imported from {}: policies of API Management, {} tiers.", files.join(", "), report.tier),
    );
    if !limits.is_empty() {
        let algorithm = match classic {
            true => "The classic tiers count rates in a sliding window: window.",
            false => "The v2 tiers count rates in a token bucket that starts full: bucket.",
        };
        comment(&mut out, "", algorithm);
        comment(
            &mut out,
            "",
            "API Management counts tokens after the answer (post-paid): admit with an estimate of 0 tokens and settle with \
             the usage to do the same. An estimate makes the limits hard ones. It does not count tokens from a cache, and a \
             token quota lasts until it is passed.",
        );
    }
    if !report.parts.is_empty() {
        out.push_str("#\n# The host sends with each request:\n");
        for part in &report.parts {
            comment(&mut out, "  ", &format!("{} = {}", part.part, part.meaning));
        }
    }
    if !report.dimensions.is_empty() {
        out.push_str("#\n# Dimensions of token metrics, which a policy has no place for:\n");
        for dimension in &report.dimensions {
            let Line { file, line, .. } = &dimension.place;
            comment(&mut out, "  ", &format!("{file}:{line}: {:?} = {}", dimension.name, dimension.value));
        }
    }
    if !report.not_mapped.is_empty() {
        out.push_str("#\n# NOT MAPPED:\n");
        for one in &report.not_mapped {
            comment(&mut out, "  ", &format!("{}: {}", place(&one.place), one.notes.join("; ")));
        }
    }
    for (limit, told) in limits.iter().zip(&report.limits) {
        out.push('\n');
        if limit.exempts {
            comment(
                &mut out,
                "",
                "Not for these requests: a shadow limit refuses nothing and stands in for the limit above.",
            );
        } else {
            let from: Vec<String> = told.from.iter().map(place).collect();
            let key = match limit.key.iter().all(|piece| matches!(piece, crate::value::Piece::Known(_))) {
                true => format!("one counter, {:?}", shown(&limit.key)),
                false => format!("counter key {}", shown(&limit.key)),
            };
            comment(&mut out, "", &format!("{}; {key}", from.join(", ")));
            if !limit.guard.is_always() {
                comment(&mut out, "", &format!("where {}", limit.guard));
            }
        }
        for difference in &told.differs {
            comment(&mut out, "differs: ", difference);
        }
        if !told.answers.is_empty() {
            let answers: Vec<String> = told.answers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            comment(&mut out, "for the host: ", &answers.join(", "));
        }
        table(&mut out, limit, classic);
    }
    others(&mut out, &report.not_about_limits);
    out
}

fn table(out: &mut String, limit: &Planned, classic: bool) {
    let rate = |seconds: u64| match classic {
        true => ("window", format!("per = \"{seconds}s\"\n")),
        false => ("bucket", format!("per = \"{seconds}s\"\n")),
    };
    let (meter, (algorithm, time)) = match &limit.dimension {
        Dimension::TokenRate => ("total", rate(60)),
        Dimension::TokenQuota { period } => ("total", ("quota", format!("period = \"{period}\"\n"))),
        Dimension::CallRate { seconds } => ("requests", rate(*seconds)),
        Dimension::CallQuota { seconds: 0, .. } => ("requests", ("quota", "period = \"never\"\n".to_owned())),
        Dimension::CallQuota { seconds, anchor } => {
            let anchor = anchor.as_ref().map(|anchor| format!(", anchor = {}", quoted(anchor))).unwrap_or_default();
            ("requests", ("quota", format!("period = {{ every = \"{seconds}s\"{anchor} }}\n")))
        }
        Dimension::Concurrency => ("in_flight", ("in_flight", String::new())),
    };
    let _ = write!(
        out,
        "[[limit]]\nname = {}\nmeter = \"{meter}\"\nalgorithm = \"{algorithm}\"\namount = {}\n{time}",
        quoted(&limit.name),
        limit.amount
    );
    let scope: Vec<String> = limit.scope.iter().map(|part| quoted(part)).collect();
    let _ = writeln!(out, "scope = [{}]", scope.join(", "));
    if !limit.matches.is_empty() {
        let key = |part: &str| if part.starts_with("key:") { quoted(part) } else { part.to_owned() };
        let matches: Vec<String> =
            limit.matches.iter().map(|(part, pattern)| format!("{} = {}", key(part), quoted(pattern))).collect();
        let _ = writeln!(out, "match = {{ {} }}", matches.join(", "));
    }
    // As its profile says of them: see `tokenweir::apim::Profile`.
    if matches!(limit.dimension, Dimension::TokenQuota { .. }) {
        out.push_str("until = \"passed\"\n");
    }
    if meter == "total" {
        out.push_str("weights = { cached_input = 0 }\n");
    }
    if let Some(overrides) = &limit.overrides {
        let _ = writeln!(out, "overrides = {}", quoted(overrides));
    }
    if limit.require {
        out.push_str("require = true\n");
    }
    if limit.exempts {
        out.push_str("mode = \"shadow\"\n");
    }
}

/// Elements that are not about limits, by document.
fn others(out: &mut String, all: &[Accounted]) {
    if all.is_empty() {
        return;
    }
    out.push_str("\n# Not about limits:\n");
    for of_file in all.chunk_by(|a, b| a.place.file == b.place.file) {
        let Some(first) = of_file.first() else { continue };
        let elements: Vec<String> =
            of_file.iter().map(|one| format!("{} {}", one.place.line, one.place.element)).collect();
        comment(out, "  ", &format!("{}: {}", first.place.file, elements.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_gets_out_of_its_string_or_comment() {
        assert_eq!(quoted("a\"\\\n\u{7f}é"), "\"a\\\"\\\\\\u000A\\u007Fé\"");
        let mut out = String::new();
        comment(&mut out, "differs: ", &format!("a\n[[limit]]\r{}", "word ".repeat(60)));
        assert!(out.lines().all(|line| line.starts_with('#') && line.chars().count() <= WIDTH), "{out}");
        assert!(out.lines().count() > 2);
    }
}
