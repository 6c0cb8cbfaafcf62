//! What an expression is worth, case by case.
//!
//! A policy is read without a request at hand. What a request decides stays open: a value is a list of cases, each
//! guarded by what the request must look like. The guards of a value exclude one another and together cover every
//! request.

use std::fmt::{self, Write as _};

use tokenweir::policy::Pattern;

/// The most cases that a value may have.
const MAX_CASES: usize = 96;

/// A part of a request fits a pattern, or does not.
///
/// A part is `deployment`, `project` or `key:` and a name, as policies write it. What is absent fits nothing, `*`
/// included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Literal {
    pub(crate) part: String,
    pub(crate) pattern: String,
    pub(crate) fits: bool,
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Literal { part, pattern, fits } = self;
        match (pattern.as_str(), fits) {
            ("*", true) => write!(f, "{part} is there"),
            ("*", false) => write!(f, "{part} is absent"),
            (_, true) => write!(f, "{part} is {pattern:?}"),
            (_, false) => write!(f, "{part} is not {pattern:?}"),
        }
    }
}

/// What a request must look like: all of its literals hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Guard(Vec<Literal>);

impl Guard {
    pub(crate) fn literals(&self) -> &[Literal] {
        &self.0
    }

    pub(crate) fn is_always(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn of(part: &str, pattern: &str, fits: bool) -> Option<Guard> {
        let literal = Literal { part: part.to_owned(), pattern: pattern.to_owned(), fits };
        simplified(vec![literal]).map(Guard)
    }

    /// Both; `None` where no request fits both.
    pub(crate) fn and(&self, other: &Guard) -> Option<Guard> {
        if self.is_always() || self == other {
            return Some(other.clone());
        }
        if other.is_always() {
            return Some(self.clone());
        }
        simplified(self.0.iter().chain(&other.0).cloned().collect()).map(Guard)
    }

    /// One guard for both, where they differ in one literal that holds in one and not in the other.
    pub(crate) fn union(&self, other: &Guard) -> Option<Guard> {
        self.0.iter().find_map(|literal| {
            let rest = self.0.iter().filter(|other| *other != literal).cloned().collect();
            let rest = simplified(rest).map(Guard)?;
            let not = Guard::of(&literal.part, &literal.pattern, !literal.fits)?;
            (rest.and(&not).as_ref() == Some(other)).then_some(rest)
        })
    }

    /// What does not fit it, in guards that exclude one another.
    pub(crate) fn complement(&self) -> Vec<Guard> {
        let mut before = Guard::default();
        let mut complement = Vec::new();
        for literal in &self.0 {
            let of = |fits| Guard::of(&literal.part, &literal.pattern, fits).and_then(|guard| before.and(&guard));
            complement.extend(of(!literal.fits));
            match of(literal.fits) {
                Some(next) => before = next,
                None => break,
            }
        }
        complement
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, literal) in self.0.iter().enumerate() {
            write!(f, "{}{literal}", if place > 0 { " and " } else { "" })?;
        }
        Ok(())
    }
}

/// Literals without what others say already; `None` where they contradict one another.
fn simplified(mut literals: Vec<Literal>) -> Option<Vec<Literal>> {
    literals.sort();
    literals.dedup();
    let mut kept: Vec<Literal> = Vec::new();
    for of_part in literals.chunk_by(|a, b| a.part == b.part) {
        let part = of_part.first()?.part.clone();
        let (yes, no): (Vec<&Literal>, Vec<&Literal>) = of_part.iter().partition(|literal| literal.fits);
        let patterns =
            |literals: &[&Literal]| literals.iter().map(|one| Pattern::new(&one.pattern)).collect::<Vec<_>>();
        let (mut yes, mut no) = (patterns(&yes), patterns(&no));
        let any = Pattern::new("*");
        // Every request has these two.
        let always = matches!(part.as_str(), "deployment" | "project");
        if no.contains(&any) {
            if always || !yes.is_empty() {
                return None;
            }
            no = vec![any.clone()];
        }
        if always || yes.len() > 1 {
            yes.retain(|pattern| *pattern != any);
        }
        for (place, one) in yes.iter().enumerate() {
            if yes[..place].iter().any(|other| !one.can_intersect(other)) {
                return None;
            }
        }
        if let Some(exact) = yes.iter().find(|pattern| pattern.is_exact()).cloned() {
            yes = vec![exact];
        }
        let within =
            |one: &Pattern, other: &Pattern| one == other || (one.is_exact() && other.matches(one.as_str().as_bytes()));
        if no.iter().any(|not| yes.iter().any(|one| within(one, not))) {
            return None;
        }
        no.retain(|not| yes.iter().all(|one| one.can_intersect(not)));
        let literal =
            |pattern: &Pattern, fits| Literal { part: part.clone(), pattern: pattern.as_str().to_owned(), fits };
        kept.extend(no.iter().map(|pattern| literal(pattern, false)));
        kept.extend(yes.iter().map(|pattern| literal(pattern, true)));
    }
    kept.sort();
    Some(kept)
}

/// A value without cases.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Integer(i128),
    Text(Vec<Piece>),
    /// Texts that the documents themselves hold.
    List(Vec<String>),
    /// Something of the request that is there if this part is.
    Object(&'static str),
    Jwt,
    Dictionary(Dictionary),
    /// A variable that is not set in this case.
    Unset(String),
    /// Not known here; why.
    Opaque(String),
    /// Another one for each request; what it is.
    Volatile(String),
}

/// A piece of a text: known, or a part of the request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Known(String),
    Part {
        part: String,
        /// Null where the request does not have it.
        nullable: bool,
    },
}

/// What is looked into by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dictionary {
    Headers,
    Query,
    Parameters,
    Claims,
    Variables,
    /// The body as JSON.
    Body,
}

impl Plain {
    pub(crate) fn known(text: impl Into<String>) -> Plain {
        Plain::Text(vec![Piece::Known(text.into())])
    }

    pub(crate) fn part(part: impl Into<String>, nullable: bool) -> Plain {
        Plain::Text(vec![Piece::Part { part: part.into(), nullable }])
    }

    pub(crate) fn opaque(reason: impl Into<String>) -> Plain {
        Plain::Opaque(reason.into())
    }

    /// The text, if no part of a request is in it.
    pub(crate) fn known_text(&self) -> Option<&str> {
        match self {
            Plain::Text(pieces) => match pieces.as_slice() {
                [] => Some(""),
                [Piece::Known(text)] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// The part, if it is one and nothing else.
    pub(crate) fn sole_part(&self) -> Option<(&str, bool)> {
        match self {
            Plain::Text(pieces) => match pieces.as_slice() {
                [Piece::Part { part, nullable }] => Some((part, *nullable)),
                _ => None,
            },
            _ => None,
        }
    }

    /// As a piece of a longer text; null is nothing.
    pub(crate) fn into_pieces(self) -> Result<Vec<Piece>, Plain> {
        match self {
            Plain::Null | Plain::Unset(_) => Ok(Vec::new()),
            Plain::Bool(value) => Ok(vec![Piece::Known(if value { "True" } else { "False" }.into())]),
            Plain::Integer(number) => Ok(vec![Piece::Known(number.to_string())]),
            Plain::Text(pieces) => Ok(pieces),
            Plain::Opaque(_) | Plain::Volatile(_) => Err(self),
            Plain::List(_) | Plain::Object(_) | Plain::Jwt | Plain::Dictionary(_) => {
                Err(Plain::opaque("an object stands where a text is wanted"))
            }
        }
    }

    /// Texts one after the other.
    pub(crate) fn joined(values: impl IntoIterator<Item = Plain>) -> Plain {
        let mut joined: Vec<Piece> = Vec::new();
        for value in values {
            let pieces = match value.into_pieces() {
                Ok(pieces) => pieces,
                Err(other) => return other,
            };
            for piece in pieces {
                match (joined.last_mut(), piece) {
                    (Some(Piece::Known(last)), Piece::Known(text)) => last.push_str(&text),
                    (_, piece) => joined.push(piece),
                }
            }
        }
        Plain::Text(joined)
    }
}

/// A text with one part in it: what stands before it, the part, and what stands behind.
pub(crate) fn around(pieces: &[Piece]) -> Option<(&str, &str, &str)> {
    match pieces {
        [Piece::Part { part, .. }] => Some(("", part, "")),
        [Piece::Known(before), Piece::Part { part, .. }] => Some((before, part, "")),
        [Piece::Part { part, .. }, Piece::Known(after)] => Some(("", part, after)),
        [Piece::Known(before), Piece::Part { part, .. }, Piece::Known(after)] => Some((before, part, after)),
        _ => None,
    }
}

/// A text as it is shown: parts in braces.
pub(crate) fn shown(pieces: &[Piece]) -> String {
    let mut shown = String::new();
    for piece in pieces {
        let _ = match piece {
            Piece::Known(text) => write!(shown, "{text}"),
            Piece::Part { part, .. } => write!(shown, "{{{part}}}"),
        };
    }
    shown
}

/// A value: what it is in each case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cases(Vec<(Guard, Plain)>);

impl From<Plain> for Cases {
    fn from(plain: Plain) -> Self {
        Cases(vec![(Guard::default(), plain)])
    }
}

impl Cases {
    /// Of cases that exclude one another and cover every request.
    pub(crate) fn new(mut cases: Vec<(Guard, Plain)>) -> Self {
        if cases.len() > MAX_CASES {
            return Plain::opaque(format!("it has more than {MAX_CASES} cases")).into();
        }
        match cases.split_first() {
            None => Plain::opaque("no request comes to it").into(),
            // The cases cover everything, so what all of them say holds always.
            Some(((_, first), others)) if others.iter().all(|(_, other)| other == first) => {
                let (_, plain) = cases.swap_remove(0);
                plain.into()
            }
            Some(_) => Cases(cases),
        }
    }

    /// Whether the part fits the pattern.
    pub(crate) fn fits(part: &str, pattern: &str) -> Self {
        Cases::choose(part, pattern, Plain::Bool(true), Plain::Bool(false))
    }

    /// One value where the part fits the pattern, another elsewhere.
    pub(crate) fn choose(part: &str, pattern: &str, yes: Plain, no: Plain) -> Self {
        if pattern.len() > 512 {
            return Plain::opaque("it is compared with a text of more than 512 bytes").into();
        }
        let case = |fits, plain| Guard::of(part, pattern, fits).map(|guard| (guard, plain));
        Cases::new([case(true, yes), case(false, no)].into_iter().flatten().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Guard, &Plain)> {
        self.0.iter().map(|(guard, plain)| (guard, plain))
    }

    /// The value of every request alike.
    pub(crate) fn sole(&self) -> Option<&Plain> {
        match self.0.as_slice() {
            [(_, plain)] => Some(plain),
            _ => None,
        }
    }

    /// What `f` makes of each case.
    pub(crate) fn then(&self, mut f: impl FnMut(&Plain) -> Cases) -> Cases {
        let mut cases = Vec::new();
        for (guard, plain) in self.iter() {
            for (inner, plain) in f(plain).0 {
                cases.extend(guard.and(&inner).map(|guard| (guard, plain)));
            }
            if cases.len() > MAX_CASES {
                break;
            }
        }
        Cases::new(cases)
    }

    /// What `f` makes of each case of both.
    pub(crate) fn both(&self, other: &Cases, mut f: impl FnMut(&Plain, &Plain) -> Cases) -> Cases {
        self.then(|left| other.then(|right| f(left, right)))
    }

    /// Several values as lists of their cases.
    pub(crate) fn all(values: &[Cases]) -> Option<Vec<(Guard, Vec<Plain>)>> {
        let mut all = vec![(Guard::default(), Vec::new())];
        for value in values {
            let mut next = Vec::new();
            for (guard, list) in &all {
                for (inner, plain) in value.iter() {
                    if let Some(guard) = guard.and(inner) {
                        next.push((guard, list.iter().cloned().chain([plain.clone()]).collect::<Vec<_>>()));
                    }
                }
            }
            if next.len() > MAX_CASES {
                return None;
            }
            all = next;
        }
        Some(all)
    }

    /// The cases that a request which fits `guard` can be in.
    pub(crate) fn under(&self, guard: &Guard) -> Cases {
        Cases::new(self.iter().filter_map(|(own, plain)| guard.and(own).map(|both| (both, plain.clone()))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(literals: &[(&str, &str, bool)]) -> Option<Guard> {
        literals
            .iter()
            .try_fold(Guard::default(), |all, (part, pattern, fits)| all.and(&Guard::of(part, pattern, *fits)?))
    }

    #[test]
    fn guards_say_nothing_twice() {
        let said = |literals: &[(&str, &str, bool)]| guard(literals).map(|guard| guard.to_string());
        let a = "key:a";
        for (literals, expected) in [
            (&[(a, "x", true), (a, "y", true)][..], None),
            (&[(a, "x", true), (a, "x", false)], None),
            (&[(a, "x*", false), (a, "xy", true)], None),
            (&[(a, "*", false), (a, "x", true)], None),
            (&[("deployment", "*", false)], None),
            (&[("deployment", "*", true)], Some("")),
            (&[(a, "x", true), (a, "y", false)], Some("key:a is \"x\"")),
            (&[(a, "*", true), (a, "x", true)], Some("key:a is \"x\"")),
            (&[(a, "*", false), (a, "x", false)], Some("key:a is absent")),
            (&[(a, "*", true), (a, "x", false)], Some("key:a is not \"x\" and key:a is there")),
            (&[(a, "x*", true), (a, "xy", false)], Some("key:a is \"x*\" and key:a is not \"xy\"")),
            (&[(a, "x*", true), (a, "y*", true)], None),
        ] {
            let expected: Option<Vec<&str>> = expected.map(|text| text.split(" and ").collect());
            let found = said(literals);
            let mut found: Option<Vec<&str>> = found.as_deref().map(|text| text.split(" and ").collect());
            if let Some(found) = &mut found {
                found.sort_unstable();
            }
            let expected = expected.map(|mut expected| {
                expected.sort_unstable();
                expected
            });
            assert_eq!(found, expected, "{literals:?}");
        }
    }

    #[test]
    fn complements_cover_the_rest_once() {
        let both = guard(&[("key:a", "x", true), ("key:b", "y", true)]).unwrap();
        let complement = both.complement();
        assert_eq!(complement.len(), 2);
        assert_eq!(complement[0].and(&complement[1]), None);
        assert!(complement.iter().all(|one| one.and(&both).is_none()));
        assert!(Guard::default().complement().is_empty());
    }

    #[test]
    fn unions_leave_out_what_does_not_matter() {
        let (a, not_a) = (guard(&[("key:a", "x", true)]).unwrap(), guard(&[("key:a", "x", false)]).unwrap());
        assert_eq!(a.union(&not_a), Some(Guard::default()));
        // `b, or neither a nor b` is `not a`.
        let (b, neither) =
            (guard(&[("key:a", "b", true)]).unwrap(), guard(&[("key:a", "x", false), ("key:a", "b", false)]).unwrap());
        assert_eq!(neither.union(&b), Some(not_a.clone()));
        assert_eq!(a.union(&b), None);
    }

    #[test]
    fn cases_that_agree_are_one() {
        let value = Cases::fits("key:a", "x").then(|_| Plain::Integer(1).into());
        assert_eq!(value.sole(), Some(&Plain::Integer(1)));
        let value = Cases::fits("key:a", "x").both(&Cases::fits("key:a", "y"), |a, b| Plain::Bool(a == b).into());
        assert_eq!(value.iter().count(), 3);
        let mut many = Cases::from(Plain::Integer(0));
        for number in 0..200 {
            many = many.both(&Cases::fits("key:a", &number.to_string()), |a, b| match (a, b) {
                (Plain::Integer(sum), Plain::Bool(true)) => Plain::Integer(sum + number).into(),
                _ => a.clone().into(),
            });
        }
        assert!(matches!(many.sole(), Some(Plain::Opaque(reason)) if reason.contains("more than 96 cases")));
    }
}
