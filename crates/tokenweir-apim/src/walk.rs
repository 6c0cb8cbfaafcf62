//! Documents run through as API Management runs them: sections, scopes, branches, fragments, variables.
//!
//! Every element is accounted for. What is executed is run once for each kind of request that its conditions tell
//! apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::Problem;
use crate::eval::{self, Variable, Variables};
use crate::limits::{LIMITS, Reader, Reading, Slot};
use crate::source::{Loaded, Role, Scope, Values};
use crate::value::{Cases, Guard, Plain};
use crate::xml::Element;

/// How many elements are run at most, all branches and repeated fragments counted.
const MAX_STEPS: usize = 50_000;
/// How deep fragments may include fragments.
const MAX_INCLUDES: usize = 8;
/// The most branches that one `choose` is taken apart into.
const MAX_BRANCHES: usize = 96;
/// The most custom dimensions of a token metric.
const MAX_DIMENSIONS: usize = 5;

const SECTIONS: &[&str] = &["inbound", "backend", "outbound", "on-error"];
const METRICS: &[&str] = &["llm-emit-token-metric", "azure-openai-emit-token-metric"];
/// Dimensions that have their value of themselves.
const DEFAULT_DIMENSIONS: &[(&str, &str)] = &[
    ("API ID", "key:api"),
    ("Operation ID", "key:operation"),
    ("Product ID", "key:product"),
    ("User ID", "key:user"),
    ("Subscription ID", "key:subscription"),
    ("Location", "key:region"),
    ("Gateway ID", "key:gateway"),
    ("Backend ID", ""),
];

/// What is known of an element.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    pub(crate) imported: bool,
    pub(crate) not_mapped: BTreeSet<String>,
    pub(crate) notes: BTreeSet<String>,
}

/// A limit that was found, in one case.
#[derive(Debug, Clone)]
pub(crate) struct Occurrence {
    /// Among the elements of all documents.
    pub(crate) element: usize,
    pub(crate) guard: Guard,
    pub(crate) slot: Slot,
    /// Elements that set its variables, or whose conditions it stands under.
    pub(crate) uses: BTreeSet<usize>,
    pub(crate) differs: BTreeSet<String>,
    pub(crate) answers: Vec<(String, String)>,
}

/// A dimension of a token metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MetricDimension {
    pub(crate) element: usize,
    pub(crate) name: String,
    /// What it is, case by case.
    pub(crate) value: String,
}

pub(crate) struct Walk<'w> {
    documents: &'w [Loaded],
    values: &'w Values,
    classic: bool,
    levels: Vec<Vec<usize>>,
    variables: Variables,
    steps: usize,
    /// Whether the level of each document was come to.
    run: BTreeSet<usize>,
    pub(crate) marks: HashMap<usize, Mark>,
    pub(crate) occurrences: Vec<Occurrence>,
    pub(crate) dimensions: BTreeSet<MetricDimension>,
    pub(crate) problems: Vec<Problem>,
}

/// Where in the run an element stands.
#[derive(Debug, Clone)]
struct Place {
    document: usize,
    section: &'static str,
    level: usize,
    guard: Guard,
    /// A condition around it that is not known.
    unknown: Option<String>,
    /// The `when`s and `otherwise`s around it.
    branches: BTreeSet<usize>,
    /// The elements that set the variables that their conditions read.
    read: BTreeSet<usize>,
    retried: bool,
    includes: Vec<String>,
}

/// One way on.
struct Branch {
    guard: Guard,
    unknown: Option<String>,
    body: Body,
    /// The elements that set the variables that its conditions read.
    read: BTreeSet<usize>,
}

#[derive(Clone, Copy)]
enum Body {
    Nothing,
    /// The children of a `when` or `otherwise`.
    Element(usize),
    /// The section of a document.
    Document(usize),
    /// The section of the next level.
    Outer,
}

impl Branch {
    fn new(guard: Guard, unknown: Option<String>, body: Body) -> Self {
        Branch { guard, unknown, body, read: BTreeSet::new() }
    }
}

impl<'w> Walk<'w> {
    /// Runs all documents.
    pub(crate) fn new(documents: &'w [Loaded], values: &'w Values, classic: bool) -> Self {
        let of = |scope: Scope| {
            let at = |(place, document): (usize, &Loaded)| match &document.role {
                Role::Policy { scope: own, .. } if *own == scope => Some(place),
                _ => None,
            };
            documents.iter().enumerate().filter_map(at).collect::<Vec<_>>()
        };
        let levels = Scope::INNERMOST_FIRST.map(of).into_iter().filter(|level| !level.is_empty()).collect();
        Walk {
            documents,
            values,
            classic,
            levels,
            variables: Variables::new(),
            steps: 0,
            run: BTreeSet::new(),
            marks: HashMap::new(),
            occurrences: Vec::new(),
            dimensions: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) -> Self {
        for section in SECTIONS {
            let place = Place {
                document: 0,
                section,
                level: 0,
                guard: Guard::default(),
                unknown: None,
                branches: BTreeSet::new(),
                read: BTreeSet::new(),
                retried: false,
                includes: Vec::new(),
            };
            self.level(&place);
        }
        if self.steps > MAX_STEPS
            && let Some(first) = self.documents.first()
        {
            self.problems.push(Problem {
                file: first.name.clone(),
                line: 1,
                code: "DOCUMENT_REFUSED",
                message: format!("the documents run more than {MAX_STEPS} elements, fragments and branches included"),
                remedy: "include fragments less often, or import the documents one by one".into(),
            });
        }
        self.rest();
        self
    }

    fn element(&self, document: usize, element: usize) -> &'w Element {
        &self.documents[document].tree.elements[element]
    }

    fn mark(&mut self, document: usize, element: usize) -> &mut Mark {
        self.marks.entry(self.documents[document].base + element).or_default()
    }

    fn fault(
        &mut self,
        document: usize,
        line: usize,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let file = self.documents[document].name.clone();
        let problem = Problem { file, line, code, message: message.into(), remedy: remedy.into() };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The documents of a level: one of them for a request, or the level around it.
    fn level(&mut self, place: &Place) {
        let Some(documents) = self.levels.get(place.level).cloned() else { return };
        let mut branches = Vec::new();
        let mut rest = vec![place.guard.clone()];
        for document in documents {
            let Role::Policy { scope, id } = &self.documents[document].role else { continue };
            let own = match (scope.part(), id) {
                (Some(part), Some(id)) => Guard::of(part, id, true),
                _ => Some(Guard::default()),
            };
            let Some(own) = own else { continue };
            let mut next = Vec::new();
            for guard in &rest {
                let branch = |guard| Branch::new(guard, place.unknown.clone(), Body::Document(document));
                branches.extend(guard.and(&own).map(branch));
                next.extend(own.complement().iter().filter_map(|not| guard.and(not)));
            }
            rest = next;
        }
        branches.extend(rest.into_iter().map(|guard| Branch::new(guard, place.unknown.clone(), Body::Outer)));
        self.branches(place, branches);
    }

    /// Runs branches of which a request takes one, and puts together what their variables are afterwards.
    fn branches(&mut self, place: &Place, branches: Vec<Branch>) {
        let before = self.variables.clone();
        let mut after: Vec<(Guard, bool, Variables)> = Vec::new();
        for branch in branches {
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

    /// The place's section of its document.
    fn document(&mut self, place: &Place) {
        self.run.insert(place.document);
        let elements = &self.documents[place.document].tree.elements;
        let Some(root) = elements.first() else { return };
        let is_policy = |name: &str| LIMITS.contains(&name) || METRICS.contains(&name) || name == "choose";
        match root.name.as_str() {
            "policies" => {
                let sections: Vec<usize> = (root.children.iter().copied())
                    .filter(|child| self.element(place.document, *child).name == place.section)
                    .collect();
                for section in &sections {
                    self.children(place, *section);
                }
                // A document without a section leaves it to the level around.
                if sections.is_empty() {
                    self.level(&Place { level: place.level + 1, ..place.clone() });
                }
            }
            "fragment" if place.section == "inbound" => self.children(place, 0),
            name if name == place.section => self.children(place, 0),
            // A policy without its section, as they stand in manuals.
            name if is_policy(name) && place.section == "inbound" => self.policy(place, 0),
            _ => {}
        }
    }

    fn children(&mut self, place: &Place, element: usize) {
        // A set-variable counts from where it stands, so the children come one after the other.
        for child in &self.element(place.document, element).children {
            self.policy(place, *child);
        }
    }

    fn policy(&mut self, place: &Place, at: usize) {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return;
        }
        let element = self.element(place.document, at);
        self.mark(place.document, at);
        match element.name.as_str() {
            "base" => self.level(&Place { level: place.level + 1, ..place.clone() }),
            "choose" => self.choose(place, at),
            "include-fragment" => self.include(place, at),
            "set-variable" => self.set_variable(place, at),
            "retry" => self.children(&Place { retried: true, ..place.clone() }, at),
            "wait" => self.children(place, at),
            "limit-concurrency" => {
                self.limit(place, at);
                self.children(place, at);
            }
            name if LIMITS.contains(&name) => self.limit(place, at),
            name if METRICS.contains(&name) => self.metric(place, at),
            _ => {}
        }
        let jwt = matches!(element.name.as_str(), "validate-jwt" | "validate-azure-ad-token");
        for attribute in &element.attributes {
            let named = attribute.name == "variable-name" || attribute.name.ends_with("-variable-name");
            if named && element.name != "set-variable" {
                let value = match jwt && attribute.name == "output-token-variable-name" {
                    true => Plain::Jwt,
                    false => Plain::opaque(format!("<{}> sets the variable {:?}", element.name, attribute.value)),
                };
                self.set(place, at, &attribute.value, value.into());
            }
        }
    }

    fn set(&mut self, place: &Place, at: usize, name: &str, cases: Cases) {
        let own = self.documents[place.document].base + at;
        let set_by = place.branches.iter().chain(&place.read).chain([&own]).copied().collect();
        self.variables.insert(name.to_owned(), Variable { cases, set_by });
    }

    fn set_variable(&mut self, place: &Place, at: usize) {
        let element = self.element(place.document, at);
        let Some(name) = element.attribute("name") else { return };
        let text = element.attribute("value").map_or(element.text.as_str(), |attribute| &attribute.value);
        let (cases, read) = match self.values.fill(text) {
            Ok(text) => {
                let worked = eval::work_out(&text, &self.variables);
                for note in &worked.notes {
                    self.mark(place.document, at).notes.insert(note.clone());
                }
                (worked.cases, worked.read)
            }
            Err(reason) => (Plain::opaque(reason).into(), BTreeSet::new()),
        };
        let name = self.values.fill(&name.value).unwrap_or_else(|_| name.value.clone());
        self.set(place, at, &name, cases);
        if let Some(variable) = self.variables.get_mut(&name) {
            variable.set_by.extend(read);
        }
    }

    fn choose(&mut self, place: &Place, at: usize) {
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

    fn include(&mut self, place: &Place, at: usize) {
        let element = self.element(place.document, at);
        let Some(id) = element.attribute("fragment-id") else {
            let message = "<include-fragment> has no fragment-id";
            return self.fault(place.document, element.line, "ATTRIBUTE_MISSING", message, "add fragment-id=\"...\"");
        };
        let id = self.values.fill(&id.value).unwrap_or_else(|_| id.value.clone());
        let found = self.documents.iter().position(|one| matches!(&one.role, Role::Fragment { id: own } if *own == id));
        let Some(found) = found else {
            let reason =
                format!("the fragment {id:?} is not given, and may hold limits; give it (--fragment {id}=FILE)");
            self.mark(place.document, at).not_mapped.insert(reason);
            return;
        };
        if place.includes.contains(&id) || place.includes.len() >= MAX_INCLUDES {
            let message = if place.includes.contains(&id) {
                format!("the fragment {id:?} includes itself")
            } else {
                format!("fragments include one another more than {MAX_INCLUDES} deep")
            };
            return self.fault(place.document, element.line, "FRAGMENT_CYCLE", message, "remove the include");
        }
        self.run.insert(found);
        let mut inner = Place { document: found, ..place.clone() };
        inner.includes.push(id);
        let root = self.documents[found].tree.elements.first().map_or("", |root| &root.name);
        if root == "fragment" { self.children(&inner, 0) } else { self.policy(&inner, 0) }
    }

    fn limit(&mut self, place: &Place, at: usize) {
        let element = self.element(place.document, at);
        let rate = matches!(element.name.as_str(), "rate-limit");
        let reader = self.reader(element, &place.guard);
        let reading = reader.read();
        self.found(place, at, reading);
        if !matches!(element.name.as_str(), "rate-limit" | "quota") {
            return;
        }
        // Their own apis and operations, counted for themselves.
        for child in &element.children {
            let api = self.element(place.document, *child);
            self.mark(place.document, *child);
            if let Some(guard) = self.nested(place, *child, "api", &place.guard, rate) {
                for operation in &api.children {
                    self.mark(place.document, *operation);
                    self.nested(place, *operation, "operation", &guard, rate);
                }
            }
        }
    }

    fn nested(&mut self, place: &Place, at: usize, kind: &str, guard: &Guard, rate: bool) -> Option<Guard> {
        let element = self.element(place.document, at);
        if element.name != kind {
            return None;
        }
        let named = match (element.attribute("id"), element.attribute("name")) {
            (Some(id), _) => (format!("key:{kind}"), id),
            (None, Some(name)) => (format!("key:{kind}-name"), name),
            (None, None) => {
                let message = format!("<{kind}> has neither id nor name");
                self.fault(place.document, element.line, "ATTRIBUTE_MISSING", message, "add id=\"...\"");
                return None;
            }
        };
        let value = match self.values.fill(&named.1.value) {
            Ok(value) if value.trim().is_empty() || value.contains(['*', '@']) => {
                Err(format!("{value:?} is no name that a pattern can say"))
            }
            filled => filled,
        };
        let own = match value {
            Ok(value) => Guard::of(&named.0, &value, true),
            Err(reason) => {
                self.mark(place.document, at).not_mapped.insert(reason);
                return None;
            }
        };
        let Some(guard) = own.and_then(|own| guard.and(&own)) else {
            let mark = self.mark(place.document, at);
            mark.imported = true;
            mark.notes.insert("no request comes to it: the document is of another one".into());
            return None;
        };
        let reading = self.reader(element, &guard).read_nested(rate);
        self.found(&Place { guard: guard.clone(), ..place.clone() }, at, reading);
        Some(guard)
    }

    fn reader<'r>(&'r self, element: &'r Element, guard: &'r Guard) -> Reader<'r> {
        Reader::new(element, &self.variables, self.values, guard, self.classic)
    }

    fn found(&mut self, place: &Place, at: usize, reading: Reading) {
        let element = self.element(place.document, at);
        for fault in reading.faults {
            self.fault(place.document, fault.line, fault.code, fault.message, fault.remedy);
        }
        let allowed = match element.name.as_str() {
            "limit-concurrency" => place.section == "inbound" || place.section == "backend",
            _ => place.section == "inbound",
        };
        let mut differs = reading.differs;
        if place.retried {
            differs
                .insert("it stands in a retry: API Management counts each attempt, here a request counts once".into());
        }
        if element.name == "limit-concurrency" {
            differs.insert(
                "API Management holds a place while the policies in it run, here a request holds it until it is settled"
                    .into(),
            );
        }
        let uses: BTreeSet<usize> = reading.read.iter().chain(&place.branches).chain(&place.read).copied().collect();
        let base = self.documents[place.document].base;
        for found in reading.found {
            let slot = match (&place.unknown, allowed) {
                (Some(reason), _) => Err(reason.clone()),
                (None, false) => Err(format!("it stands in {}, when the request has been let through", place.section)),
                (None, true) => found.slot,
            };
            match slot {
                Ok(slot) => self.occurrences.push(Occurrence {
                    element: base + at,
                    guard: found.guard,
                    slot,
                    uses: uses.clone(),
                    differs: differs.clone(),
                    answers: reading.answers.clone(),
                }),
                Err(reason) => {
                    self.mark(place.document, at).not_mapped.insert(reason);
                    if place.unknown.is_some() {
                        for branch in &place.branches {
                            let reason = "its condition is not mapped, and a limit stands under it";
                            self.marks.entry(*branch).or_default().not_mapped.insert(reason.into());
                        }
                    }
                }
            }
        }
    }

    fn metric(&mut self, place: &Place, at: usize) {
        let element = self.element(place.document, at);
        let dimensions: Vec<usize> = (element.children.iter().copied())
            .filter(|child| self.element(place.document, *child).name == "dimension")
            .collect();
        if dimensions.len() > MAX_DIMENSIONS {
            let message = format!("<{}> has {} dimensions", element.name, dimensions.len());
            let remedy = format!("keep at most {MAX_DIMENSIONS}");
            self.fault(place.document, element.line, "METRIC_DIMENSIONS", message, remedy);
        }
        let mut all = true;
        for child in dimensions {
            let dimension = self.element(place.document, child);
            self.mark(place.document, child);
            let name = dimension.attribute("name").map_or("", |name| name.value.trim());
            if name.is_empty() {
                let message = "a <dimension> has no name";
                self.fault(place.document, dimension.line, "METRIC_DIMENSIONS", message, "add name=\"...\"");
                continue;
            }
            let default = DEFAULT_DIMENSIONS.iter().find(|(own, _)| *own == name);
            let said = match (dimension.attribute("value"), default) {
                (None, Some((_, ""))) => Err("which backend a request goes to is not known here".to_owned()),
                (None, Some((_, part))) => Ok(vec![(Guard::default(), Plain::part(*part, false))]),
                (None, None) => {
                    let names: Vec<&str> = DEFAULT_DIMENSIONS.iter().map(|(name, _)| *name).collect();
                    let remedy = format!("add value=\"...\"; only these go without: {}", names.join(", "));
                    let message = format!("the dimension {name:?} has no value");
                    self.fault(place.document, dimension.line, "METRIC_DIMENSIONS", message, remedy);
                    continue;
                }
                (Some(value), _) => self.values.fill(&value.value).map(|text| {
                    let cases = eval::work_out(&text, &self.variables).cases;
                    cases.under(&place.guard).iter().map(|(guard, plain)| (guard.clone(), plain.clone())).collect()
                }),
            };
            let said = said.and_then(|cases| {
                let mut texts = Vec::new();
                for (guard, plain) in cases {
                    let text = match plain.into_pieces() {
                        Ok(pieces) => crate::value::shown(&pieces),
                        Err(Plain::Opaque(reason)) => return Err(reason),
                        Err(_) => return Err("it is no text".to_owned()),
                    };
                    texts.push(if guard.is_always() { text } else { format!("{text} where {guard}") });
                }
                Ok(texts.join("; "))
            });
            let element = self.documents[place.document].base + child;
            match said {
                Ok(value) => {
                    self.dimensions.insert(MetricDimension { element, name: name.to_owned(), value });
                    self.mark(place.document, child).imported = true;
                }
                Err(reason) => {
                    all = false;
                    self.mark(place.document, child).not_mapped.insert(format!("dimension {name:?}: {reason}"));
                }
            }
        }
        let mark = self.mark(place.document, at);
        mark.imported = true;
        mark.notes.insert("a policy has no metrics: its dimensions are for the host to record".into());
        if !all {
            mark.notes.insert("some of its dimensions are not mapped".into());
        }
    }

    /// Elements that no run came to, so that nothing is missing.
    fn rest(&mut self) {
        let mut unreached: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
        for (document, loaded) in self.documents.iter().enumerate() {
            let ran = self.run.contains(&document);
            for (at, element) in loaded.tree.elements.iter().enumerate() {
                if self.marks.contains_key(&(loaded.base + at)) || !LIMITS.contains(&element.name.as_str()) {
                    continue;
                }
                let reason = match (&loaded.role, ran) {
                    (Role::Fragment { .. }, false) => "no document that is run includes its fragment".to_owned(),
                    (Role::Policy { .. }, false) => {
                        "no document within its scope has a <base /> that brings it in".to_owned()
                    }
                    _ => "it stands where API Management runs no policies".to_owned(),
                };
                unreached.entry(document).or_default().push((at, reason));
            }
        }
        for (document, elements) in unreached {
            for (at, reason) in elements {
                self.mark(document, at).not_mapped.insert(reason);
            }
        }
    }
}
