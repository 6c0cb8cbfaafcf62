//! Runs the golden scripts (`golden/*.json`, format in `golden/README.md`) on the library, and their decisions on the
//! reference model as well.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use support::ledger::exact;
use support::model::{End, Model};
use tokenweir::{
    Decision, Denied, Error, Estimate, Key, Limiter, ManualClock, Now, PermitId, Policy, Request, Settlement, Usage,
    UsageFilter,
};

/// A script as it runs.
struct Run<'a> {
    limiter: &'a Limiter,
    model: Model,
    /// The model knows no bound on counters.
    modelled: bool,
    permits: BTreeMap<String, (PermitId, usize)>,
    context: String,
}

fn integer(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a whole number"))
}

fn bytes(value: &Value) -> Vec<u8> {
    match value.get("hex").and_then(Value::as_str) {
        Some(hex) => {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
            (0..hex.len()).step_by(2).map(byte).collect()
        }
        None => value.as_str().unwrap_or_else(|| panic!("{value} is neither text nor hex")).as_bytes().to_vec(),
    }
}

/// Passes the step's request.
fn with_request<T>(step: &Value, act: impl FnOnce(&Request<'_>) -> T) -> T {
    let request = &step["request"];
    let (project, deployment) = (bytes(&request["project"]), bytes(&request["deployment"]));
    let named = request["keys"].as_object().into_iter().flatten();
    let values: Vec<(&String, Vec<u8>)> = named.map(|(name, value)| (name, bytes(value))).collect();
    let keys: Vec<Key<'_>> = values.iter().map(|(name, value)| Key { name, value }).collect();
    act(&Request { project: &project, deployment: &deployment, keys: &keys })
}

fn estimate(step: &Value) -> Estimate {
    Estimate::new(integer(&step["estimate"]["input"]), integer(&step["estimate"]["output"]))
}

fn remaining(left: Vec<(String, i64)>) -> Value {
    left.into_iter().map(|(limit, left)| (limit, json!(left))).collect::<serde_json::Map<_, _>>().into()
}

fn set(names: impl IntoIterator<Item = impl Into<String>>) -> Value {
    json!(names.into_iter().map(Into::into).collect::<BTreeSet<String>>())
}

fn denial(denied: &Denied) -> Value {
    json!({
        "decision": "denied",
        "status": denied.status(),
        "limit": denied.limit(),
        "refused_by": set(denied.refusals().map(|refusal| refusal.limit)),
        "retry_after_ns": denied.retry_after().map(|wait| wait.as_nanos() as u64),
        "never_fits": denied.never_fits(),
        "remaining": remaining(denied.remaining()),
    })
}

fn settlement(result: Result<Settlement, Error>) -> Value {
    match result {
        Ok(settled) => json!({
            "outcome": settled.outcome.as_str(),
            "input": settled.input,
            "cached_input": settled.cached_input,
            "output": settled.output,
            "estimated": settled.estimated,
        }),
        Err(error) => json!({ "error": error.code() }),
    }
}

impl Run<'_> {
    /// Every field that is expected is there, and the call failed only where it should.
    fn check(&self, who: &str, expect: &Value, found: &Value) {
        let nothing = serde_json::Map::new();
        let expect = expect.as_object().unwrap_or(&nothing);
        for (field, value) in expect {
            let value = match (field.as_str(), value.as_array()) {
                ("refused_by" | "shadow_refused" | "applied" | "skipped", Some(names)) => {
                    set(names.iter().map(|name| name.as_str().expect("a name")))
                }
                _ => value.clone(),
            };
            assert_eq!(found.get(field), Some(&value), "{who}: {field} of {found}\n{}", self.context);
        }
        let failed = found.get("error").is_some() && !expect.contains_key("error");
        assert!(!failed, "{who}: {found}\n{}", self.context);
    }

    fn admit(&mut self, step: &Value, now: Now) {
        let estimate = estimate(step);
        let expect = &step["expect"];
        let verdict = match expect.get("error") {
            None if self.modelled => Some(with_request(step, |request| self.model.judge(request, estimate, now))),
            _ => None,
        };
        let decision = with_request(step, |request| self.limiter.admit_at(request, estimate, now));
        let found = match decision {
            Ok(Decision::Admitted(permit)) => {
                let skipped = permit.shadow_refused();
                let found = json!({
                    "decision": "admitted",
                    "remaining": remaining(permit.remaining_at(now)),
                    "shadow_refused": set(skipped.clone()),
                });
                let model = match &verdict {
                    Some(verdict) => {
                        assert_eq!(verdict.shadow_refused(), skipped, "{}", self.context);
                        with_request(step, |request| self.model.charge(request, estimate, now, &skipped))
                    }
                    None => 0,
                };
                let name = step["as"].as_str().unwrap_or_else(|| panic!("a name for the permit\n{}", self.context));
                self.permits.insert(name.to_owned(), (permit.into_id(), model));
                found
            }
            Ok(Decision::Denied(denied)) => denial(&denied),
            Err(error) => json!({ "error": error.code() }),
        };
        self.check("library", expect, &found);
        let Some(verdict) = verdict else { return };
        self.model.see_all(now);
        // What the model says of it: as much as it knows without choosing among equals.
        let mut model = json!({ "decision": if verdict.admitted() { "admitted" } else { "denied" } });
        let left = verdict.enforced().map(|limit| {
            // After the charge, if it was made.
            let charged = if verdict.admitted() { i128::from(limit.charge) } else { 0 };
            (limit.limit.clone(), (limit.remaining - charged) as i64)
        });
        model["remaining"] = remaining(left.collect());
        model["shadow_refused"] = set(verdict.shadow_refused());
        if !verdict.admitted() {
            let never = verdict.refusals().any(|limit| limit.never_fits);
            let wait =
                verdict.refusals().map(|limit| limit.wait).max_by_key(|wait| wait.unwrap_or(u128::MAX)).flatten();
            // `None` is beyond every wait.
            let forever = verdict.refusals().any(|limit| limit.wait.is_none());
            model["refused_by"] = set(verdict.refusals().map(|limit| limit.limit.clone()));
            model["never_fits"] = json!(never);
            model["retry_after_ns"] = if forever { Value::Null } else { json!(wait.map(|wait| wait as u64)) };
        }
        let mut expect = expect.clone();
        for chosen in ["status", "limit"] {
            expect.as_object_mut().expect("an object").remove(chosen);
        }
        self.check("model", &expect, &model);
    }

    fn permit(&self, step: &Value) -> (PermitId, Option<usize>) {
        let name = step["permit"].as_str().expect("a permit");
        match self.permits.get(name) {
            Some((id, model)) => (*id, self.modelled.then_some(*model)),
            None if name == "unknown" => (PermitId::new(u64::MAX).expect("not 0"), None),
            None => panic!("no permit {name}\n{}", self.context),
        }
    }

    fn end(&mut self, step: &Value, end: End, now: Now) {
        let (id, model) = self.permit(step);
        let result = match end {
            End::Usage(usage) => self.limiter.settle_at(id, usage, now),
            End::Cancel => self.limiter.cancel_at(id, now),
            End::Drop => self.limiter.abandon_at(id, now),
        };
        let invalid = result.as_ref().is_err_and(|error| error.code() == 20);
        let settled = result.is_ok();
        self.check("library", &step["expect"], &settlement(result));
        if let Some(model) = model.filter(|_| !invalid) {
            assert_eq!(self.model.end(model, end, now), settled, "{}", self.context);
        }
    }

    fn usage(&mut self, step: &Value, now: Now) {
        let found = self.limiter.usage_at(&UsageFilter::default(), now);
        let expected = step["expect"]["counters"].as_array().expect("counters");
        let mut listed = 0;
        for counter in found {
            let same = |expected: &&Value| {
                let scope = expected["scope"].as_object().expect("a scope");
                let part =
                    |(part, value): &(String, Vec<u8>)| scope.get(part).is_some_and(|known| bytes(known) == *value);
                expected["limit"] == counter.limit
                    && scope.len() == counter.scope.len()
                    && counter.scope.iter().all(part)
            };
            let found = json!({
                "limit": counter.limit,
                "amount": counter.amount,
                "used": counter.used,
                "held": counter.held,
                "remaining": counter.remaining,
                "settled_total": counter.settled_total,
            });
            let Some(expected) = expected.iter().find(same) else {
                let unused = (counter.used, counter.held, counter.settled_total) == (0, 0, 0);
                assert!(unused, "library: {found} is not listed\n{}", self.context);
                continue;
            };
            listed += 1;
            let mut expected = expected.clone();
            expected.as_object_mut().expect("an object").remove("scope");
            self.check("library", &expected, &found);
            if !self.modelled {
                continue;
            }
            self.model.see_all(now);
            let model = self.model.find(&counter.limit, &counter.scope);
            let model = model.unwrap_or_else(|| panic!("the model has no {found}\n{}", self.context));
            let (amount, used) = (self.model.amount(model), self.model.used(model, now) as i64);
            let found = json!({
                "limit": counter.limit,
                "amount": amount,
                "used": used,
                "held": self.model.held(model) as u64,
                "remaining": amount as i64 - used,
                "settled_total": self.model.counters[model].settled as u64,
            });
            self.check("model", &expected, &found);
        }
        assert_eq!(listed, expected.len(), "library: counters are missing\n{}", self.context);
    }

    fn peek(&self, step: &Value, now: Now) {
        let peek = with_request(step, |request| self.limiter.peek_at(request, estimate(step), now));
        let peek = peek.unwrap_or_else(|error| panic!("{error}\n{}", self.context));
        self.check(
            "library",
            &json!({ "admitted": step["expect"]["admitted"] }),
            &json!({ "admitted": peek.admitted }),
        );
        for (name, expect) in step["expect"]["limits"].as_object().into_iter().flatten() {
            let view = peek.limits.iter().find(|view| view.limit == *name);
            let view = view.unwrap_or_else(|| panic!("{name} is not met\n{}", self.context));
            let found = json!({
                "charge": view.charge,
                "amount": view.amount,
                "remaining": view.remaining,
                "fits": view.fits,
                "never_fits": view.never_fits,
                "wait_ns": view.wait,
            });
            self.check("library", expect, &found);
        }
    }

    fn step(&mut self, step: &Value) {
        let wall = step["at"]["wall"].as_i64().expect("a wall clock");
        let now = Now::new(integer(&step["at"]["mono"]), wall);
        let expect = &step["expect"];
        match step["op"].as_str().expect("an op") {
            "admit" => self.admit(step, now),
            "settle" => {
                let tokens = |field: &str| step["usage"].get(field).map(integer);
                let (input, cached_input, output) = (tokens("input"), tokens("cached_input"), tokens("output"));
                self.end(step, End::Usage(Usage { input, cached_input, output }), now);
            }
            "cancel" => self.end(step, End::Cancel, now),
            "abandon" => self.end(step, End::Drop, now),
            "observe" => {
                let (id, model) = self.permit(step);
                let (input, output) = (integer(&step["input"]), integer(&step["output"]));
                let found = match self.limiter.observe_at(id, input, output, now) {
                    Ok(seen) => json!({ "spent": seen.spent }),
                    Err(error) => json!({ "error": error.code() }),
                };
                self.check("library", expect, &found);
                if let Some(model) = model {
                    self.model.observe_more(model, input, output, now);
                }
            }
            "renew" => {
                let (id, model) = self.permit(step);
                let ttl = integer(&step["ttl"]);
                let renewed = self.limiter.renew_at(id, Duration::from_nanos(ttl), now);
                let found = renewed.map_or_else(|error| json!({ "error": error.code() }), |()| json!({}));
                self.check("library", expect, &found);
                model.map(|model| self.model.renew(model, ttl, now));
            }
            "peek" => self.peek(step, now),
            "explain" => {
                let explained = with_request(step, |request| self.limiter.explain_at(request, estimate(step), now));
                let explained = explained.unwrap_or_else(|error| panic!("{error}\n{}", self.context));
                let found = json!({
                    "applied": set(explained.applied.into_iter().map(|limit| limit.view.limit)),
                    "skipped": set(explained.skipped.into_iter().map(|(limit, _)| limit)),
                });
                self.check("library", expect, &found);
            }
            "usage" => self.usage(step, now),
            "swap" => {
                let found = match Policy::from_json(&step["policy"].to_string()).map_err(Error::from) {
                    Ok(policy) => {
                        self.limiter.swap_policy_at(policy.clone(), now).unwrap();
                        self.model.swap(policy, now);
                        json!({})
                    }
                    Err(error) => json!({ "error": error.code() }),
                };
                self.check("library", expect, &found);
            }
            "sweep" => self.limiter.sweep_at(now),
            other => panic!("no op {other}\n{}", self.context),
        }
    }
}

fn run(script: &Value) {
    let policy = Policy::from_json(&script["policy"].to_string()).unwrap_or_else(|error| panic!("{error}"));
    let ttl = script["options"].get("permit_ttl").map_or(600_000_000_000, integer);
    let counters = script["options"].get("max_counters").map(integer);
    let limiter = Limiter::builder(policy.clone())
        .clock(ManualClock::default())
        .permit_ttl(Duration::from_nanos(ttl))
        .max_counters(counters.unwrap_or(100) as usize)
        .build();
    let mut model = Model::new(policy, exact);
    model.ttl = Some(ttl);
    let modelled = counters.is_none();
    let mut run = Run { limiter: &limiter, model, modelled, permits: BTreeMap::new(), context: String::new() };
    for (number, step) in script["steps"].as_array().expect("steps").iter().enumerate() {
        run.context = format!("{}, step {number}: {step}", script["name"]);
        run.step(step);
    }
}

#[test]
fn every_script_comes_out_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let files = std::fs::read_dir(&folder).expect("the folder of golden scripts");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut failed = Vec::new();
    for file in &files {
        let script: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("text")).expect("JSON");
        assert_eq!(file.file_stem().and_then(|name| name.to_str()), script["name"].as_str());
        if std::panic::catch_unwind(|| run(&script)).is_err() {
            failed.push(script["name"].clone());
        }
    }
    assert!(files.len() >= 48, "only {} scripts", files.len());
    assert!(failed.is_empty(), "{} of {} scripts failed: {failed:?}", failed.len(), files.len());
}

/// The runner itself must notice what is wrong.
#[test]
fn a_wrong_expectation_fails() {
    let script = |expect: Value| {
        json!({
            "name": "wrong",
            "policy": { "limit": [
                { "name": "q", "meter": "total", "algorithm": "quota", "amount": 10, "period": "daily" },
            ] },
            "steps": [{
                "op": "admit", "at": { "mono": 0, "wall": 0 }, "request": { "project": "p", "deployment": "d" },
                "estimate": { "input": 1, "output": 2 }, "as": "a", "expect": expect,
            }],
        })
    };
    let fails = |expect: Value| std::panic::catch_unwind(|| run(&script(expect))).is_err();
    assert!(!fails(json!({ "decision": "admitted", "remaining": { "q": 7 } })));
    assert!(fails(json!({ "decision": "denied" })));
    assert!(fails(json!({ "decision": "admitted", "remaining": { "q": 8 } })));
    assert!(fails(json!({ "decision": "admitted", "remaining": {} })));
    assert!(fails(json!({ "decision": "admitted", "shadow_refused": ["q"] })));
    assert!(fails(json!({ "error": 10 })));
}
