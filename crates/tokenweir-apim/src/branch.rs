//! Branches of which a request takes one: `choose`, and documents of one level.

use std::collections::BTreeSet;

use crate::eval::{self, Variable, Variables};
use crate::limits::LIMITS;
use crate::value::{Cases, Guard, Plain};
use crate::walk::{METRICS, Place, Walk};

/// The most branches that one `choose` is taken apart into.
const MAX_BRANCHES: usize = 96;

/// One way on.
pub(crate) struct Branch {
    guard: Guard,
    unknown: Option<String>,
    body: Body,
    /// The elements that set the variables that its conditions read.
    read: BTreeSet<usize>,
}

#[derive(Clone, Copy)]
pub(crate) enum Body {
    Nothing,
    /// The children of a `when` or `otherwise`.
    Element(usize),
    /// The section of a document.
    Document(usize),
    /// The section of the next level.
    Outer,
}

impl Branch {
    pub(crate) fn new(guard: Guard, unknown: Option<String>, body: Body) -> Self {
        Branch { guard, unknown, body, read: BTreeSet::new() }
    }
}

impl Walk<'_> {
    /// Runs branches of which a request takes one, and puts together what their variables are afterwards.
    pub(crate) fn branches(&mut self, place: &Place, branches: Vec<Branch>) {
        let before = self.variables.clone();
        let mut after: Vec<(Guard, bool, Variables)> = Vec::new();
        for branch in branches {
            // What a branch costs is what it has to remember.
            self.steps += before.len() / 64;
            self.variables = before.clone();
            let mut inner = Place { guard: branch.guard.clone(), unknown: branch.unknown.clone(), ..place.clone() };
            match branch.body {
                Body::Nothing => {}
                Body::Outer => {
                    inner.level += 1;
                    self.level(&inner);
                }
                Body::Document(document) => {
                    inner.document = document;
                    inner.includes.clear();
                    self.document(&inner);
                }
                Body::Element(element) => {
                    inner.branches.insert(self.documents[place.document].base + element);
                    inner.read.extend(branch.read);
                    self.children(&inner, element);
                }
            }
            after.push((branch.guard, branch.unknown.is_some(), std::mem::take(&mut self.variables)));
        }
        let names: BTreeSet<String> = after.iter().flat_map(|(_, _, variables)| variables.keys().cloned()).collect();
        let mut merged = Variables::new();
        for name in names {
            let old = before.get(&name);
            if after.iter().all(|(_, _, variables)| variables.get(&name) == old) {
                merged.extend(old.map(|old| (name, old.clone())));
                continue;
            }
            let mut cases = Vec::new();
            let mut set_by = BTreeSet::new();
            let mut unsure: Vec<&Guard> = Vec::new();
            for (guard, unknown, variables) in &after {
                let value = variables.get(&name);
                set_by.extend(value.iter().flat_map(|value| value.set_by.iter().copied()));
                if *unknown {
                    if value != old && !unsure.contains(&guard) {
                        unsure.push(guard);
                    }
                    continue;
                }
                let unset = Cases::from(Plain::Unset(name.clone()));
                let value = value.map_or(&unset, |value| &value.cases);
                cases.extend(value.iter().filter_map(|(own, plain)| guard.and(own).map(|both| (both, plain.clone()))));
            }
            for (guard, unknown, variables) in &after {
                if *unknown && !unsure.contains(&guard) && variables.get(&name) == old {
                    unsure.push(guard);
                    let unset = Cases::from(Plain::Unset(name.clone()));
                    let value = old.map_or(&unset, |old| &old.cases);
                    cases.extend(
                        value.iter().filter_map(|(own, plain)| guard.and(own).map(|both| (both, plain.clone()))),
                    );
                }
            }
            let reason = format!("the variable {name:?} is set under a condition that is not mapped");
            let changed = |guard: &&&Guard| {
                after.iter().any(|(own, unknown, variables)| *unknown && own == **guard && variables.get(&name) != old)
            };
            cases.extend(unsure.iter().filter(changed).map(|guard| ((*guard).clone(), Plain::opaque(&reason))));
            merged.insert(name, Variable { cases: Cases::new(cases), set_by });
        }
        self.variables = merged;
    }

    pub(crate) fn choose(&mut self, place: &Place, at: usize) {
        let element = self.element(place.document, at);
        let mut remaining = vec![(place.guard.clone(), place.unknown.clone())];
        let mut branches: Vec<Branch> = Vec::new();
        // Each branch depends on the conditions before it, too.
        let mut read: BTreeSet<usize> = BTreeSet::new();
        for child in &element.children {
            let branch = self.element(place.document, *child);
            self.mark(place.document, *child);
            match branch.name.as_str() {
                "when" => {
                    let condition = branch.attribute("condition").map_or("", |attribute| &attribute.value);
                    let cases = match self.values.fill(condition) {
                        Ok(text) => eval::work_out(&text, &self.variables),
                        Err(reason) => eval::Worked {
                            cases: Plain::opaque(reason).into(),
                            read: BTreeSet::new(),
                            notes: BTreeSet::new(),
                        },
                    };
                    self.mark(place.document, *child).notes.extend(cases.notes);
                    read.extend(cases.read);
                    let mut next = Vec::new();
                    for (guard, unknown) in &remaining {
                        for (own, holds) in eval::truth(&cases.cases) {
                            let Some(both) = guard.and(&own) else { continue };
                            let body = Body::Element(*child);
                            match holds {
                                Ok(true) => branches
                                    .push(Branch { read: read.clone(), ..Branch::new(both, unknown.clone(), body) }),
                                Ok(false) => next.push((both, unknown.clone())),
                                Err(reason) => {
                                    let reason = format!(
                                        "it stands under a condition that is not mapped (line {}): {reason}",
                                        branch.line
                                    );
                                    let unknown = unknown.clone().or(Some(reason));
                                    branches.push(Branch::new(both.clone(), unknown.clone(), body));
                                    next.push((both, unknown));
                                }
                            }
                        }
                    }
                    remaining = next;
                }
                "otherwise" => {
                    let body = Body::Element(*child);
                    let branch = |(guard, unknown)| Branch { read: read.clone(), ..Branch::new(guard, unknown, body) };
                    branches.extend(remaining.drain(..).map(branch));
                }
                _ => {}
            }
            if branches.len() + remaining.len() > MAX_BRANCHES {
                break;
            }
        }
        let nothing = |(guard, unknown)| Branch::new(guard, unknown, Body::Nothing);
        branches.extend(remaining.into_iter().map(nothing));
        if branches.len() > MAX_BRANCHES {
            let reason = Some(format!("its choose (line {}) has more than {MAX_BRANCHES} cases", element.line));
            let bodies = element.children.iter().map(|child| Body::Element(*child)).chain([Body::Nothing]);
            let guard = &place.guard;
            branches = bodies.map(|body| Branch::new(guard.clone(), reason.clone(), body)).collect();
        }
        for child in &element.children {
            let taken = branches.iter().any(|branch| matches!(branch.body, Body::Element(own) if own == *child));
            if !taken {
                self.unreached(place.document, *child, "no request comes to it: its conditions never hold together");
            }
        }
        self.branches(place, branches);
    }

    /// Limits that no request comes to are imported as none. What other runs come to is marked there.
    fn unreached(&mut self, document: usize, element: usize, note: &str) {
        let mut open = vec![element];
        while let Some(at) = open.pop() {
            let element = self.element(document, at);
            if LIMITS.contains(&element.name.as_str()) || METRICS.contains(&element.name.as_str()) {
                let mark = self.mark(document, at);
                mark.imported = true;
                mark.notes.insert(note.to_owned());
            }
            open.extend(&element.children);
        }
    }
}
