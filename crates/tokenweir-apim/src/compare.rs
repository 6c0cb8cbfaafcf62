//! Comparisons: of what is known at once, of parts of a request case by case.

use crate::eval::opaque;
use crate::value::{Cases, Piece, Plain, around};

/// Whether it is neither null nor empty.
pub(crate) fn exists(plain: &Plain) -> Cases {
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

pub(crate) fn equal(left: &Plain, right: &Plain) -> Cases {
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
    match pieces {
        [] => return Plain::Bool(text.is_empty()).into(),
        [Piece::Known(known)] => return Plain::Bool(known == text).into(),
        _ => {}
    }
    let Some((before, part, after)) = around(pieces) else {
        return opaque("it compares several parts of the request at once");
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
pub(crate) fn among(items: &[String], item: &Plain) -> Cases {
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
pub(crate) fn contained(text: &str, pieces: &[Piece]) -> Cases {
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
