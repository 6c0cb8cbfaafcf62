//! Expressions worked out, as far as they can be without a request. Calls are worked out in `calls`, comparisons in
//! `compare`.

use std::collections::{BTreeSet, HashMap};

use crate::compare::{equal, exists};
use crate::csharp::{self, Expr, Hole, Operator, Statement};
use crate::known;
use crate::value::{Cases, Dictionary, Guard, Plain, around};

/// How many steps one expression may take.
const MAX_STEPS: usize = 5_000;

/// A variable, and the elements that set it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    pub(crate) cases: Cases,
    pub(crate) set_by: BTreeSet<usize>,
}

pub(crate) type Variables = HashMap<String, Variable>;

/// What came of an expression.
#[derive(Debug)]
pub(crate) struct Worked {
    pub(crate) cases: Cases,
    /// The elements that set the variables it read.
    pub(crate) read: BTreeSet<usize>,
    /// What a host has to know to send the same.
    pub(crate) notes: BTreeSet<String>,
}

/// Works out an attribute or text: an expression, or the text as it stands.
pub(crate) fn work_out(source: &str, variables: &Variables) -> Worked {
    let mut worker = Worker { variables, locals: Vec::new(), steps: 0, read: BTreeSet::new(), notes: BTreeSet::new() };
    let trimmed = source.trim();
    let cases = if trimmed.starts_with("@(") || trimmed.starts_with("@{") {
        match csharp::parse(trimmed) {
            Ok(expr) => worker.eval(&expr),
            Err(reason) => Plain::opaque(format!("its expression is not understood: {reason}")).into(),
        }
    } else {
        Plain::known(source).into()
    };
    Worked { cases, read: worker.read, notes: worker.notes }
}

pub(crate) struct Worker<'v> {
    variables: &'v Variables,
    locals: Vec<(String, Cases)>,
    steps: usize,
    read: BTreeSet<usize>,
    pub(crate) notes: BTreeSet<String>,
}

pub(crate) fn opaque(reason: impl Into<String>) -> Cases {
    Plain::opaque(reason).into()
}

/// The condition case by case: where it holds, where it does not, where it is not known.
pub(crate) fn truth(cases: &Cases) -> Vec<(Guard, Result<bool, String>)> {
    let each = |plain: &Plain| match plain {
        Plain::Bool(value) => Ok(*value),
        Plain::Opaque(reason) => Err(reason.clone()),
        Plain::Volatile(what) => Err(format!("it reads {what}")),
        other => match other.known_text().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err("it is no condition".into()),
        },
    };
    cases.iter().map(|(guard, plain)| (guard.clone(), each(plain))).collect()
}

impl Worker<'_> {
    pub(crate) fn eval(&mut self, expr: &Expr) -> Cases {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return opaque("its expression takes too long to work out");
        }
        match expr {
            Expr::Text(text) => Plain::known(text).into(),
            Expr::Integer(number) => Plain::Integer(*number).into(),
            Expr::Bool(value) => Plain::Bool(*value).into(),
            Expr::Null => Plain::Null.into(),
            Expr::Other(what) => opaque(format!("it has {what}")),
            Expr::Name(name) => match self.locals.iter().rev().find(|(local, _)| local == name) {
                Some((_, cases)) => cases.clone(),
                None => opaque(format!("{name:?} is not known")),
            },
            Expr::Member(of, name, _) => self.member(expr, of, name),
            Expr::Index(of, keys) => {
                let [key] = keys.as_slice() else { return opaque("it has an index of several parts") };
                let (of, key) = (self.eval(of), self.eval(key));
                of.both(&key, |of, key| self.index(of, key))
            }
            Expr::Call(of, arguments) => self.call(of, arguments),
            Expr::Not(of) => self.eval(of).then(|plain| match plain {
                Plain::Bool(value) => Plain::Bool(!value).into(),
                Plain::Opaque(_) | Plain::Volatile(_) => plain.clone().into(),
                _ => opaque("! stands before what is no condition"),
            }),
            Expr::Negative(of) => self.eval(of).then(|plain| match plain {
                Plain::Integer(number) => Plain::Integer(number.saturating_neg()).into(),
                _ => opaque("- stands before what is no number"),
            }),
            Expr::Choice(condition, yes, no) => {
                let condition = self.eval(condition);
                self.choice(&condition, |worker| worker.eval(yes), |worker| worker.eval(no))
            }
            Expr::Interpolated(holes) => {
                let pieces: Vec<Cases> = holes
                    .iter()
                    .map(|hole| match hole {
                        Hole::Text(text) => Plain::known(text).into(),
                        Hole::Value(value) => self.eval(value),
                    })
                    .collect();
                joined(&pieces)
            }
            Expr::List(items) => {
                let items: Vec<Cases> = items.iter().map(|item| self.eval(item)).collect();
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.sole()?.known_text().map(str::to_owned)).collect();
                texts.map_or_else(|| opaque("a list holds what is no plain text"), |texts| Plain::List(texts).into())
            }
            Expr::Block(statements) => {
                let from = self.locals.len();
                let value = self.run(&statements.iter().collect::<Vec<_>>());
                self.locals.truncate(from);
                value
            }
            Expr::Binary(operator, left, right) => self.binary(*operator, left, right),
        }
    }

    fn choice(
        &mut self,
        condition: &Cases,
        mut yes: impl FnMut(&mut Self) -> Cases,
        mut no: impl FnMut(&mut Self) -> Cases,
    ) -> Cases {
        let mut cases = Vec::new();
        for (guard, holds) in truth(condition) {
            let value = match holds {
                Ok(true) => yes(self),
                Ok(false) => no(self),
                Err(reason) => opaque(reason),
            };
            cases.extend(value.iter().filter_map(|(own, plain)| guard.and(own).map(|guard| (guard, plain.clone()))));
        }
        Cases::new(cases)
    }

    fn run(&mut self, statements: &[&Statement]) -> Cases {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return opaque("its expression takes too long to work out");
        }
        match statements.split_first() {
            None => Plain::Null.into(),
            Some((Statement::Return(value), _)) => self.eval(value),
            Some((Statement::Set(name, value), rest)) => {
                let value = self.eval(value);
                let from = self.locals.len();
                self.locals.push((name.clone(), value));
                let value = self.run(rest);
                self.locals.truncate(from);
                value
            }
            Some((Statement::If(condition, yes, no), rest)) => {
                let condition = self.eval(condition);
                // What follows an `if` follows each of its branches.
                let yes: Vec<&Statement> = yes.iter().chain(rest.iter().copied()).collect();
                let no: Vec<&Statement> = no.iter().chain(rest.iter().copied()).collect();
                self.choice(&condition, |worker| worker.run(&yes), |worker| worker.run(&no))
            }
        }
    }

    fn binary(&mut self, operator: Operator, left: &Expr, right: &Expr) -> Cases {
        let left_cases = self.eval(left);
        match operator {
            Operator::And | Operator::Or => {
                let decided = operator == Operator::Or;
                let right_cases = self.eval(right);
                left_cases.both(&right_cases, |left, right| match (left, right) {
                    (Plain::Bool(value), _) | (_, Plain::Bool(value)) if *value == decided => {
                        Plain::Bool(decided).into()
                    }
                    (Plain::Bool(_), other) | (other, Plain::Bool(_)) => other.clone().into(),
                    (other, _) => other.clone().into(),
                })
            }
            Operator::Coalesce => {
                let right_cases = self.eval(right);
                left_cases.then(|left| match left {
                    Plain::Null | Plain::Unset(_) => right_cases.clone(),
                    _ => match left.sole_part() {
                        Some((part, true)) => {
                            let there = Cases::choose(part, "*", Plain::part(part, false), Plain::Null);
                            there.then(|plain| match plain {
                                Plain::Null => right_cases.clone(),
                                there => there.clone().into(),
                            })
                        }
                        _ => left.clone().into(),
                    },
                })
            }
            Operator::Add => {
                let right_cases = self.eval(right);
                left_cases.both(&right_cases, |left, right| match (left, right) {
                    (Plain::Integer(left), Plain::Integer(right)) => Plain::Integer(left.saturating_add(*right)).into(),
                    _ => Plain::joined([left.clone(), right.clone()]).into(),
                })
            }
            Operator::Equal | Operator::Unequal => {
                let right_cases = self.eval(right);
                let equal = left_cases.both(&right_cases, equal);
                if operator == Operator::Equal {
                    return equal;
                }
                equal.then(|plain| match plain {
                    Plain::Bool(value) => Plain::Bool(!value).into(),
                    other => other.clone().into(),
                })
            }
            Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
                let right_cases = self.eval(right);
                left_cases.both(&right_cases, |left, right| match (left, right) {
                    (Plain::Integer(left), Plain::Integer(right)) => Plain::Bool(match operator {
                        Operator::Less => left < right,
                        Operator::LessEqual => left <= right,
                        Operator::Greater => left > right,
                        _ => left >= right,
                    })
                    .into(),
                    (Plain::Opaque(_), _) => left.clone().into(),
                    (_, Plain::Opaque(_)) => right.clone().into(),
                    _ => opaque("it compares what is no number"),
                })
            }
            Operator::Other => opaque("it computes with an operator that is not known here"),
        }
    }

    fn member(&mut self, whole: &Expr, of: &Expr, name: &str) -> Cases {
        if let Some((path, nullable)) = path(whole) {
            match path.split_once('.') {
                Some(("context", path)) => {
                    if let Some(plain) = known::member(path, nullable) {
                        return plain.into();
                    }
                }
                Some(("DateTime" | "DateTimeOffset", name)) => {
                    return Plain::Volatile(format!("the time ({name})")).into();
                }
                Some(("string" | "String", "Empty")) => return Plain::known("").into(),
                _ => {}
            }
            // A path that goes on from something known is worked out below.
            if path.starts_with("context.") && matches!(of, Expr::Name(_)) {
                return opaque(format!("{path} is not known"));
            }
        }
        let shown = path(whole).map_or_else(|| format!(".{name}"), |(path, _)| path);
        self.eval(of).then(|plain| match (plain, name) {
            (Plain::Opaque(_) | Plain::Volatile(_), _) => plain.clone().into(),
            (Plain::Null | Plain::Unset(_), _) => Plain::Null.into(),
            (Plain::Jwt, "Claims") => Plain::Dictionary(Dictionary::Claims).into(),
            (Plain::Jwt, "Subject") => Plain::part("key:claim:sub", true).into(),
            (Plain::Jwt, "Issuer") => Plain::part("key:claim:iss", true).into(),
            (Plain::List(items), "Length" | "Count") => Plain::Integer(items.len() as i128).into(),
            (Plain::Text(_), "Length") => match plain.known_text() {
                Some(text) => Plain::Integer(text.encode_utf16().count() as i128).into(),
                None => opaque("it looks at the length of what the request says"),
            },
            // Of a nullable value.
            (_, "Value") => plain.clone().into(),
            (Plain::Text(_), "HasValue") => exists(plain),
            _ => opaque(format!("{shown} is not known")),
        })
    }

    pub(crate) fn index(&mut self, of: &Plain, key: &Plain) -> Cases {
        match (of, key) {
            (Plain::Opaque(_) | Plain::Volatile(_), _) => of.clone().into(),
            (_, Plain::Opaque(_) | Plain::Volatile(_)) => key.clone().into(),
            (Plain::Null | Plain::Unset(_), _) => Plain::Null.into(),
            (Plain::Dictionary(dictionary), _) => self.entry(*dictionary, key, *dictionary == Dictionary::Body),
            (Plain::List(items), Plain::Integer(at)) => {
                let item = usize::try_from(*at).ok().and_then(|at| items.get(at));
                item.map_or_else(|| opaque("it takes a piece that is not there"), |item| Plain::known(item).into())
            }
            // Headers and claims are lists of texts; the first is what a host sends.
            (_, Plain::Integer(0)) if of.sole_part().is_some() => of.clone().into(),
            _ => opaque("it takes a piece of what the request says"),
        }
    }

    /// The entry of a dictionary by its name.
    pub(crate) fn entry(&mut self, dictionary: Dictionary, name: &Plain, nullable: bool) -> Cases {
        if dictionary == Dictionary::Variables {
            return self.variable(name);
        }
        let Some(text) = name.known_text() else { return opaque("what it looks up is not known") };
        match known::entry(dictionary, text) {
            Ok(part) => {
                if part == "deployment" {
                    self.notes.insert(format!("{text:?} of the request is taken to be its deployment"));
                }
                Plain::part(part, nullable).into()
            }
            Err(reason) => opaque(reason),
        }
    }

    fn variable(&mut self, name: &Plain) -> Cases {
        let unknown = |name: &str| {
            opaque(format!(
                "no set-variable of these documents gives the variable {name:?} a value; add the document that does"
            ))
        };
        if let Some(name) = name.known_text() {
            return match self.variables.get(name) {
                Some(variable) => {
                    self.read.extend(&variable.set_by);
                    variable.cases.clone()
                }
                None => unknown(name),
            };
        }
        // A name that a part of the request is in: the variables that it can be.
        let Plain::Text(pieces) = name else { return opaque("the name of a variable is not known") };
        let Some((before, part, after)) = around(pieces) else { return opaque("the name of a variable is not known") };
        let mut names: Vec<(&str, &Variable)> = Vec::new();
        for (name, variable) in self.variables {
            let middle = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            if let Some(middle) = middle.filter(|middle| !middle.is_empty() && !middle.contains('*')) {
                names.push((middle, variable));
            }
        }
        names.sort_by_key(|(name, _)| *name);
        if names.is_empty() {
            return unknown(&crate::value::shown(pieces));
        }
        let mut cases: Cases = Plain::Unset(crate::value::shown(pieces)).into();
        for (name, variable) in names {
            self.read.extend(&variable.set_by);
            let is = Cases::fits(part, name);
            let rest = cases;
            cases = is.then(|is| match is {
                Plain::Bool(true) => variable.cases.clone(),
                _ => rest.clone(),
            });
        }
        cases
    }
}

/// The names of a path, `a.b.c`, and whether a `?.` is in it.
pub(crate) fn path(expr: &Expr) -> Option<(String, bool)> {
    match expr {
        Expr::Name(name) => Some((name.clone(), false)),
        Expr::Member(of, name, nullable) => {
            let (path, before) = path(of)?;
            Some((format!("{path}.{name}"), before || *nullable))
        }
        _ => None,
    }
}

pub(crate) fn joined(pieces: &[Cases]) -> Cases {
    match Cases::all(pieces) {
        Some(all) => Cases::new(all.into_iter().map(|(guard, pieces)| (guard, Plain::joined(pieces))).collect()),
        None => opaque("it has too many cases"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::new();
        for (at, (name, value)) in set.iter().enumerate() {
            let cases = work_out(value, &variables).cases;
            variables.insert((*name).into(), Variable { cases, set_by: BTreeSet::from([at]) });
        }
        variables
    }

    /// Each case in one line, without the unsaid.
    fn said(source: &str, set: &[(&str, &str)]) -> Vec<String> {
        let worked = work_out(source, &variables(set));
        let plain = |plain: &Plain| match plain {
            Plain::Text(pieces) => format!("'{}'", crate::value::shown(pieces)),
            Plain::Opaque(reason) => format!("? {reason}"),
            other => format!("{other:?}"),
        };
        worked
            .cases
            .iter()
            .map(|(guard, value)| match guard.is_always() {
                true => plain(value),
                false => format!("{guard}: {}", plain(value)),
            })
            .collect()
    }

    #[test]
    fn keys() {
        for (source, expected) in [
            ("fixed", "'fixed'"),
            ("@(context.Subscription.Id)", "'{key:subscription}'"),
            ("@(context.Subscription?.Key)", "'{key:subscription-key}'"),
            ("@(context.Request.IpAddress.ToString())", "'{key:ip}'"),
            ("@(context.User.Email + \"/\" + context.Api.Id)", "'{key:user-email}/{key:api}'"),
            ("@($\"{context.Api.Id};{context.Operation.Id}\")", "'{key:api};{key:operation}'"),
            ("@(string.Format(\"{0}-{1}{{\", context.Product.Id, 7))", "'{key:product}-7{'"),
            ("@(String.Concat(context.Subscription.Id,\"tpm\"))", "'{key:subscription}tpm'"),
            ("@(string.Join(\"-\", context.Product.Name, context.User.Id))", "'{key:product-name}-{key:user}'"),
            ("@(context.Request.Headers.GetValueOrDefault(\"X-User\"))", "'{key:header:x-user}'"),
            ("@(context.Request.Headers[\"x-user\"].First())", "'{key:header:x-user}'"),
            ("@(context.Request.Headers[\"x-user\"][0])", "'{key:header:x-user}'"),
            ("@(context.Request.Url.Query.GetValueOrDefault(\"u\"))", "'{key:query:u}'"),
            ("@(context.Request.MatchedParameters[\"deployment-id\"])", "'{deployment}'"),
            ("@((string)context.Request.Foundry.Deployment)", "'{deployment}'"),
            (
                "@(context.Request.Headers.GetValueOrDefault(\"Authorization\",\"\").AsJwt()?.Subject)",
                "'{key:claim:sub}'",
            ),
            (
                "@(context.Request.Headers.GetValueOrDefault(\"Authorization\",\"\").Split(' ')[1].AsJwt()?.Claims.GetValueOrDefault(\"oid\"))",
                "'{key:claim:oid}'",
            ),
            (
                "@(context.Request.Headers.GetValueOrDefault(\"Authorization\",\"\").AsJwt()?.Claims[\"email\"].FirstOrDefault())",
                "'{key:claim:email}'",
            ),
            (
                "@{ var jwt = context.Request.Headers.GetValueOrDefault(\"Authorization\", \"\").Replace(\"Bearer \", \"\"); \
                 var token = jwt.AsJwt(); return token?.Claims.GetValueOrDefault(\"sub\"); }",
                "'{key:claim:sub}'",
            ),
            ("@(\"tpm-\" + (string)context.Variables[\"oid\"])", "'tpm-{key:subscription}'"),
            ("@(context.Variables.GetValueOrDefault<string>(\"oid\"))", "'{key:subscription}'"),
            ("@(context.Variables.GetValueOrDefault(\"oid\", \"none\"))", "'{key:subscription}'"),
            ("@(context.Product.Id.ToLower())", "'{key:product}'"),
        ] {
            assert_eq!(said(source, &[("oid", "@(context.Subscription.Id)")]), [expected], "{source}");
        }
    }

    #[test]
    fn cases() {
        for (source, expected) in [
            (
                "@(context.Subscription?.Id ?? context.Request.IpAddress)",
                &["key:subscription is there: '{key:subscription}'", "key:subscription is absent: '{key:ip}'"][..],
            ),
            (
                "@(context.Request.Headers.GetValueOrDefault(\"x\", \"anon\"))",
                &["key:header:x is there: '{key:header:x}'", "key:header:x is absent: 'anon'"],
            ),
            (
                "@(string.IsNullOrEmpty(context.User.Id) ? \"none\" : context.User.Id)",
                &["key:user is there: '{key:user}'", "key:user is absent: 'none'"],
            ),
            (
                "@(context.User != null ? context.User.Id : context.Request.IpAddress)",
                &["key:user is there: '{key:user}'", "key:user is absent: '{key:ip}'"],
            ),
            (
                "@(context.Product.Name == \"a\" || context.Product.Name.StartsWith(\"b\"))",
                &[
                    "key:product-name is \"a\": Bool(true)",
                    "key:product-name is \"b*\": Bool(true)",
                    "key:product-name is not \"a\" and key:product-name is not \"b*\": Bool(false)",
                ],
            ),
            (
                "@(new [] { \"a\", \"b\" }.Contains(context.Subscription.Id))",
                &[
                    "key:subscription is \"b\": Bool(true)",
                    "key:subscription is \"a\": Bool(true)",
                    "key:subscription is not \"a\" and key:subscription is not \"b\": Bool(false)",
                ],
            ),
            (
                "@(\",a,b,\".Contains(\",\" + context.User.Id + \",\"))",
                &[
                    "key:user is \"b\": Bool(true)",
                    "key:user is \"a\": Bool(true)",
                    "key:user is not \"a\" and key:user is not \"b\": Bool(false)",
                ],
            ),
            (
                "@{ var b = context.Request.Body?.As<JObject>(true); return (b != null && b[\"model\"] != null) ? b[\"model\"].ToString() : \"unknown\"; }",
                &["'{deployment}'"],
            ),
            (
                "@(context.Variables.ContainsKey(\"limit-\" + context.Request.Foundry.Deployment))",
                &[
                    "deployment is \"b\": Bool(true)",
                    "deployment is \"a\": Bool(true)",
                    "deployment is not \"a\" and deployment is not \"b\": Bool(false)",
                ],
            ),
            (
                "@(int.Parse((context.Variables[\"limit-\" + context.Request.Foundry.Deployment] as string) ?? \"0\"))",
                &[
                    "deployment is \"b\": Integer(20)",
                    "deployment is \"a\": Integer(10)",
                    "deployment is not \"a\" and deployment is not \"b\": Integer(0)",
                ],
            ),
            ("@(\"5|Daily\".Split('|').Length > 1 ? \"5|Daily\".Split('|')[1] : null)", &["'Daily'"]),
            (
                "@{ if (context.Api.Id == \"x\") { return 1; } return 2; }",
                &["key:api is \"x\": Integer(1)", "key:api is not \"x\": Integer(2)"],
            ),
        ] {
            let mut said = said(source, &[("limit-a", "10"), ("limit-b", "20")]);
            let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            said.sort();
            expected.sort();
            assert_eq!(said, expected, "{source}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        for (source, reason) in [
            ("@(context.Response.StatusCode == 200)", "it reads the response"),
            ("@(context.User.Groups.Any(g => g.Name == \"a\"))", "context.User.Groups is not known"),
            ("@((string)context.Variables[\"nope\"])", "no set-variable of these documents"),
            ("@(context.Request.Headers.GetValueOrDefault(\"x\").Substring(3))", "only a piece of"),
            ("@(context.Request.Body.As<JObject>()[\"n\"])", "it reads \"n\" in the body"),
            ("@(foo)", "\"foo\" is not known"),
            ("@(1 % 2)", "an operator"),
            ("@{ foreach (var a in b) { } return 1; }", "not understood"),
            ("@(context.Api.Id == \"a*\")", "which no pattern says"),
        ] {
            let said = said(source, &[]);
            assert!(said.iter().any(|line| line.contains(reason)), "{source}: {said:?}");
        }
        let volatile = work_out("@(Guid.NewGuid().ToString())", &Variables::new()).cases;
        assert!(matches!(volatile.sole(), Some(Plain::Volatile(_))), "{volatile:?}");
        let volatile = work_out("@(\"a\" + DateTime.UtcNow.ToString(\"yyyy\"))", &Variables::new()).cases;
        assert!(matches!(volatile.sole(), Some(Plain::Volatile(_))), "{volatile:?}");
    }
}
