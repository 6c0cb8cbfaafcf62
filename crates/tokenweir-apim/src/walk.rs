//! Documents run through as API Management runs them: sections, scopes, fragments, variables.
//!
//! Every element is accounted for. What is executed is run once for each kind of request that its conditions tell
//! apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::attributes::Reader;
use crate::branch::{Body, Branch};
use crate::error::Problem;
use crate::eval::{self, Variable, Variables};
use crate::limits::{LIMITS, Reading, Slot};
use crate::source::{Loaded, Role, Scope, Values};
use crate::value::{Cases, Guard, Plain};
use crate::xml::Element;

/// How many elements are run at most, all branches and repeated fragments counted.
const MAX_STEPS: usize = 50_000;
/// The most cases of one element.
const MAX_CASES: usize = 192;
/// How deep fragments may include fragments.
const MAX_INCLUDES: usize = 8;

const SECTIONS: &[&str] = &["inbound", "backend", "outbound", "on-error"];
pub(crate) const METRICS: &[&str] = &["llm-emit-token-metric", "azure-openai-emit-token-metric"];

/// What is known of an element.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    pub(crate) imported: bool,
    pub(crate) not_mapped: BTreeSet<String>,
    pub(crate) notes: BTreeSet<String>,
    /// To be said of it although it is not about limits.
    pub(crate) remarks: BTreeSet<String>,
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
    pub(crate) documents: &'w [Loaded],
    pub(crate) values: &'w Values,
    classic: bool,
    levels: Vec<Vec<usize>>,
    pub(crate) variables: Variables,
    pub(crate) steps: usize,
    /// Whether the level of each document was come to.
    run: BTreeSet<usize>,
    /// How many cases each element has had.
    cases: HashMap<usize, usize>,
    pub(crate) marks: HashMap<usize, Mark>,
    pub(crate) occurrences: Vec<Occurrence>,
    pub(crate) dimensions: BTreeSet<MetricDimension>,
    pub(crate) problems: Vec<Problem>,
}

/// Where in the run an element stands.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) document: usize,
    pub(crate) section: &'static str,
    pub(crate) level: usize,
    pub(crate) guard: Guard,
    /// A condition around it that is not known.
    pub(crate) unknown: Option<String>,
    /// The `when`s and `otherwise`s around it.
    pub(crate) branches: BTreeSet<usize>,
    /// The elements that set the variables that their conditions read.
    pub(crate) read: BTreeSet<usize>,
    pub(crate) retried: bool,
    pub(crate) includes: Vec<String>,
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
            cases: HashMap::new(),
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
        self.many();
        self.rest();
        self
    }

    pub(crate) fn element(&self, document: usize, element: usize) -> &'w Element {
        &self.documents[document].tree.elements[element]
    }

    pub(crate) fn mark(&mut self, document: usize, element: usize) -> &mut Mark {
        self.marks.entry(self.documents[document].base + element).or_default()
    }

    pub(crate) fn fault(
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
    pub(crate) fn level(&mut self, place: &Place) {
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

    /// The place's section of its document.
    pub(crate) fn document(&mut self, place: &Place) {
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

    pub(crate) fn children(&mut self, place: &Place, element: usize) {
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
            "return-response" => self.returns(place, at),
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

    /// The end of a run. What comes after it is run all the same: a limit too many is the strict side.
    fn returns(&mut self, place: &Place, at: usize) {
        if place.section != "inbound" {
            return;
        }
        let element = self.element(place.document, at);
        let status = element.children.iter().map(|child| self.element(place.document, *child));
        let code = status.filter(|child| child.name == "set-status").find_map(|status| status.attribute("code"));
        let refuses = code.is_some_and(|code| self.values.fill(&code.value).is_ok_and(|code| code.trim() == "429"));
        let mark = self.mark(place.document, at);
        if refuses {
            mark.not_mapped
                .insert("it refuses with 429 by a condition of its own, which is no limit that counts".into());
        } else {
            let note = "requests that come to it are answered there; limits after it are imported as if they went on";
            mark.remarks.insert(note.into());
        }
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
            let cases = self.cases.entry(base + at).or_default();
            *cases += 1;
            if *cases > MAX_CASES {
                return;
            }
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

    /// Elements with more cases than can be told apart in reasonable time.
    fn many(&mut self) {
        let many: Vec<usize> =
            (self.cases.iter()).filter(|(_, cases)| **cases > MAX_CASES).map(|(at, _)| *at).collect();
        for element in &many {
            let reason = format!("the conditions that it stands under have more than {MAX_CASES} cases");
            self.marks.entry(*element).or_default().not_mapped.insert(reason);
        }
        self.occurrences.retain(|occurrence| !many.contains(&occurrence.element));
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
