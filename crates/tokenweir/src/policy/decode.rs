//! The tree of a document checked and turned into limits and prices.
//!
//! Checking never stops at the first problem: an operator who mends a policy wants to see all of them. A field that
//! is wrong leaves a hole, the limit is finished around it, and what depends on the hole is not judged.

use std::sync::Arc;

use ahash::HashMap;

use super::MAX_TOKENS;
use super::document::{Kind, Node, Syntax};
use super::error::Problem;
use super::fields::{Checker, Fields, Owner, nearest};
use super::limit::{Limit, Meter, Mode, Price, ScopePart, Until, Weights};
use super::overrides::Member;
use super::pattern::Pattern;
use super::resolve::MatchField;

const TOP: &[&str] = &["limit", "price"];
const LIMIT_FIELDS: &[&str] = &[
    "name",
    "meter",
    "algorithm",
    "amount",
    "per",
    "burst",
    "sub_windows",
    "period",
    "time_zone",
    "week_start",
    "until",
    "scope",
    "match",
    "overrides",
    "mode",
    "require",
    "weights",
];
/// The most parts of a scope, and the most fields of a match.
const MAX_PARTS: usize = 16;
const WEIGHT_FIELDS: &[&str] = &["input", "cached_input", "output", "deployment"];
const PRICE_FIELDS: &[&str] = &["deployment", "input", "cached_input", "output"];
const ALGORITHMS: &[&str] = &["bucket", "window", "quota", "in_flight"];
const MODES: &[&str] = &["enforce", "shadow"];
const UNTIL: &[&str] = &["reached", "passed"];
const PARTS: &[&str] = &["project", "deployment", "key:<name>"];

/// Limits and prices, or everything that is wrong.
pub(super) fn decode(root: &Node, syntax: Syntax) -> Result<(Vec<Limit>, Vec<Price>), Vec<Problem>> {
    let mut checker = Checker::new(syntax);
    let parts = checker.document(root);
    if checker.problems.is_empty() { Ok(parts) } else { Err(checker.problems) }
}

/// A limit as far as it could be read.
struct Draft<'n> {
    member: Member<'n>,
    /// Where it says that it counts cost.
    cost_line: Option<usize>,
    limit: Option<Limit>,
}

impl Checker {
    fn document(&mut self, root: &Node) -> (Vec<Limit>, Vec<Price>) {
        let owner = Owner { limit: None, prefix: "" };
        let Kind::Table(entries) = &root.kind else {
            let message = format!("the policy is {}", root.kind.describe());
            self.problem(owner, root.line, message, "write a table with the lists \"limit\" and \"price\"".into());
            return Default::default();
        };
        let fields = self.fields(owner, entries, TOP, "the policy");
        let mut drafts = Vec::new();
        for node in self.tables(&fields, "limit") {
            drafts.extend(self.limit(node));
        }
        let mut prices = Vec::new();
        let mut priced: HashMap<Pattern, usize> = HashMap::default();
        let mut any_price = false;
        for node in self.tables(&fields, "price") {
            any_price = true;
            prices.extend(self.price(node, &mut priced));
        }
        if !any_price {
            for draft in &drafts {
                if let Some(line) = draft.cost_line {
                    let owner = Owner { limit: draft.member.name, prefix: "" };
                    self.problem(
                        owner,
                        line,
                        "meter is \"cost\" and the policy has no price".into(),
                        format!("add {} with deployment, input and output", self.list_of("price")),
                    );
                }
            }
        }
        let (members, limits): (Vec<_>, Vec<_>) = drafts.into_iter().map(|draft| (draft.member, draft.limit)).unzip();
        self.names(&members);
        self.overrides(&members);
        (limits.into_iter().flatten().collect(), prices)
    }

    /// How the document's syntax writes one more of a list of tables.
    fn list_of(&self, name: &str) -> String {
        match self.syntax {
            Syntax::Toml => format!("[[{name}]]"),
            Syntax::Json => format!("\"{name}\": [{{...}}]"),
        }
    }

    /// The tables of a list at the top.
    fn tables<'n>(&mut self, fields: &Fields<'n>, name: &str) -> Vec<&'n Node> {
        let owner = Owner { limit: None, prefix: "" };
        let Some(entry) = fields.get(name) else { return Vec::new() };
        let remedy = format!("write {} for each", self.list_of(name));
        let Kind::List(nodes) = &entry.node.kind else {
            let message = format!("{name:?} must be a list of tables, and is {}", entry.node.kind.describe());
            self.problem(owner, entry.line, message, remedy);
            return Vec::new();
        };
        let (tables, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| matches!(node.kind, Kind::Table(_)));
        for node in others {
            let message = format!("{name:?} must hold tables, and holds {}", node.kind.describe());
            self.problem(owner, node.line, message, remedy.clone());
        }
        tables
    }

    fn limit<'n>(&mut self, node: &'n Node) -> Option<Draft<'n>> {
        let Kind::Table(entries) = &node.kind else { return None };
        let line = node.line;
        // The name is wanted for everything that is said about the limit.
        let name = entries.iter().find(|entry| entry.key == "name").and_then(|entry| match &entry.node.kind {
            Kind::Text(text) if !text.trim().is_empty() => Some(text.as_str()),
            _ => None,
        });
        let owner = Owner { limit: name, prefix: "" };
        let fields = self.fields(owner, entries, LIMIT_FIELDS, "a limit");
        if name.is_none() {
            self.missing_name(owner, &fields, line);
        }

        let meters = Meter::ALL.map(Meter::as_str);
        let words = meters.join(", ");
        let meter = self
            .required(owner, &fields, "meter", line, &format!("say what the limit counts: one of {words}"))
            .and_then(|node| self.word(owner, "meter", node, &meters))
            .and_then(|word| Meter::ALL.into_iter().find(|meter| meter.as_str() == word));
        let word = self
            .required(owner, &fields, "algorithm", line, &format!("say how: one of {}", ALGORITHMS.join(", ")))
            .and_then(|node| self.word(owner, "algorithm", node, ALGORITHMS));
        let amount = self
            .required(owner, &fields, "amount", line, "say how much the limit allows")
            .and_then(|node| self.number(owner, "amount", node, 1..=MAX_TOKENS));
        let algorithm = word.and_then(|word| self.algorithm(owner, &fields, word, amount, line));
        if let (Some(meter), Some(word)) = (meter, word) {
            self.meter_fits(owner, &fields, meter, word);
        }

        let scope = match fields.get("scope") {
            None => Some(Vec::new()),
            Some(entry) => self.scope(owner, &entry.node),
        };
        let matches = match fields.get("match") {
            None => Some(Vec::new()),
            Some(entry) => self.matches(owner, &entry.node),
        };
        let overrides = fields.get("overrides").map(|entry| {
            let text = self.text(owner, "overrides", &entry.node, "write the name of a limit")?;
            Some((text, entry.line))
        });
        let mode = match fields.get("mode") {
            None => Some(Mode::Enforce),
            Some(entry) => self.word(owner, "mode", &entry.node, MODES).map(|word| match word {
                "shadow" => Mode::Shadow,
                _ => Mode::Enforce,
            }),
        };
        let require = match fields.get("require").map(|entry| &entry.node) {
            None => Some(false),
            Some(Node { kind: Kind::Bool(require), .. }) => Some(*require),
            Some(node) => {
                self.wrong_type(owner, "require", node, "true or false", "write require = true, or remove it");
                None
            }
        };
        let weights = match fields.get("weights") {
            None => Some(Weights::default()),
            Some(entry) => {
                if let Some(meter @ (Meter::Requests | Meter::Cost | Meter::InFlight)) = meter {
                    let message =
                        format!("weights weigh tokens, and the meter {meter:?} counts none", meter = meter.as_str());
                    self.problem(owner, entry.line, message, "remove weights, or count input, output or total".into());
                }
                self.weights(owner, &entry.node)
            }
        };

        let until = match fields.get("until") {
            None => Some(Until::Reached),
            Some(entry) => self.word(owner, "until", &entry.node, UNTIL).map(|word| match word {
                "passed" => Until::Passed,
                _ => Until::Reached,
            }),
        };

        let complete = (|| {
            Some(Limit {
                name: Arc::from(name?),
                meter: meter?,
                algorithm: algorithm?,
                scope: scope?,
                matches: matches.clone()?,
                overrides: match overrides {
                    None => None,
                    Some(named) => Some(Arc::from(named?.0)),
                },
                mode: mode?,
                require: require?,
                weights: weights?,
                until: until?,
            })
        })();
        let cost_line = fields.get("meter").filter(|_| meter == Some(Meter::Cost)).map(|entry| entry.line);
        let member = Member { line, name, overrides: overrides.flatten(), matches };
        Some(Draft { member, cost_line, limit: complete })
    }

    fn missing_name(&mut self, owner: Owner<'_>, fields: &Fields<'_>, line: usize) {
        let remedy = "give it a name: the name is its identity, and what denials and metrics call it";
        match fields.get("name").map(|entry| &entry.node) {
            None => self.problem(owner, line, "a limit has no name".into(), remedy.into()),
            Some(node) if matches!(node.kind, Kind::Text(_)) => {
                self.problem(owner, node.line, "the name of a limit is empty".into(), remedy.into());
            }
            Some(node) => self.wrong_type(owner, "name", node, "text", remedy),
        }
    }

    /// Whether a scope or match is short enough for every request to look at all of it.
    fn few_parts(&mut self, owner: Owner<'_>, field: &str, line: usize, parts: usize) -> bool {
        if parts > MAX_PARTS {
            let message = format!("{field} names {parts} things");
            self.problem(owner, line, message, format!("name at most {MAX_PARTS}"));
        }
        parts <= MAX_PARTS
    }

    fn scope(&mut self, owner: Owner<'_>, node: &Node) -> Option<Vec<ScopePart>> {
        let remedy = "write a list, for instance [\"project\", \"key:user\"], or [] for one counter of all";
        let Kind::List(nodes) = &node.kind else {
            self.wrong_type(owner, "scope", node, "a list", remedy);
            return None;
        };
        if !self.few_parts(owner, "scope", node.line, nodes.len()) {
            return None;
        }
        let mut parts = Vec::new();
        let mut complete = true;
        for node in nodes {
            let part = self.text(owner, "a part of scope", node, remedy).and_then(|text| match text {
                "project" => Some(ScopePart::Project),
                "deployment" => Some(ScopePart::Deployment),
                _ => self.key_name(owner, "scope", text, node.line).map(ScopePart::Key),
            });
            match part {
                Some(part) if parts.contains(&part) => {
                    let message = format!("scope names {:?} twice", part.to_string());
                    self.problem(owner, node.line, message, "remove one of the two".into());
                }
                Some(part) => parts.push(part),
                None => complete = false,
            }
        }
        complete.then_some(parts)
    }

    /// The name of a caller key, from `key:name`.
    fn key_name(&mut self, owner: Owner<'_>, field: &str, text: &str, line: usize) -> Option<Arc<str>> {
        match text.strip_prefix("key:") {
            Some("") => {
                let message = format!("{field} names a caller key without a name: {text:?}");
                self.problem(owner, line, message, "write the name of the key, for instance \"key:user\"".into());
                None
            }
            Some(name) => Some(Arc::from(name)),
            None => {
                let message = format!("unknown part {text:?} of {field}");
                let remedy = match nearest(text, ["project", "deployment"]) {
                    Some(near) => format!("did you mean {near:?}? write one of {}", PARTS.join(", ")),
                    None => format!("write one of {}; a caller key is \"key:{text}\"", PARTS.join(", ")),
                };
                self.problem(owner, line, message, remedy);
                None
            }
        }
    }

    fn matches(&mut self, owner: Owner<'_>, node: &Node) -> Option<Vec<(MatchField, Pattern)>> {
        let Kind::Table(entries) = &node.kind else {
            let remedy = "write { project = \"search*\" }, or remove it to match all";
            self.wrong_type(owner, "match", node, "a table", remedy);
            return None;
        };
        if !self.few_parts(owner, "match", node.line, entries.len()) {
            return None;
        }
        let mut found: Vec<(MatchField, Pattern)> = Vec::new();
        let mut lines: HashMap<MatchField, usize> = HashMap::default();
        let mut complete = true;
        for entry in entries {
            let field = match entry.key.as_str() {
                "project" => Some(MatchField::Project),
                "deployment" => Some(MatchField::Deployment),
                key => self.key_name(owner, "match", key, entry.line).map(MatchField::Key),
            };
            let owner = Owner { prefix: "match.", ..owner };
            let pattern = self
                .text(owner, &entry.key, &entry.node, "write what it must be, exactly or with *")
                .and_then(|text| self.pattern(owner, &entry.key, entry.node.line, text));
            let (Some(field), Some(pattern)) = (field, pattern) else {
                complete = false;
                continue;
            };
            match lines.insert(field.clone(), entry.line) {
                Some(first) => {
                    self.twice(owner, &entry.key, first, entry.line);
                    complete = false;
                }
                None => found.push((field, pattern)),
            }
        }
        complete.then_some(found)
    }

    fn weights(&mut self, owner: Owner<'_>, node: &Node) -> Option<Weights> {
        let Kind::Table(entries) = &node.kind else {
            let remedy = "write { cached_input = 0, output = 4000 }: per mille of a token";
            self.wrong_type(owner, "weights", node, "a table", remedy);
            return None;
        };
        let owner = Owner { prefix: "weights.", ..owner };
        let fields = self.fields(owner, entries, WEIGHT_FIELDS, "weights");
        let mut weight = |field: &str| match fields.get(field) {
            None => Some(1000),
            Some(entry) => self.number(owner, field, &entry.node, 0..=1_000_000),
        };
        let (input, cached_input, output) = (weight("input"), weight("cached_input"), weight("output"));
        let deployment = match fields.get("deployment") {
            None => Some(Vec::new()),
            Some(entry) => self.deployment_weights(owner, &entry.node),
        };
        Some(Weights { input: input?, cached_input: cached_input?, output: output?, deployment: deployment? })
    }

    fn deployment_weights(&mut self, owner: Owner<'_>, node: &Node) -> Option<Vec<(Pattern, u64)>> {
        let Kind::Table(entries) = &node.kind else {
            let remedy = "write { \"gpt-4*\" = 2500 }: a multiplier per mille for each pattern";
            self.wrong_type(owner, "deployment", node, "a table", remedy);
            return None;
        };
        let owner = Owner { prefix: "weights.deployment.", ..owner };
        let mut found = Vec::new();
        let mut lines: HashMap<Pattern, usize> = HashMap::default();
        let mut complete = true;
        for entry in entries {
            let pattern = self.pattern(owner, &entry.key, entry.line, &entry.key);
            let weight = self.number(owner, &entry.key, &entry.node, 0..=1_000_000);
            let (Some(pattern), Some(weight)) = (pattern, weight) else {
                complete = false;
                continue;
            };
            match lines.insert(pattern.clone(), entry.line) {
                Some(first) => {
                    self.twice(owner, &entry.key, first, entry.line);
                    complete = false;
                }
                None => found.push((pattern, weight)),
            }
        }
        complete.then_some(found)
    }

    fn price(&mut self, node: &Node, priced: &mut HashMap<Pattern, usize>) -> Option<Price> {
        let Kind::Table(entries) = &node.kind else { return None };
        let deployment =
            entries.iter().find(|entry| entry.key == "deployment").and_then(|entry| match &entry.node.kind {
                Kind::Text(text) => Some(text.as_str()),
                _ => None,
            });
        let prefix = match deployment {
            Some(deployment) => format!("price for {:?}: ", deployment.chars().take(80).collect::<String>()),
            None => "price: ".to_owned(),
        };
        let owner = Owner { limit: None, prefix: &prefix };
        let fields = self.fields(owner, entries, PRICE_FIELDS, "a price");
        let pattern = self
            .required(owner, &fields, "deployment", node.line, "say which deployments it is for, \"*\" for any")
            .and_then(|node| {
                let text = self.text(owner, "deployment", node, "write a name, exactly or with *")?;
                self.pattern(owner, "deployment", node.line, text)
            });
        if let Some(pattern) = &pattern
            && let Some(first) = priced.insert(pattern.clone(), node.line)
        {
            let message = format!("{prefix}there is another for this deployment on line {first}");
            self.problem(owner, node.line, message, "remove one of the two".into());
        }
        let remedy = "write nano-units per token: 2.50 for a million tokens is 2500";
        let mut side = |field: &str| {
            let node = self.required(owner, &fields, field, node.line, remedy)?;
            self.number(owner, field, node, 0..=MAX_TOKENS)
        };
        let (input, output) = (side("input"), side("output"));
        let cached_input = if fields.contains_key("cached_input") { side("cached_input") } else { input };
        Some(Price { deployment: pattern?, input: input?, cached_input: cached_input?, output: output? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fields::{DAY, seconds};
    use crate::policy::{Algorithm, Policy};
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    /// The example of the contract, in full.
    const CONTRACT: &str = r##"
    # every limit has a name; the name is its identity
    [[limit]]
    name      = "project tpm"
    meter     = "total"                      # requests | input | output | total | cost | in_flight
    algorithm = "bucket"                     # bucket | window | quota | in_flight
    amount    = 100_000
    per       = "1m"                         # bucket, window: 1s, 1m, 90s, 1h ...
    burst     = 20_000                       # bucket: capacity; default = amount
    scope     = ["project", "deployment"]    # each distinct value has its own counter
    match     = { project = "search*", "key:tier" = "free" }   # optional; exact or with *

    [[limit]]
    name = "deployment window"
    meter = "total"
    algorithm = "window"
    amount = 60_000
    per = "1m"
    sub_windows = 60
    scope = ["deployment"]
    weights = { cached_input = 0, output = 4000 }

    [[limit]]
    name = "project month"
    meter = "total"
    algorithm = "quota"
    amount = 50_000_000
    period = "monthly"
    time_zone = "UTC"
    week_start = "monday"
    scope = ["project"]

    [[limit]]
    name = "at once"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 40
    scope = ["deployment"]

    [[limit]]
    name = "search tpm"
    overrides = "project tpm"
    match = { project = "search" }
    meter = "total"
    algorithm = "bucket"
    amount = 400_000
    per = "1m"
    scope = ["project", "deployment"]
    mode = "enforce"

    [[price]]
    deployment = "gpt-4o*"
    input = 2500
    cached_input = 1250
    output = 10000
    "##;

    const CONTRACT_JSON: &str = r##"{
      "limit": [
        {"name": "project tpm", "meter": "total", "algorithm": "bucket", "amount": 100000, "per": "1m",
         "burst": 20000, "scope": ["project", "deployment"], "match": {"project": "search*", "key:tier": "free"}},
        {"name": "deployment window", "meter": "total", "algorithm": "window", "amount": 60000, "per": "1m",
         "sub_windows": 60, "scope": ["deployment"], "weights": {"cached_input": 0, "output": 4000}},
        {"name": "project month", "meter": "total", "algorithm": "quota", "amount": 50000000, "period": "monthly",
         "time_zone": "UTC", "week_start": "monday", "scope": ["project"]},
        {"name": "at once", "meter": "in_flight", "algorithm": "in_flight", "amount": 40, "scope": ["deployment"]},
        {"name": "search tpm", "overrides": "project tpm", "match": {"project": "search"}, "meter": "total",
         "algorithm": "bucket", "amount": 400000, "per": "1m", "scope": ["project", "deployment"], "mode": "enforce"}
      ],
      "price": [{"deployment": "gpt-4o*", "input": 2500, "cached_input": 1250, "output": 10000}]
    }"##;

    #[test]
    fn reads_the_contract_from_both_syntaxes() {
        let policy = Policy::from_toml(CONTRACT).unwrap();
        assert_eq!(policy, Policy::from_json(CONTRACT_JSON).unwrap());
        let [bucket, window, quota, in_flight, search] = policy.limits() else { panic!("five limits") };
        let minute = 60 * SECOND;
        assert_eq!(*bucket.algorithm(), Algorithm::Bucket { amount: 100_000, per: minute, burst: 20_000 });
        assert_eq!(bucket.matches()[0], (MatchField::Project, Pattern::new("search*")));
        assert_eq!(bucket.matches()[1], (MatchField::Key("tier".into()), Pattern::new("free")));
        assert_eq!(*window.algorithm(), Algorithm::Window { amount: 60_000, per: minute, sub_windows: 60 });
        assert_eq!((window.weights().input, window.weights().cached_input, window.weights().output), (1000, 0, 4000));
        assert_eq!(quota.algorithm().amount(), 50_000_000);
        assert_eq!(in_flight.meter(), Meter::InFlight);
        assert_eq!(search.overrides(), Some("project tpm"));
        assert_eq!(*search.algorithm(), Algorithm::Bucket { amount: 400_000, per: minute, burst: 400_000 });
        assert_eq!(search.scope(), [ScopePart::Project, ScopePart::Deployment]);
        assert_eq!(policy.prices()[0].cached_input, 1250);
    }

    #[test]
    fn until_is_for_windows_and_quotas() {
        let limit = |terms: &str| format!("[[limit]]\nname = \"l\"\nmeter = \"total\"\namount = 5\n{terms}\n");
        let until = |terms: &str| Policy::from_toml(&limit(terms)).map(|policy| policy.limits()[0].until());
        assert_eq!(until("algorithm = \"window\"\nper = \"1m\""), Ok(Until::Reached));
        assert_eq!(until("algorithm = \"window\"\nper = \"1m\"\nuntil = \"passed\""), Ok(Until::Passed));
        assert_eq!(until("algorithm = \"quota\"\nperiod = \"daily\"\nuntil = \"passed\""), Ok(Until::Passed));
        assert_eq!(until("algorithm = \"quota\"\nperiod = \"daily\"\nuntil = \"reached\""), Ok(Until::Reached));
        let bucket = until("algorithm = \"bucket\"\nper = \"1m\"\nuntil = \"passed\"").expect_err("not for buckets");
        assert!(bucket.to_string().contains("until belongs to a window or quota"), "{bucket}");
        let word = until("algorithm = \"quota\"\nperiod = \"daily\"\nuntil = \"pased\"").expect_err("no such word");
        assert!(word.to_string().contains("did you mean \"passed\""), "{word}");
    }

    #[test]
    fn no_limits_is_a_policy() {
        assert!(Policy::from_toml("").unwrap().limits().is_empty());
        assert!(Policy::from_toml("limit = []").unwrap().limits().is_empty());
        assert_eq!(Policy::from_json("{}").unwrap(), Policy::default());
    }

    /// The lines of the error.
    #[track_caller]
    fn wrong(text: &str) -> Vec<String> {
        let error = Policy::from_toml(text).expect_err(text);
        assert!(error.problems().iter().all(|problem| !problem.message.is_empty() && !problem.remedy.is_empty()));
        error.to_string().lines().map(str::to_owned).collect()
    }

    const BUCKET: &str = "[[limit]]\nname = 'x'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 60\nper = '1m'\n";
    const WINDOW: &str = "[[limit]]\nname = 'x'\nmeter = 'total'\nalgorithm = 'window'\namount = 60\nper = '1m'\n";
    const QUOTA: &str = "[[limit]]\nname = 'x'\nmeter = 'total'\nalgorithm = 'quota'\namount = 60\nperiod = 'weekly'\n";

    /// One problem, on this line, whose text has all of these parts.
    #[track_caller]
    fn one(text: &str, line: usize, parts: &[&str]) {
        let found = wrong(text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(&format!("line {line}: ")), "{found:#?}");
        for part in parts {
            assert!(found[0].contains(part), "{part:?} is not in {found:#?}");
        }
    }

    /// A bucket with one line replaced.
    fn with(line: &str) -> String {
        let field = line.split(' ').next().unwrap_or_default();
        let mut text: String =
            BUCKET.lines().filter(|old| !old.starts_with(field)).map(|old| format!("{old}\n")).collect();
        text.push_str(line);
        text
    }

    #[test]
    fn unknown_fields_and_words_get_the_nearest_known_one() {
        one("[[limits]]\nname = 'x'", 1, &["unknown field \"limits\" in the policy; did you mean \"limit\"?"]);
        one(&format!("{BUCKET}bust = 1"), 7, &["limit \"x\": unknown field \"bust\"", "did you mean \"burst\"?"]);
        one(&format!("{BUCKET}colour = 1"), 7, &["unknown field \"colour\" in a limit; the fields are name, meter"]);
        one(&with("meter = 'totl'"), 6, &["unknown meter \"totl\"; did you mean \"total\"?"]);
        one(&with("meter = 'Total'"), 6, &["unknown meter \"Total\"; did you mean \"total\"?"]);
        one(&with("algorithm = 'leaky'"), 6, &["unknown algorithm \"leaky\"; write one of bucket, window"]);
        one(&with("mode = 'shadwo'"), 7, &["unknown mode \"shadwo\"; did you mean \"shadow\"?"]);
        one(&with("scope = ['projekt']"), 7, &["unknown part \"projekt\" of scope; did you mean \"project\"?"]);
        one(&with("scope = ['user']"), 7, &["a caller key is \"key:user\""]);
        one(&with("scope = ['key:']"), 7, &["caller key without a name"]);
        one(&with("match = { tier = 'free' }"), 7, &["unknown part \"tier\" of match", "\"key:tier\""]);
        one(&QUOTA.replace("weekly", "fortnightly"), 6, &["unknown period \"fortnightly\"", "weekly"]);
        one(
            &format!("{QUOTA}time_zone = 'Europe/Berln'"),
            7,
            &["time_zone \"Europe/Berln\"; did you mean \"Europe/Berlin\"?"],
        );
        one(&format!("{QUOTA}week_start = 'mon'"), 7, &["unknown week_start \"mon\"", "monday, tuesday"]);
        one(&format!("{BUCKET}weights = {{ cached = 1 }}"), 7, &["unknown field \"weights.cached\" in weights"]);
        one(
            &QUOTA.replace("'weekly'", "{ evry = '1h', every = '1h' }"),
            6,
            &["unknown field \"period.evry\"", "\"every\""],
        );
    }

    #[test]
    fn wrong_types_say_what_was_found() {
        one(
            &with("amount = '60'"),
            6,
            &[
                "limit \"x\": amount must be a whole number, and is the text \"60\"; write a whole number from 1 to 9007199254740992",
            ],
        );
        one(&with("amount = 1.5"), 6, &["amount must be a whole number, and is 1.5, which is not a whole number"]);
        one(&with("amount = nan"), 6, &["nan"]);
        one(&with("meter = 3"), 6, &["meter must be text, and is the number 3"]);
        one(&with("per = 60"), 6, &["per must be text, and is the number 60", "\"90s\""]);
        one(&with("scope = 'project'"), 7, &["scope must be a list"]);
        one(&with("scope = [1]"), 7, &["a part of scope must be text, and is the number 1"]);
        one(&with("match = 'search'"), 7, &["match must be a table"]);
        one(&with("match = { project = 1 }"), 7, &["match.project must be text"]);
        one(&with("require = 'yes'"), 7, &["require must be true or false"]);
        one(&with("overrides = 1"), 7, &["overrides must be text"]);
        one(&with("weights = 2"), 7, &["weights must be a table"]);
        one(&with("weights = { deployment = 2500 }"), 7, &["weights.deployment must be a table"]);
        one("[limit]\nname = 'x'", 1, &["\"limit\" must be a list of tables", "[[limit]]"]);
        one("limit = [1]", 1, &["\"limit\" must hold tables, and holds the number 1"]);
        one(&with("mode = 2026-01-01"), 7, &["the date or time 2026-01-01"]);
    }

    #[test]
    fn missing_fields() {
        let found = wrong("[[limit]]\n");
        assert_eq!(found.len(), 4, "{found:#?}");
        for field in ["a limit has no name", "meter is missing", "algorithm is missing", "amount is missing"] {
            assert!(found.iter().any(|line| line.starts_with("line 1: ") && line.contains(field)), "{found:#?}");
        }
        one(&BUCKET.replace("per = '1m'\n", ""), 1, &["limit \"x\": per is missing"]);
        one(&QUOTA.replace("period = 'weekly'\n", ""), 1, &["period is missing"]);
        one("[[price]]\ndeployment = 'x'\ninput = 1\n", 1, &["price for \"x\": output is missing"]);
        one("[[price]]\ninput = 1\noutput = 1\n", 1, &["price: deployment is missing"]);
        one(&QUOTA.replace("'weekly'", "{ anchor = '2026-01-01T00:00:00Z' }"), 6, &["period.every is missing"]);
        one(&with("name = ''"), 6, &["the name of a limit is empty"]);
        one(&with("name = '  '"), 6, &["the name of a limit is empty"]);
        one(&with("name = 1"), 6, &["name must be text"]);
    }

    #[test]
    fn names_are_used_once() {
        one(&format!("{BUCKET}\n{WINDOW}"), 8, &["limit \"x\": the name is used twice, first by the limit on line 1"]);
    }

    #[test]
    fn numbers_stay_in_range() {
        one(&with("amount = 0"), 6, &["amount is 0; write a whole number from 1"]);
        one(&with("amount = -5"), 6, &["amount is negative: -5"]);
        one(&QUOTA.replace("= 60", "= 9_007_199_254_740_993"), 5, &["amount is too large: 9007199254740993"]);
        assert!(Policy::from_toml(&QUOTA.replace("= 60", "= 9_007_199_254_740_992")).is_ok());
        let found = wrong(&QUOTA.replace("= 60", &format!("= {}", "9".repeat(1000))));
        assert!(found[0].contains("too large") && found[0].len() < 300, "{found:?}");
        let found = wrong(&QUOTA.replace("= 60", &format!("= -{}", "9".repeat(1000))));
        assert!(found[0].contains("is negative"), "{found:?}");
        one(&format!("{BUCKET}burst = 0"), 7, &["burst is 0"]);
        one(&format!("{BUCKET}burst = 9_007_199_254_740_993"), 7, &["burst is too large"]);
        one(&format!("{WINDOW}sub_windows = 501"), 7, &["sub_windows is too large", "from 1 to 500"]);
        one(&format!("{WINDOW}sub_windows = 0"), 7, &["sub_windows is 0"]);
        one(&format!("{BUCKET}weights = {{ output = 1_000_001 }}"), 7, &["weights.output is too large"]);
        one(&format!("{BUCKET}weights = {{ output = -1 }}"), 7, &["weights.output is negative"]);
        one(
            &format!("{BUCKET}weights = {{ deployment = {{ m = 1_000_001 }} }}"),
            7,
            &["weights.deployment.m is too large"],
        );
        one("[[price]]\ndeployment = 'x'\ninput = -1\noutput = 0\n", 3, &["price for \"x\": input is negative"]);
        let json =
            r#"{"limit": [{"name": "x", "meter": "total", "algorithm": "quota", "period": "daily", "amount": 1e3}]}"#;
        let error = Policy::from_json(json).unwrap_err().to_string();
        assert!(error.contains("amount must be a whole number, and is 1e3"), "{error}");
    }

    #[test]
    fn rates_end_at_a_hundred_billion_per_minute() {
        assert!(Policy::from_toml(&with("amount = 100_000_000_000")).is_ok());
        one(&with("amount = 100_000_000_001"), 6, &["more than 100000000000 per minute; write at most 100000000000"]);
        let second = |amount: u64| BUCKET.replace("1m", "1s").replace("= 60", &format!("= {amount}"));
        assert!(Policy::from_toml(&second(1_666_666_666)).is_ok());
        one(&second(1_666_666_667), 5, &["write at most 1666666666"]);
    }

    #[test]
    fn durations() {
        for (text, seconds) in
            [("1s", 1), ("90s", 90), ("1m", 60), ("1h30m", 5400), ("1d2h3m4s", 93_784), ("366d", 366 * DAY)]
        {
            let policy = Policy::from_toml(&with(&format!("per = '{text}'"))).unwrap();
            let Algorithm::Bucket { per, .. } = policy.limits()[0].algorithm() else { panic!("a bucket") };
            assert_eq!(*per, seconds * SECOND, "{text}");
        }
        for (text, why) in [
            ("0s", "no time at all"),
            ("0m0s", "no time at all"),
            ("367d", "too long"),
            ("366d1s", "too long"),
            ("99999999999999999999999999999999999999999999999999d", "too long"),
            ("", "not a duration"),
            ("60", "not a duration"),
            ("m", "not a duration"),
            ("1 m", "not a duration"),
            ("1ms", "not a duration"),
            ("500ms", "not a duration"),
            ("30m1h", "not a duration"),
            ("1m1m", "not a duration"),
            ("1.5h", "not a duration"),
            ("-1m", "not a duration"),
            ("1M", "not a duration"),
            ("1µ", "not a duration"),
        ] {
            one(&with(&format!("per = '{text}'")), 6, &["per ", why, "\"1h30m\""]);
        }
    }

    #[test]
    fn windows_divide_into_their_sub_windows() {
        let seconds = Policy::from_toml(&WINDOW.replace("1m", "10s")).unwrap();
        assert!(matches!(seconds.limits()[0].algorithm(), Algorithm::Window { sub_windows: 50, .. }));
        one(&format!("{WINDOW}sub_windows = 7"), 7, &["does not divide into 7 sub_windows", "sub_windows = 6,"]);
        assert!(Policy::from_toml(&format!("{WINDOW}sub_windows = 500")).is_ok());
        assert!(Policy::from_toml(&format!("{WINDOW}sub_windows = 1")).is_ok());
    }

    #[test]
    fn fields_belong_to_their_algorithm() {
        one(
            &format!("{WINDOW}burst = 5"),
            7,
            &["burst belongs to a bucket, and the algorithm is \"window\"; remove it"],
        );
        one(&format!("{BUCKET}period = 'daily'"), 7, &["period belongs to a quota"]);
        one(&format!("{BUCKET}sub_windows = 5"), 7, &["sub_windows belongs to a window"]);
        one(&format!("{QUOTA}sub_windows = 5"), 7, &["sub_windows belongs to a window"]);
        one(&format!("{QUOTA}per = '1m'"), 7, &["per belongs to a bucket or window"]);
        one(&format!("{BUCKET}time_zone = 'UTC'"), 7, &["time_zone belongs to a quota"]);
        let at_once = "[[limit]]\nname = 'x'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 4\n";
        one(&format!("{at_once}per = '1m'"), 6, &["per belongs to a bucket or window"]);
        one(&at_once.replace("meter = 'in_flight'", "meter = 'total'"), 3, &["cannot count \"total\""]);
        one(&with("meter = 'in_flight'"), 3, &["\"in_flight\" cannot be counted by a bucket"]);
        one(&format!("{at_once}weights = {{}}"), 6, &["weights weigh tokens"]);
        one(&format!("{}weights = {{}}", BUCKET.replace("total", "requests")), 7, &["counts none"]);
        let never = QUOTA.replace("weekly", "never");
        one(&format!("{never}time_zone = 'UTC'"), 7, &["time_zone means nothing"]);
        one(&format!("{}week_start = 'monday'", QUOTA.replace("'weekly'", "{ every = '1h' }")), 7, &["week_start"]);
    }

    #[test]
    fn periods() {
        let shown = |text: &str| {
            let policy = Policy::from_toml(text).unwrap();
            let Algorithm::Quota { period, .. } = policy.limits()[0].algorithm() else { panic!("a quota") };
            period.to_string()
        };
        assert_eq!(shown(QUOTA), "weekly");
        let more = "week_start = 'sunday'\ntime_zone = 'Europe/Berlin'";
        assert_eq!(shown(&format!("{QUOTA}{more}")), "weekly from sunday in Europe/Berlin");
        let every = |table: &str| QUOTA.replace("'weekly'", table);
        assert_eq!(shown(&every("{ every = '90m' }")), "every 5400s");
        let anchored = "every 5400s from 2026-01-31T08:00:00Z";
        assert_eq!(shown(&every("{ every = '90m', anchor = '2026-01-31T10:00:00+02:00' }")), anchored);
        assert_eq!(shown(&every("{ every = '90m', anchor = 2026-01-31T08:00:00Z }")), anchored);
        assert_eq!(shown(&every("{ every = '36600d' }")), "every 3162240000s");
        one(&every("{ every = '36601d' }"), 6, &["period.every is too long"]);
        one(&every("{ every = '1h', anchor = '2026-01-31' }"), 6, &["period.anchor is not an RFC 3339 instant"]);
        one(&every("{ every = '1h', anchor = 2026-01-31T08:00:00 }"), 6, &["period.anchor is not an RFC 3339 instant"]);
        one(&every("{ every = '1h', anchor = '2026-01-31T08:00:00.5Z' }"), 6, &["not a whole second"]);
        one(&every("{ every = '1h', anchor = 5 }"), 6, &["period.anchor must be an RFC 3339 instant"]);
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        one(&with("match = { project = '' }"), 7, &["match.project is an empty pattern, which nothing can match"]);
        let many = "'project', ".repeat(17);
        one(&with(&format!("scope = [{many}]")), 7, &["scope names 17 things; name at most 16"]);
        one(&with("scope = ['project', 'project']"), 7, &["scope names \"project\" twice"]);
        let over = "[[limit]]\nname = 'y'\noverrides = 'x'\nmatch = { project = 'search' }\nmeter = 'total'\n\
                    algorithm = 'bucket'\namount = 1\nper = '1s'\n";
        let base = |pattern: &str| format!("{BUCKET}match = {{ project = '{pattern}' }}\n{over}");
        assert!(Policy::from_toml(&base("s*h")).is_ok());
        one(&base("chat*"), 10, &["limit \"y\": it can never stand in for \"x\"", "\"search\"", "\"chat*\""]);
        one(&with(&format!("match = {{ project = '{}' }}", "x".repeat(513))), 7, &["513 bytes long"]);
    }

    #[test]
    fn overrides_name_another_limit() {
        one(&format!("{BUCKET}overrides = 'project'"), 7, &["overrides names \"project\", and there is no such limit"]);
        one(&format!("{BUCKET}overrides = 'x'"), 7, &["the limit overrides itself"]);
        let limit = |name: &str, more: &str| format!("{}{more}\n", BUCKET.replace("'x'", &format!("'{name}'")));
        let text = limit("tokens", "") + &limit("b", "overrides = 'tokes'");
        one(&text, 14, &["did you mean \"tokens\"?"]);
        let text = limit("a", "overrides = 'c'")
            + &limit("b", "overrides = 'a'")
            + &limit("c", "overrides = 'b'")
            + &limit("d", "overrides = 'c'\nmatch = { project = 'p' }");
        one(&text, 7, &["overrides go round in a circle: \"a\" overrides \"c\" overrides \"b\" overrides \"a\""]);
        let text = limit("a", "")
            + &limit("b", "overrides = 'a'\nmatch = { project = 'p', deployment = '*' }")
            + &limit("c", "overrides = 'a'\nmatch = { deployment = '**', project = 'p' }");
        one(&text, 22, &["limit \"b\" on line 8 overrides \"a\" with the same match"]);
    }

    #[test]
    fn prices() {
        one(&with("meter = 'cost'"), 6, &["meter is \"cost\" and the policy has no price; add [[price]]"]);
        let price = "[[price]]\ndeployment = 'x*'\ninput = 1\noutput = 2\n";
        one(&format!("{price}{price}"), 5, &["price for \"x*\": there is another for this deployment on line 1"]);
        assert_eq!(Policy::from_toml(price).unwrap().prices()[0].cached_input, 1, "as input");
        one(&price.replace("x*", ""), 2, &["deployment is an empty pattern"]);
    }

    #[test]
    fn a_key_twice_is_an_error_in_json_too() {
        let json = "{\"limit\": [{\"name\": \"x\", \"meter\": \"total\", \"algorithm\": \"quota\", \"amount\": 1,\n\
                    \"amount\": 2, \"period\": \"daily\"}]}";
        let error = Policy::from_json(json).unwrap_err().with_file("p.json").to_string();
        assert_eq!(error, "p.json:2: limit \"x\": amount is given twice, first on line 1; remove one of the two");
        let json = "{\"limit\": [],\n\"limit\": []}";
        assert_eq!(Policy::from_json(json).unwrap_err().problems()[0].line, Some(2));
        for text in ["[]", "3", "null", "\"x\""] {
            let error = Policy::from_json(text).unwrap_err().to_string();
            assert!(error.starts_with("line 1: the policy is "), "{error}");
        }
    }

    #[test]
    fn all_problems_are_reported_in_order() {
        let found = wrong(
            "[[limit]]\nname = 'x'\nmeter = 'totl'\nalgorithm = 'bucket'\namount = 0\nper = '1x'\nburst = -1\n\
             [[limit]]\nname = 'y'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1\nperiod = 'dayly'\noverrides = 'z'\n\
             [[price]]\ndeployment = ''\ninput = 1\noutput = 1\ncolour = 3\n",
        );
        let lines: Vec<&str> = found.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(
            lines,
            ["line 3", "line 5", "line 6", "line 7", "line 13", "line 14", "line 16", "line 19"],
            "{found:#?}"
        );
    }

    #[test]
    fn ten_thousand_bad_overrides_end_soon() {
        let mut text = String::new();
        for number in 0..10_000 {
            text.push_str(&BUCKET.replace("'x'", &format!("'limit {number}'")));
            text.push_str(&format!("overrides = 'limt {number}'\n"));
        }
        assert_eq!(wrong(&text).len(), 10_000);
        // A chain through all of them is no cycle, and following it is not quadratic.
        let mut text = BUCKET.replace("'x'", "'0'");
        for number in 1..10_000 {
            text.push_str(&BUCKET.replace("'x'", &format!("'{number}'")));
            text.push_str(&format!("overrides = '{}'\n", number - 1));
        }
        let policy = Policy::from_toml(&text).unwrap();
        let resolution = policy.resolve(&crate::Request::new("p", "d")).unwrap();
        assert_eq!(resolution.applied.iter().map(|applied| applied.limit).collect::<Vec<_>>(), [9999]);
        let last = text.replacen("per = '1m'", "per = '1m'\noverrides = '9999'", 1);
        assert_eq!(wrong(&last).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = Policy::from_toml(&text);
            let _ = Policy::from_json(&text);
        }

        /// The contract's example with a few pieces cut out, doubled or replaced.
        #[test]
        fn no_mutation_panics(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, "[-a-z0-9'\"\\[\\]{}=,.:*\n ]{0,6}", any::<bool>()), 1..6),
            json in any::<bool>(),
        ) {
            let mut text: Vec<char> = if json { CONTRACT_JSON } else { CONTRACT }.chars().collect();
            for (at, length, replacement, double) in edits {
                let from = at.index(text.len() + 1);
                let to = (from + length).min(text.len());
                let piece: Vec<char> = text[from..to].to_vec();
                let new: Vec<char> = if double { [piece.clone(), piece].concat() } else { replacement.chars().collect() };
                text.splice(from..to, new);
            }
            let text: String = text.into_iter().collect();
            let read = if json { Policy::from_json(&text) } else { Policy::from_toml(&text) };
            match read {
                Ok(policy) => {
                    let _ = policy.explain(&crate::Request::new("search", "gpt-4o"));
                }
                Err(error) => {
                    prop_assert!(!error.problems().is_empty());
                    let lines = text.lines().count().max(1) + 1;
                    prop_assert!(error.problems().iter().all(|problem| problem.line.is_none_or(|line| (1..=lines).contains(&line))));
                }
            }
        }

        #[test]
        fn seconds_reads_what_is_written(d in 0..400u64, h in 0..100u64, m in 0..100u64, s in 0..100u64) {
            prop_assert_eq!(seconds(&format!("{d}d{h}h{m}m{s}s")), Some(u128::from(d * DAY + h * 3600 + m * 60 + s)));
        }
    }
}
