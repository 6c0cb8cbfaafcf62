//! Expressions worked out, as far as they can be without a request.

use std::collections::{BTreeSet, HashMap};

use crate::csharp::{self, Expr, Hole, Operator, Statement};
use crate::known;
use crate::value::{Cases, Dictionary, Guard, Piece, Plain};

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

struct Worker<'v> {
    variables: &'v Variables,
    locals: Vec<(String, Cases)>,
    steps: usize,
    read: BTreeSet<usize>,
    notes: BTreeSet<String>,
}

fn opaque(reason: impl Into<String>) -> Cases {
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
    fn eval(&mut self, expr: &Expr) -> Cases {
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

    fn index(&mut self, of: &Plain, key: &Plain) -> Cases {
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
    fn entry(&mut self, dictionary: Dictionary, name: &Plain, nullable: bool) -> Cases {
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
        let (before, part, after) = match pieces.as_slice() {
            [Piece::Part { part, .. }] => ("", part, ""),
            [Piece::Known(before), Piece::Part { part, .. }] => (before.as_str(), part, ""),
            [Piece::Part { part, .. }, Piece::Known(after)] => ("", part, after.as_str()),
            [Piece::Known(before), Piece::Part { part, .. }, Piece::Known(after)] => {
                (before.as_str(), part, after.as_str())
            }
            _ => return opaque("the name of a variable is not known"),
        };
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

    fn call(&mut self, of: &Expr, arguments: &[Expr]) -> Cases {
        let Expr::Member(of, name, _) = of else { return opaque("it calls what is not known") };
        let name = name.as_str();
        if let Some((path, _)) = path(of) {
            match (path.as_str(), name) {
                ("Guid" | "Random" | "System.Guid", _) => return Plain::Volatile(format!("{path}.{name}()")).into(),
                (
                    "string" | "String" | "System.String" | "int" | "Int32" | "long" | "Int64" | "Convert" | "bool",
                    _,
                ) => {
                    let arguments: Vec<Cases> = arguments.iter().map(|argument| self.eval(argument)).collect();
                    return self.static_call(name, &arguments);
                }
                _ => {}
            }
        }
        if name == "AsJwt" {
            // Whatever header the token came from and however its scheme was cut off.
            return Plain::Jwt.into();
        }
        let of = self.eval(of);
        let mut values = Vec::new();
        for argument in arguments {
            // StringComparison.OrdinalIgnoreCase and the like.
            match path(argument) {
                Some((path, _)) if path.starts_with("StringComparison.") || path.starts_with("StringComparer.") => {
                    self.notes.extend(path.ends_with("IgnoreCase").then(|| {
                        "it compares without regard to case; here case counts: send what is matched as it is written here".into()
                    }));
                }
                _ => values.push(self.eval(argument)),
            }
        }
        of.then(|of| self.method(of, name, &values))
    }

    fn static_call(&mut self, name: &str, arguments: &[Cases]) -> Cases {
        match (name, arguments) {
            ("Concat", _) => joined(arguments),
            ("Format", [format, rest @ ..]) => match format.sole().and_then(Plain::known_text) {
                Some(format) => formatted(format, rest),
                None => opaque("the format of string.Format is not known"),
            },
            ("Join", [separator, rest @ ..]) => {
                let mut pieces = Vec::new();
                for (place, piece) in rest.iter().enumerate() {
                    pieces.extend((place > 0).then(|| separator.clone()));
                    pieces.push(piece.clone());
                }
                joined(&pieces)
            }
            ("IsNullOrEmpty" | "IsNullOrWhiteSpace", [of]) => of.then(|plain| {
                exists(plain).then(|exists| match exists {
                    Plain::Bool(exists) => Plain::Bool(!exists).into(),
                    other => other.clone().into(),
                })
            }),
            ("Equals", [left, right, ..]) => left.both(right, equal),
            ("Parse" | "ToInt32" | "ToInt64", [of, ..]) => of.then(parsed),
            ("ToString", [of]) => of.clone(),
            _ => opaque(format!("the call of {name} is not known")),
        }
    }

    fn method(&mut self, of: &Plain, name: &str, arguments: &[Cases]) -> Cases {
        match (of, name, arguments) {
            (Plain::Opaque(_) | Plain::Volatile(_), ..) => of.clone().into(),
            (Plain::Dictionary(dictionary), "GetValueOrDefault", [key, default @ ..]) => {
                let dictionary = *dictionary;
                let default = default.first().cloned();
                let found = key.then(|key| match key {
                    Plain::Opaque(_) | Plain::Volatile(_) => key.clone().into(),
                    _ => self.entry(dictionary, key, true),
                });
                let Some(default) = default else { return found };
                found.then(|plain| match (plain, plain.sole_part()) {
                    (Plain::Unset(_), _) => default.clone(),
                    (_, Some((part, true))) => {
                        Cases::choose(part, "*", Plain::part(part, false), Plain::Null).then(|there| match there {
                            Plain::Null => default.clone(),
                            there => there.clone().into(),
                        })
                    }
                    _ => plain.clone().into(),
                })
            }
            (Plain::Dictionary(dictionary), "ContainsKey", [key]) => {
                let dictionary = *dictionary;
                let found = key.then(|key| self.entry(dictionary, key, true));
                found.then(|plain| match plain {
                    Plain::Unset(_) => Plain::Bool(false).into(),
                    Plain::Opaque(_) | Plain::Volatile(_) if dictionary != Dictionary::Variables => {
                        plain.clone().into()
                    }
                    // A variable that is set to something that is not known is set all the same.
                    Plain::Opaque(reason) if reason.starts_with("no set-variable") => plain.clone().into(),
                    _ if dictionary == Dictionary::Variables => Plain::Bool(true).into(),
                    _ => exists(plain),
                })
            }
            (Plain::Dictionary(Dictionary::Body), "As", _) => of.clone().into(),
            (Plain::Dictionary(Dictionary::Body), "Value" | "SelectToken" | "GetValue", [key, ..]) => {
                key.then(|key| self.entry(Dictionary::Body, key, true))
            }
            (Plain::Null | Plain::Unset(_), ..) => Plain::Null.into(),
            (Plain::List(items), "First" | "FirstOrDefault" | "Last" | "LastOrDefault", []) => {
                let item = if name.starts_with("First") { items.first() } else { items.last() };
                item.map_or_else(|| Plain::Null.into(), |item| Plain::known(item).into())
            }
            (
                _,
                "ToString" | "Trim" | "First" | "FirstOrDefault" | "Single" | "SingleOrDefault" | "ToArray" | "Value",
                [],
            ) => of.clone().into(),
            (_, "Equals", [other]) => other.then(|other| equal(of, other)),
            (Plain::List(items), "Contains", [item]) => item.then(|item| among(items, item)),
            (Plain::List(_), "ElementAt" | "ElementAtOrDefault", [at]) => at.then(|at| self.index(of, at)),
            (Plain::Text(_), _, _) => self.text_method(of, name, arguments),
            _ => opaque(format!("the call of {name} is not known")),
        }
    }

    fn text_method(&mut self, of: &Plain, name: &str, arguments: &[Cases]) -> Cases {
        let argument = arguments.first().and_then(Cases::sole);
        let argument_text = argument.and_then(Plain::known_text);
        if matches!(name, "ToLower" | "ToLowerInvariant" | "ToUpper" | "ToUpperInvariant") {
            let lower = name.starts_with("ToLower");
            let Plain::Text(pieces) = of else { return of.clone().into() };
            let pieces = pieces.iter().map(|piece| match piece {
                Piece::Known(text) => Piece::Known(if lower { text.to_lowercase() } else { text.to_uppercase() }),
                part => part.clone(),
            });
            if of.known_text().is_none() {
                let case = if lower { "lower" } else { "upper" };
                self.notes.insert(format!("{} is used in {case} case: send it so", shown_of(of)));
            }
            return Plain::Text(pieces.collect()).into();
        }
        if let Some(text) = of.known_text() {
            let known = match (name, argument_text) {
                ("Split", Some(separator)) if !separator.is_empty() => {
                    Plain::List(text.split(separator).map(str::to_owned).collect())
                }
                ("Replace", Some(from)) if !from.is_empty() => {
                    match arguments.get(1).and_then(Cases::sole).and_then(Plain::known_text) {
                        Some(to) if text.len() <= 4096 && to.len() <= 256 => Plain::known(text.replace(from, to)),
                        _ => Plain::opaque("it replaces what is not known"),
                    }
                }
                ("Contains", Some(part)) => Plain::Bool(text.contains(part)),
                ("StartsWith", Some(part)) => Plain::Bool(text.starts_with(part)),
                ("EndsWith", Some(part)) => Plain::Bool(text.ends_with(part)),
                // ",a,b,".Contains("," + x + ",")
                ("Contains", None) => {
                    return match argument {
                        Some(Plain::Text(pieces)) => contained(text, pieces),
                        Some(other @ Plain::Opaque(_)) => other.clone().into(),
                        _ => opaque("what it looks for is not known"),
                    };
                }
                _ => Plain::opaque(format!("the call of {name} is not known")),
            };
            return known.into();
        }
        let (Some((part, _)), Some(text)) = (of.sole_part(), argument_text) else {
            return opaque(format!("only a piece of {} is used (by {name})", shown_of(of)));
        };
        if text.is_empty() || text.contains('*') {
            return opaque(format!("{part} is compared with {text:?}, which no pattern says"));
        }
        match name {
            "StartsWith" => Cases::fits(part, &format!("{text}*")),
            "EndsWith" => Cases::fits(part, &format!("*{text}")),
            "Contains" => Cases::fits(part, &format!("*{text}*")),
            _ => opaque(format!("only a piece of {part} is used (by {name})")),
        }
    }
}

fn shown_of(plain: &Plain) -> String {
    match plain {
        Plain::Text(pieces) => crate::value::shown(pieces),
        _ => "a value".into(),
    }
}

/// The names of a path, `a.b.c`, and whether a `?.` is in it.
fn path(expr: &Expr) -> Option<(String, bool)> {
    match expr {
        Expr::Name(name) => Some((name.clone(), false)),
        Expr::Member(of, name, nullable) => {
            let (path, before) = path(of)?;
            Some((format!("{path}.{name}"), before || *nullable))
        }
        _ => None,
    }
}

fn joined(pieces: &[Cases]) -> Cases {
    match Cases::all(pieces) {
        Some(all) => Cases::new(all.into_iter().map(|(guard, pieces)| (guard, Plain::joined(pieces))).collect()),
        None => opaque("it has too many cases"),
    }
}

/// `string.Format`.
fn formatted(format: &str, arguments: &[Cases]) -> Cases {
    let mut pieces: Vec<Cases> = Vec::new();
    let mut rest = format;
    while let Some(found) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(found);
        pieces.push(Plain::known(before).into());
        if from.starts_with("{{") || from.starts_with("}}") {
            pieces.push(Plain::known(&from[..1]).into());
            rest = &from[2..];
            continue;
        }
        let hole = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let argument = hole.and_then(|(number, _)| arguments.get(number.trim().parse::<usize>().ok()?));
        let (Some((_, after)), Some(argument)) = (hole, argument) else {
            return opaque("the format of string.Format has a hole that is not known");
        };
        pieces.push(argument.clone());
        rest = after;
    }
    pieces.push(Plain::known(rest).into());
    joined(&pieces)
}

fn parsed(plain: &Plain) -> Cases {
    match plain {
        Plain::Integer(_) | Plain::Opaque(_) | Plain::Volatile(_) => plain.clone().into(),
        _ => match plain.known_text() {
            Some(text) => match text.trim().parse() {
                Ok(number) => Plain::Integer(number).into(),
                Err(_) => opaque(format!("{text:?} is not a whole number")),
            },
            None => opaque("a number is read from the request"),
        },
    }
}

/// Whether it is neither null nor empty.
fn exists(plain: &Plain) -> Cases {
    match plain {
        Plain::Null | Plain::Unset(_) => Plain::Bool(false).into(),
        Plain::Opaque(_) | Plain::Volatile(_) => plain.clone().into(),
        Plain::Text(pieces) => match (plain.sole_part(), plain.known_text()) {
            (Some((part, _)), _) => Cases::fits(part, "*"),
            (_, Some(text)) => Plain::Bool(!text.trim().is_empty()).into(),
            _ => Plain::Bool(pieces.iter().any(|piece| matches!(piece, Piece::Known(text) if !text.is_empty()))).into(),
        },
        Plain::Object(part) => Cases::fits(part, "*"),
        Plain::Jwt => opaque("whether the caller has a token is not known"),
        _ => Plain::Bool(true).into(),
    }
}

fn equal(left: &Plain, right: &Plain) -> Cases {
    match (left, right) {
        (Plain::Opaque(_), _) => left.clone().into(),
        (_, Plain::Opaque(_)) => right.clone().into(),
        (Plain::Volatile(what), _) | (_, Plain::Volatile(what)) => opaque(format!("it reads {what}")),
        (Plain::Null | Plain::Unset(_), Plain::Null | Plain::Unset(_)) => Plain::Bool(true).into(),
        (Plain::Null | Plain::Unset(_), other) | (other, Plain::Null | Plain::Unset(_)) => match other {
            Plain::Text(_) if other.sole_part().is_none() => Plain::Bool(false).into(),
            _ => exists(other).then(|exists| match exists {
                Plain::Bool(exists) => Plain::Bool(!exists).into(),
                other => other.clone().into(),
            }),
        },
        (Plain::Bool(left), Plain::Bool(right)) => Plain::Bool(left == right).into(),
        (Plain::Integer(left), Plain::Integer(right)) => Plain::Bool(left == right).into(),
        (Plain::Text(pieces), other) | (other, Plain::Text(pieces)) => match (other.known_text(), other) {
            (_, Plain::Text(others)) if pieces == others => Plain::Bool(true).into(),
            (Some(text), _) => fits_text(pieces, text),
            _ => match (left.known_text(), right) {
                (Some(text), Plain::Text(pieces)) => fits_text(pieces, text),
                _ => opaque("it compares parts of the request with one another"),
            },
        },
        _ => opaque("it compares what is not known"),
    }
}

/// Whether a text with at most one part in it is `text`.
fn fits_text(pieces: &[Piece], text: &str) -> Cases {
    let (before, part, after) = match pieces {
        [] => return Plain::Bool(text.is_empty()).into(),
        [Piece::Known(known)] => return Plain::Bool(known == text).into(),
        [Piece::Part { part, .. }] => ("", part, ""),
        [Piece::Known(before), Piece::Part { part, .. }] => (before.as_str(), part, ""),
        [Piece::Part { part, .. }, Piece::Known(after)] => ("", part, after.as_str()),
        [Piece::Known(before), Piece::Part { part, .. }, Piece::Known(after)] => {
            (before.as_str(), part, after.as_str())
        }
        _ => return opaque("it compares several parts of the request at once"),
    };
    match text.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) {
        // A part that is there is never empty.
        None | Some("") => Plain::Bool(false).into(),
        Some(middle) if middle.contains('*') => {
            opaque(format!("{part} is compared with {middle:?}, which no pattern says"))
        }
        Some(middle) => Cases::fits(part, middle),
    }
}

/// Whether it is one of these.
fn among(items: &[String], item: &Plain) -> Cases {
    let mut cases: Cases = Plain::Bool(false).into();
    for one in items {
        let is = equal(item, &Plain::known(one));
        cases = cases.both(&is, |before, is| match (before, is) {
            (Plain::Bool(true), _) => Plain::Bool(true).into(),
            _ => is.clone().into(),
        });
    }
    cases
}

/// `",a,b,".Contains("," + x + ",")`: whether x is one of a list.
fn contained(text: &str, pieces: &[Piece]) -> Cases {
    match pieces {
        [Piece::Known(before), part @ Piece::Part { .. }, Piece::Known(after)]
            if before == after && !before.is_empty() =>
        {
            // What stands before the first separator or behind the last is not between two.
            let mut items: Vec<String> = text.split(before.as_str()).map(str::to_owned).collect();
            items.pop();
            items.drain(..items.len().min(1));
            items.retain(|item| !item.is_empty());
            among(&items, &Plain::Text(vec![part.clone()]))
        }
        _ => opaque("it looks for a part of the request within a text"),
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
