//! How limits stand to one another: names used once, and overrides that lead somewhere.

use ahash::{HashMap, HashSet};

use super::fields::{Checker, Owner};
use super::pattern::Pattern;
use super::resolve::MatchField;

/// What is known of a limit that may be incomplete.
pub(super) struct Member<'n> {
    pub(super) line: usize,
    pub(super) name: Option<&'n str>,
    /// The limit that it overrides, and the line that says so.
    pub(super) overrides: Option<(&'n str, usize)>,
    /// `None`: what it matches is not known, for it is wrong.
    pub(super) matches: Option<Vec<(MatchField, Pattern)>>,
}

impl Checker {
    /// Names are identities: each once.
    pub(super) fn names(&mut self, members: &[Member<'_>]) {
        let mut lines: HashMap<&str, usize> = HashMap::default();
        for member in members {
            let Some(name) = member.name else { continue };
            if let Some(first) = lines.get(name) {
                let message = format!("the name is used twice, first by the limit on line {first}");
                let owner = Owner { limit: Some(name), prefix: "" };
                self.problem(owner, member.line, message, "give each limit a name of its own".into());
            } else {
                lines.insert(name, member.line);
            }
        }
    }

    pub(super) fn overrides(&mut self, members: &[Member<'_>]) {
        let mut by_name: HashMap<&str, usize> = HashMap::default();
        for (at, member) in members.iter().enumerate() {
            if let Some(name) = member.name {
                by_name.entry(name).or_insert(at);
            }
        }
        let mut parents: Vec<Option<usize>> = vec![None; members.len()];
        let mut same: HashMap<(usize, Vec<(MatchField, Pattern)>), usize> = HashMap::default();
        for (at, member) in members.iter().enumerate() {
            let Some((named, line)) = member.overrides else { continue };
            let owner = Owner { limit: member.name, prefix: "" };
            let Some(&overridden) = by_name.get(named) else {
                let near = self.search(named, || by_name.keys().map(|name| (*name).to_owned()).collect());
                let remedy = match near {
                    Some(near) => format!("did you mean {near:?}? write the name of a limit of this policy"),
                    None => "write the name of a limit of this policy, or remove overrides".to_owned(),
                };
                self.problem(owner, line, format!("overrides names {named:?}, and there is no such limit"), remedy);
                continue;
            };
            if member.name == Some(named) {
                let remedy = "name the limit that this one is an exception to, or remove overrides";
                self.problem(owner, line, "the limit overrides itself".into(), remedy.into());
                continue;
            }
            parents[at] = Some(overridden);
            let (Some(own), Some(other)) = (&member.matches, &members[overridden].matches) else { continue };
            for (field, pattern) in own {
                let Some((_, against)) = other.iter().find(|(other, _)| other == field) else { continue };
                if !pattern.can_intersect(against) {
                    self.problem(
                        owner,
                        line,
                        format!(
                            "it can never stand in for {named:?}: its match wants {field} = {:?}, and that of \
                             {named:?} wants {:?}",
                            pattern.as_str(),
                            against.as_str()
                        ),
                        "make the two match something in common, or remove overrides".into(),
                    );
                }
            }
            let mut sorted = own.clone();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some(first) = same.insert((overridden, sorted), at) {
                let first = &members[first];
                let other = first.name.unwrap_or_default();
                self.problem(
                    owner,
                    line,
                    format!("limit {other:?} on line {} overrides {named:?} with the same match", first.line),
                    "make one match more specific than the other, or remove one".into(),
                );
            }
        }
        self.cycles(members, &parents);
    }

    /// Each limit names at most one other, so following the names either ends or comes round.
    fn cycles(&mut self, members: &[Member<'_>], parents: &[Option<usize>]) {
        let mut done: HashSet<usize> = HashSet::default();
        for start in 0..members.len() {
            let mut path = Vec::new();
            let mut on_path: HashSet<usize> = HashSet::default();
            let mut at = start;
            while !done.contains(&at) && on_path.insert(at) {
                path.push(at);
                match parents[at] {
                    Some(next) => at = next,
                    None => break,
                }
            }
            // The walk ended where it had been before, on this very path: a cycle from there on.
            if !done.contains(&at)
                && parents[at].is_some()
                && let Some(from) = path.iter().position(|seen| *seen == at)
            {
                let mut names: Vec<String> = path[from..]
                    .iter()
                    .take(10)
                    .map(|at| format!("{:?}", members[*at].name.unwrap_or_default()))
                    .collect();
                names.push(if path.len() - from > 10 { "...".into() } else { names[0].clone() });
                let first = &members[at];
                let owner = Owner { limit: first.name, prefix: "" };
                let line = first.overrides.map_or(first.line, |(_, line)| line);
                let message = format!("overrides go round in a circle: {}", names.join(" overrides "));
                self.problem(owner, line, message, "remove one of these overrides".into());
            }
            done.extend(path);
        }
    }
}
