//! Exact words and `*`.
//!
//! A star stands for any run of bytes, also an empty one; every other byte stands for itself. There is no escape: a
//! value that holds a star can be matched by a star only.

use std::fmt;

/// The longest pattern in bytes: what keeps the test for intersection, which is quadratic, short.
pub(super) const MAX_PATTERN: usize = 512;

/// What a value must look like: exact, or with `*` anywhere and any number of times.
///
/// Matching compares bytes and is case-sensitive.
///
/// # Example
/// ```
/// use tokenweir::policy::Pattern;
/// let pattern = Pattern::new("gpt-4*mini");
/// assert!(pattern.matches(b"gpt-4o-mini"));
/// assert!(!pattern.matches(b"gpt-4o"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Runs of stars are one star, so that equal languages written with more stars compare equal.
    text: Box<str>,
    exact: bool,
}

impl Pattern {
    /// A pattern from its text. An empty one matches only the empty value, which no request has.
    pub fn new(text: &str) -> Self {
        let mut normal = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter != '*' || !normal.ends_with('*') {
                normal.push(letter);
            }
        }
        Pattern { exact: !normal.contains('*'), text: normal.into_boxed_str() }
    }

    /// The pattern as written, runs of stars drawn together.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no star, so that it matches one value only.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether `value` fits.
    ///
    /// Takes at most `len(pattern) * len(value)` steps, and no memory: only the last star is ever retried, since
    /// moving an earlier one could not free any byte that the last star cannot reach.
    pub fn matches(&self, value: &[u8]) -> bool {
        let pattern = self.text.as_bytes();
        if self.exact {
            return pattern == value;
        }
        let (mut p, mut v) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while v < value.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, v));
                    p += 1;
                }
                Some(byte) if *byte == value[v] => {
                    p += 1;
                    v += 1;
                }
                _ => match retry {
                    Some((star, taken)) => {
                        retry = Some((star, taken + 1));
                        p = star + 1;
                        v = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }

    /// Whether some value fits both patterns. Exact: no false answers in either direction.
    ///
    /// # Example
    /// ```
    /// use tokenweir::policy::Pattern;
    /// assert!(Pattern::new("a*").can_intersect(&Pattern::new("*b")));
    /// assert!(!Pattern::new("a*").can_intersect(&Pattern::new("b*")));
    /// ```
    pub fn can_intersect(&self, other: &Pattern) -> bool {
        if self.exact {
            return other.matches(self.text.as_bytes());
        }
        if other.exact {
            return self.matches(other.text.as_bytes());
        }
        // reach[j]: some word fits both the first i bytes of `a` and the first j bytes of `b`.
        let (a, b) = (self.text.as_bytes(), other.text.as_bytes());
        let mut reach = vec![false; b.len() + 1];
        for i in 0..=a.len() {
            let mut next = vec![false; b.len() + 1];
            for j in 0..=b.len() {
                let left = i.checked_sub(1).map(|i| a[i]);
                let up = j.checked_sub(1).map(|j| b[j]);
                next[j] = (i == 0 && j == 0)
                    // The last of `a` is a star that takes nothing, or is taken by the star that is the last of `b`.
                    || (i > 0 && reach[j] && (left == Some(b'*') || up == Some(b'*')))
                    // And the other way round.
                    || (j > 0 && next[j - 1] && (up == Some(b'*') || left == Some(b'*')))
                    || (i > 0 && j > 0 && reach[j - 1] && left == up);
            }
            reach = next;
        }
        reach[b.len()]
    }

    /// The order of precedence between patterns that fit the same value: exact first, then the longer one.
    pub(super) fn rank(&self) -> (bool, usize) {
        (self.exact, self.text.len())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_words_and_stars() {
        for (pattern, value, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("*aab", "aaaab", true),
            ("a**b", "ab", true),
            ("**", "", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(value.as_bytes()), expected, "{pattern} {value}");
        }
        assert!(Pattern::new("a*").matches(b"a\xff\0"));
    }

    #[test]
    fn equal_languages_compare_equal() {
        assert_eq!(Pattern::new("a**b***"), Pattern::new("a*b*"));
        assert!(Pattern::new("ab").is_exact());
        assert!(!Pattern::new("*").is_exact());
    }

    #[test]
    fn stars_do_not_blow_up() {
        let pattern = Pattern::new(&format!("{}b", "*a".repeat(500)));
        assert!(!pattern.matches(&[b'a'; 20_000]));
    }

    #[test]
    fn intersections() {
        for (a, b, expected) in [
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("*a*", "*b*", true),
            ("a*c", "ab*", true),
            ("ab*", "a*c", true),
            ("*ab", "*ba", false),
            ("a*b", "a", false),
            ("x", "x", true),
            ("x", "y", false),
            ("*", "*", true),
            ("a*a", "*b*c", false),
        ] {
            assert_eq!(Pattern::new(a).can_intersect(&Pattern::new(b)), expected, "{a} {b}");
            assert_eq!(Pattern::new(b).can_intersect(&Pattern::new(a)), expected, "{b} {a}");
        }
    }

    /// Matching by trying every length for every star: slow and plainly right.
    fn matches_plainly(pattern: &[u8], value: &[u8]) -> bool {
        match pattern.split_first() {
            None => value.is_empty(),
            Some((b'*', rest)) => (0..=value.len()).any(|taken| matches_plainly(rest, &value[taken..])),
            Some((byte, rest)) => value.first() == Some(byte) && matches_plainly(rest, &value[1..]),
        }
    }

    /// Every word over {a, b} of up to 7 letters: enough to witness the intersection of two short patterns.
    fn words() -> Vec<Vec<u8>> {
        let mut words = vec![vec![]];
        let mut last = words.clone();
        for _ in 0..7 {
            last =
                last.iter().flat_map(|word| [b'a', b'b'].map(|letter| [word.as_slice(), &[letter]].concat())).collect();
            words.extend(last.iter().cloned());
        }
        words
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_plain_definition(pattern in "[ab*]{0,7}", value in "[ab]{0,9}") {
            prop_assert_eq!(
                Pattern::new(&pattern).matches(value.as_bytes()),
                matches_plainly(pattern.as_bytes(), value.as_bytes())
            );
        }

        #[test]
        fn intersection_agrees_with_enumeration(a in "[ab*]{0,4}", b in "[ab*]{0,3}") {
            let (first, second) = (Pattern::new(&a), Pattern::new(&b));
            let witnessed = words().iter().any(|word| first.matches(word) && second.matches(word));
            prop_assert_eq!(first.can_intersect(&second), witnessed, "{} {}", a, b);
        }
    }
}
