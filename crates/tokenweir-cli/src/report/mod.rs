//! The report: one HTML file for a person to look at, that needs no other file and no network.
//!
//! - [`chart`]: drawings as inline SVG;
//! - [`scale`]: where ticks stand on an axis;
//! - `style.css`, `hover.js`: put into the page as they are.
//!
//! Every word that comes from a policy or a trace passes through [`escape`]. The size is bounded: points per chart,
//! charts per limit, limits, projects and rows of every table.

mod chart;
mod scale;

use std::fmt::Write;

use tokenweir_replay::instant;

use crate::summary::{Facts, peak_text, wait_text};
use crate::tally::Tally;
use crate::text::{counted, grouped, percent, printable, utc_text};
use crate::timeline::Timeline;

/// Charts of counters for each limit.
const COUNTERS: usize = 12;
/// Limits that are drawn.
const LIMITS: usize = 24;
/// Charts of counters in all.
const CHARTS: usize = 96;
/// Projects that are drawn.
const PROJECTS: usize = 12;
/// Rows of a table.
const ROWS: usize = 200;
/// Longest waits that are listed.
const WAITS: usize = 20;

/// Text as it may stand in HTML, in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A name of a policy or a trace as it may stand in HTML.
fn name(bytes: &[u8]) -> String {
    escape(&printable(bytes))
}

/// The whole page.
pub fn page(facts: &Facts<'_>, timeline: &Timeline) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>tokenweir replay: {}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        name(facts.trace.as_bytes()),
        include_str!("style.css")
    );
    header(&mut out, facts);
    requests(&mut out, facts.tally, timeline);
    limits_table(&mut out, facts.tally);
    waits(&mut out, facts.tally);
    uses(&mut out, facts.tally, timeline);
    let _ = write!(
        out,
        "<footer>Times are UTC. Written by tokenweir {}.</footer>\n</main>\n<div id=\"tip\" hidden></div>\n\
         <script>\n{}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        include_str!("hover.js")
    );
    out
}

fn header(out: &mut String, facts: &Facts<'_>) {
    let totals = &facts.tally.totals;
    let _ = write!(
        out,
        "<header>\n<h1>What the policy would have admitted</h1>\n\
         <p class=\"facts\"><b>{}</b> against <b>{}</b> ({})<br>{}</p>\n<div class=\"tiles\">\n",
        name(facts.trace.as_bytes()),
        name(facts.policy.as_bytes()),
        counted(facts.tally.limits.len() as u64, "limit", "limits"),
        escape(&facts.span_text())
    );
    let mut tile = |class: &str, label: &str, value: String, note: String| {
        let _ = writeln!(
            out,
            "<div class=\"tile {class}\"><span>{label}</span><strong>{value}</strong><small>{note}</small></div>"
        );
    };
    let all = totals.requests;
    let ungoverned = match totals.ungoverned {
        0 => "each met a limit".to_string(),
        count => format!("{} met no limit", grouped(count)),
    };
    tile("", "requests", grouped(all), ungoverned);
    tile("ok", "admitted", grouped(totals.admitted), percent(totals.admitted, all));
    tile("rate", "denied by rate (429)", grouped(totals.denied_rate), percent(totals.denied_rate, all));
    tile("quota", "denied by quota (403)", grouped(totals.denied_quota), percent(totals.denied_quota, all));
    let estimated = format!("{} estimated", grouped(totals.estimated as i128));
    tile("ok", "tokens used", grouped(totals.used as i128), estimated);
    tile("rate", "tokens denied", grouped(totals.denied_tokens as i128), "estimated".into());
    out.push_str("</div>\n");
    let notes = [
        (totals.never_fits, "denied can never be admitted: larger than a limit"),
        (totals.refused_full, "denied found no room for another counter"),
        (totals.cancelled, "admitted were cancelled and cost nothing"),
        (totals.silent, "admitted reported nothing, so their estimates stand"),
        (totals.shadow_refused, "admitted would have been refused by a shadow limit"),
    ];
    let notes: Vec<String> = notes
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(*count)))
        .collect();
    if !notes.is_empty() {
        let _ = writeln!(out, "<p class=\"note\">{}.</p>", notes.join("; "));
    }
    out.push_str("</header>\n");
}

/// Admitted and denied over time: all, then by project.
fn requests(out: &mut String, tally: &Tally, timeline: &Timeline) {
    if tally.totals.requests == 0 {
        return;
    }
    let width = timeline.bar_axis.width();
    let _ = writeln!(
        out,
        "<section>\n<h2>Requests</h2>\n<p class=\"legend\"><i class=\"ok\"></i>admitted <i class=\"rate\"></i>denied by a \
         rate (429) <i class=\"quota\"></i>denied by a quota (403)</p>\n<figure class=\"wide\">{}<figcaption>one \
         bar is {}</figcaption></figure>",
        chart::bars(&timeline.bar_axis, &timeline.bars(&timeline.decided), chart::WIDE),
        instant::span_text(width as u64)
    );
    let mut projects: Vec<_> = timeline.projects.iter().collect();
    projects.sort_by(|a, b| (b.1.requests(), a.0).cmp(&(a.1.requests(), b.0)));
    if projects.len() > 1 {
        out.push_str("<h3>By project</h3>\n<div class=\"grid\">\n");
        for (project, line) in projects.iter().take(PROJECTS) {
            let [admitted, rate, quota] = line.totals;
            let _ = writeln!(
                out,
                "<figure><figcaption><b>{}</b> {} admitted, {} denied by a rate, {} by a quota</figcaption>{}</figure>",
                name(project),
                grouped(admitted),
                grouped(rate),
                grouped(quota),
                chart::bars(&timeline.bar_axis, &timeline.bars(&line.decided), chart::SMALL)
            );
        }
        out.push_str("</div>\n");
        let left_out = projects.len().saturating_sub(PROJECTS) as u64 + timeline.projects_let_go;
        if left_out > 0 {
            let count = counted(left_out, "project", "projects");
            let _ = writeln!(out, "<p class=\"note\">Left out: {count} with fewer requests.</p>");
        }
    }
    out.push_str("</section>\n");
}

fn limits_table(out: &mut String, tally: &Tally) {
    out.push_str(
        "<section>\n<h2>Limits</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>limit</th><th>terms</th>\
         <th>counters</th><th class=\"n\">keys</th><th class=\"n\">admitted</th><th class=\"n\">refused</th>\
         <th class=\"n\">charged</th><th class=\"n\">highest peak</th></tr></thead>\n<tbody>\n",
    );
    let met = tally.by_limit();
    for (limit, facts) in tally.limits.iter().enumerate().take(ROWS) {
        let rows = met.iter().find(|(other, _)| *other == limit).map_or(&[][..], |(_, rows)| rows);
        let sum = |value: fn(&crate::tally::Row) -> u128| rows.iter().map(|&row| value(&tally.rows[row])).sum::<u128>();
        let peak = rows.iter().max_by_key(|&&row| tally.rows[row].peak).map(|&row| peak_text(tally, &tally.rows[row]));
        let refused = sum(|row| row.refused.into());
        let shadow = if facts.enforced { "" } else { " <span class=\"tag\">shadow</span>" };
        let class = if refused > 0 { "n hit" } else { "n" };
        let _ = writeln!(
            out,
            "<tr><td><b>{}</b>{shadow}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"{class}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            name(facts.name.as_bytes()),
            escape(&facts.terms),
            escape(&facts.scope_text()),
            grouped(rows.len() as u64),
            grouped(sum(|row| row.admitted.into()) as i128),
            grouped(refused as i128),
            grouped(sum(|row| row.charged) as i128),
            peak.unwrap_or_else(|| "-".into()),
        );
    }
    out.push_str("</tbody></table></div>\n");
    if tally.limits.len() > ROWS {
        let count = counted((tally.limits.len() - ROWS) as u64, "limit", "limits");
        let _ = writeln!(out, "<p class=\"note\">Left out: {count}, further down in the policy.</p>");
    }
    out.push_str("</section>\n");
}

/// The longest wait that each counter advised, the longest first.
fn waits(out: &mut String, tally: &Tally) {
    let mut rows: Vec<usize> = (0..tally.rows.len()).filter(|&row| tally.rows[row].longest.is_some()).collect();
    if rows.is_empty() {
        return;
    }
    rows.sort_by_key(|&row| (std::cmp::Reverse(tally.rows[row].longest.map(|wait| wait.nanos)), row));
    out.push_str(
        "<section>\n<h2>Longest waits</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th class=\"n\">retry after</th>\
         <th>limit</th><th>key</th><th>asked at</th><th class=\"n\">line</th><th class=\"n\">refused in all</th></tr>\
         </thead>\n<tbody>\n",
    );
    for &place in rows.iter().take(WAITS) {
        let row = &tally.rows[place];
        let Some(wait) = row.longest else { continue };
        let _ = writeln!(
            out,
            "<tr><td class=\"n\"><b>{}</b></td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            wait_text(tally, row),
            name(tally.limits[row.limit].name.as_bytes()),
            escape(&tally.key_text(place)),
            utc_text(wait.at),
            grouped(wait.line),
            grouped(row.refused)
        );
    }
    out.push_str("</tbody></table></div>\n");
    if rows.len() > WAITS {
        let count = counted((rows.len() - WAITS) as u64, "key", "keys");
        let _ = writeln!(out, "<p class=\"note\">Left out: {count} with shorter waits.</p>");
    }
    out.push_str("</section>\n");
}

/// Use against the limit over time, for the busiest counters of each limit.
fn uses(out: &mut String, tally: &Tally, timeline: &Timeline) {
    let mut limits = tally.by_limit();
    if limits.is_empty() {
        return;
    }
    let left_out = limits.len().saturating_sub(LIMITS);
    if left_out > 0 {
        let refused = |rows: &[usize]| rows.iter().map(|&row| tally.rows[row].refused).sum::<u64>();
        limits.sort_by_key(|(limit, rows)| (std::cmp::Reverse(refused(rows)), *limit));
        limits.truncate(LIMITS);
        limits.sort_by_key(|(limit, _)| *limit);
    }
    let each = COUNTERS.min((CHARTS / limits.len()).max(1));
    let _ = writeln!(
        out,
        "<section>\n<h2>Use against the limit</h2>\n<p class=\"legend\"><i class=\"use\"></i>most in use within each {} \
         <i class=\"line\"></i>the limit <i class=\"rate\"></i>refusals</p>",
        instant::span_text(timeline.use_axis.width() as u64)
    );
    for (limit, rows) in &limits {
        let facts = &tally.limits[*limit];
        let shadow = if facts.enforced { "" } else { " <span class=\"tag\">shadow</span>" };
        let _ = writeln!(
            out,
            "<h3>{}{shadow}</h3>\n<p class=\"terms\">{}; {}</p>\n<div class=\"grid\">",
            name(facts.name.as_bytes()),
            escape(&facts.terms),
            escape(&facts.scope_text())
        );
        let drawn: Vec<usize> =
            rows.iter().copied().filter(|row| timeline.counters.contains_key(row)).take(each).collect();
        // A counter that stands alone gets the whole width.
        let (size, class) = if drawn.len() == 1 { (chart::WIDE, " class=\"wide\"") } else { (chart::SMALL, "") };
        for &place in &drawn {
            let row = &tally.rows[place];
            let refused = if facts.enforced { "denied by it" } else { "it would deny" };
            let _ = writeln!(
                out,
                "<figure{class}><figcaption><b>{}</b> {} admitted, {} {refused}, peak {}</figcaption>{}</figure>",
                escape(&tally.key_text(place)),
                grouped(row.admitted),
                grouped(row.refused),
                peak_text(tally, row),
                chart::area(&timeline.use_axis, &timeline.use_of(place), &timeline.refusals_of(place), facts, size)
            );
        }
        out.push_str("</div>\n");
        if rows.len() > drawn.len() {
            let count = counted((rows.len() - drawn.len()) as u64, "key", "keys");
            let _ = writeln!(out, "<p class=\"note\">Left out: {count} with fewer refusals and requests.</p>");
        }
    }
    if left_out > 0 {
        let count = counted(left_out as u64, "limit", "limits");
        let _ = writeln!(out, "<p class=\"note\">Left out: {count} with fewer refusals.</p>");
    }
    out.push_str("</section>\n");
}
