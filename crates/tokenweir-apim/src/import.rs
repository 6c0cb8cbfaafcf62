//! Documents in, a policy and an account out.

use std::collections::{BTreeMap, BTreeSet};

use tokenweir::Policy;

use crate::error::{ImportError, Problem};
use crate::known;
use crate::plan::{self, Plan};
use crate::report::{Accounted, Dimension, ImportedLimit, Line, Part, Report, Source};
use crate::source::{Document, Loaded, Role, Values};
use crate::walk::Walk;
use crate::write;

/// The most documents and fragments of one import.
const MAX_DOCUMENTS: usize = 1000;

/// Which gateways the documents are of: they count rates differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tier {
    /// Consumption, Developer, Basic, Standard and Premium: sliding windows.
    Classic,
    /// Basic v2, Standard v2 and Premium v2, which Foundry's AI Gateway runs on: token buckets.
    #[default]
    V2,
}

/// What to import.
#[derive(Debug, Default)]
pub struct Importer {
    tier: Tier,
    documents: Vec<Document>,
    fragments: Vec<(String, String, String)>,
    values: Values,
    parts: BTreeMap<String, String>,
}

/// What came of an import.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Imported {
    /// The policy as text, with comments. It reads as [`policy`](Imported::policy).
    pub toml: String,
    /// The policy.
    pub policy: Policy,
    /// What became of every element.
    pub report: Report,
}

impl Importer {
    /// An import of documents for gateways of `tier`.
    pub fn new(tier: Tier) -> Self {
        Importer { tier, ..Importer::default() }
    }

    /// Adds a document.
    ///
    /// Documents of several levels are one within the other where they say `<base />`. Several of one level are
    /// alternatives, told apart by their ids.
    #[must_use]
    pub fn document(mut self, document: Document) -> Self {
        self.documents.push(document);
        self
    }

    /// Adds the fragment `id` with its text; `name` is what messages call it.
    #[must_use]
    pub fn fragment(mut self, id: impl Into<String>, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.fragments.push((id.into(), name.into(), text.into()));
        self
    }

    /// Gives `{{name}}` a value.
    #[must_use]
    pub fn named_value(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.values.named.insert(name.into(), value.into());
        self
    }

    /// Gives `{name}`, also written `${name}`, a value.
    #[must_use]
    pub fn placeholder(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.values.placeholders.insert(name.into(), value.into());
        self
    }

    /// Calls a part otherwise in the policy: `part("key:product", "project")` makes products projects.
    #[must_use]
    pub fn part(mut self, part: impl Into<String>, called: impl Into<String>) -> Self {
        self.parts.insert(part.into(), called.into());
        self
    }

    /// Imports.
    ///
    /// # Errors
    /// Everything that is wrong with the documents: text that is not XML or is refused, and what API Management refuses
    /// or ought to. What is right and cannot be mapped is no error: the report lists it.
    pub fn import(self) -> Result<Imported, ImportError> {
        let classic = self.tier == Tier::Classic;
        let loaded = self.load()?;
        let walk = Walk::new(&loaded, &self.values, classic).run();
        let Walk { mut marks, occurrences, dimensions, mut problems, .. } = walk;
        let at = |element: usize| line_of(&loaded, element);
        let Plan { limits, conflicts, not_mapped } = plan::plan(occurrences, &self.parts, classic);
        for conflict in conflicts {
            let (place, first) = (at(conflict.element), at(conflict.first));
            let (one, other) = conflict.amounts;
            let allow = if one == other { format!("{one} in another time") } else { format!("{one} and {other}") };
            problems.push(Problem {
                code: "COUNTER_CONFLICT",
                message: format!(
                    "<{}> and <{}> on {}:{} count by the same key {:?} and allow {allow}",
                    place.element, first.element, first.file, first.line, conflict.key
                ),
                remedy: "make the two equal, or give one of them another key".into(),
                file: place.file,
                line: place.line,
            });
        }
        if !problems.is_empty() {
            let order: BTreeMap<&str, usize> =
                loaded.iter().enumerate().map(|(place, one)| (one.name.as_str(), place)).collect();
            problems.sort_by_key(|problem| (order.get(problem.file.as_str()).copied(), problem.line));
            problems.dedup();
            return Err(ImportError(problems));
        }
        for (element, reason) in not_mapped {
            marks.entry(element).or_default().not_mapped.insert(reason);
        }
        let mut of_element: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let mut used: BTreeSet<usize> = BTreeSet::new();
        for limit in &limits {
            for element in &limit.elements {
                of_element.entry(*element).or_default().push(limit.name.clone());
            }
            used.extend(&limit.uses);
        }
        let mut report = Report {
            tier: if classic { "classic" } else { "v2" },
            documents: loaded.iter().map(source_of).collect(),
            limits: Vec::new(),
            imported: Vec::new(),
            not_mapped: Vec::new(),
            not_about_limits: Vec::new(),
            parts: Vec::new(),
            dimensions: Vec::new(),
            warnings: Vec::new(),
        };
        for limit in &limits {
            report.limits.push(ImportedLimit {
                name: limit.name.clone(),
                from: limit.elements.iter().map(|element| at(*element)).collect(),
                differs: limit.differs.iter().cloned().collect(),
                answers: limit.answers.clone(),
            });
        }
        for document in &loaded {
            for element in document.base..document.base + document.tree.elements.len() {
                let mark = marks.remove(&element).unwrap_or_default();
                let limits = of_element.remove(&element).unwrap_or_default();
                let place = at(element);
                let notes = |notes: BTreeSet<String>| notes.into_iter().collect::<Vec<_>>();
                if !mark.not_mapped.is_empty() {
                    report.not_mapped.push(Accounted { place, limits, notes: notes(mark.not_mapped) });
                } else if mark.imported || !limits.is_empty() || used.contains(&element) {
                    report.imported.push(Accounted { place, limits, notes: notes(mark.notes) });
                } else {
                    report.not_about_limits.push(Accounted { place, limits, notes: notes(mark.remarks) });
                }
            }
        }
        for dimension in dimensions {
            report.dimensions.push(Dimension {
                place: at(dimension.element),
                name: dimension.name,
                value: dimension.value,
            });
        }
        let named: BTreeSet<&String> =
            limits.iter().flat_map(|limit| limit.scope.iter().chain(limit.matches.keys())).collect();
        let called: BTreeMap<&str, &str> =
            self.parts.iter().map(|(part, called)| (called.as_str(), part.as_str())).collect();
        for part in named {
            let meaning = known::meaning(called.get(part.as_str()).copied().unwrap_or(part));
            report.parts.push(Part { part: part.clone(), meaning });
        }
        report.warnings = self.values.unused().iter().map(|name| format!("no document asks for {name}")).collect();
        for document in &loaded {
            let root = document.tree.elements.first().map_or("", |root| root.name.as_str());
            let policy = matches!(document.role, Role::Policy { .. });
            if policy
                && !matches!(root, "policies" | "inbound" | "backend" | "outbound" | "on-error")
                && limits.is_empty()
            {
                let file = &document.name;
                report
                    .warnings
                    .push(format!("{file}: the root is <{root}>, and that of a policy document is <policies>"));
            }
        }
        let toml = write::policy(&limits, &report, classic);
        match Policy::from_toml(&toml) {
            Ok(policy) => Ok(Imported { toml, policy, report }),
            // Nothing that is known leads here; if something does, a wrong policy must not get out.
            Err(error) => Err(ImportError(vec![Problem {
                file: loaded.first().map_or_else(String::new, |first| first.name.clone()),
                line: 1,
                code: "POLICY_REFUSED",
                message: format!("the policy that came of it is wrong: {}", error.to_string().replace('\n', "; ")),
                remedy: "import the documents one by one to see which one leads to it".into(),
            }])),
        }
    }

    fn load(&self) -> Result<Vec<Loaded>, ImportError> {
        let mut loaded: Vec<Loaded> = Vec::new();
        let mut problems = Vec::new();
        let documents = self.documents.iter().map(|document| {
            let role = Role::Policy { scope: document.scope, id: document.id.clone() };
            (&document.name, &document.text, role)
        });
        let fragments = self.fragments.iter().map(|(id, name, text)| (name, text, Role::Fragment { id: id.clone() }));
        let mut taken: BTreeSet<(String, String)> = BTreeSet::new();
        for (place, (name, text, role)) in documents.chain(fragments).enumerate() {
            let refused = |message: String, remedy: &str| Problem {
                file: name.clone(),
                line: 1,
                code: "DOCUMENT_MISPLACED",
                message,
                remedy: remedy.into(),
            };
            if place >= MAX_DOCUMENTS {
                problems
                    .push(refused(format!("there are more than {MAX_DOCUMENTS} documents"), "import them in parts"));
                break;
            }
            let (kind, id) = match &role {
                Role::Policy { scope, id } => (scope.as_str(), id.clone()),
                Role::Fragment { id } => ("fragment", Some(id.clone())),
            };
            if kind == "global" && id.is_some() {
                problems.push(refused("a global document has an id".into(), "leave it out"));
            }
            if let Some(id) = &id
                && (id.trim().is_empty() || id.contains('*') || id.len() > 256)
            {
                problems.push(refused(format!("{id:?} is no id of a {kind}"), "write 1 to 256 letters without *"));
            }
            let of_kind = || taken.iter().filter(|(own, _)| own == kind);
            let alone = id.is_none() && of_kind().next().is_some() || of_kind().any(|(_, own)| own.is_empty());
            let id = id.unwrap_or_default();
            if alone || !taken.insert((kind.to_owned(), id)) {
                let message = format!("it is another {kind} document, and nothing tells the two apart");
                problems.push(refused(message, "give each its own id, or import them one by one"));
            }
            let base = loaded.last().map_or(0, |last| last.base + last.tree.elements.len());
            match Loaded::new(name, text, role, base) {
                Ok(document) => loaded.push(document),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(loaded) } else { Err(ImportError(problems)) }
    }
}

fn source_of(document: &Loaded) -> Source {
    let (kind, id) = match &document.role {
        Role::Policy { scope, id } => (scope.as_str(), id.clone()),
        Role::Fragment { id } => ("fragment", Some(id.clone())),
    };
    Source { file: document.name.clone(), kind, id }
}

/// Where an element stands that has this number among those of all documents.
fn line_of(loaded: &[Loaded], element: usize) -> Line {
    let after = loaded.partition_point(|document| document.base <= element);
    let found = after.checked_sub(1).map(|place| &loaded[place]).and_then(|document| {
        let own = document.tree.elements.get(element - document.base)?;
        Some(Line { file: document.name.clone(), line: own.line, element: own.name.clone() })
    });
    found.unwrap_or(Line { file: String::new(), line: 0, element: String::new() })
}
