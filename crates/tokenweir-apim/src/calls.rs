//! Calls that policies make: of strings, dictionaries and numbers.

use crate::compare::{among, contained, equal, exists};
use crate::csharp::Expr;
use crate::eval::{Worker, joined, opaque, path};
use crate::value::{Cases, Dictionary, Piece, Plain};

impl Worker<'_> {
    pub(crate) fn call(&mut self, of: &Expr, arguments: &[Expr]) -> Cases {
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
