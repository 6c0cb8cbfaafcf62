//! Tokens of C#.

/// How deep interpolated strings may be nested.
const MAX_DEPTH: usize = 16;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Name(String),
    Text(String),
    /// The pieces of an interpolated string: text, and the source of what stands in braces.
    Interpolated(Vec<Piece>),
    Integer(i128),
    /// A number with a fraction or exponent.
    Fraction,
    /// Brackets and operators.
    Mark(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    Hole(String),
}

/// Longest first, so that `??` is not read as two.
const MARKS: &[&str] = &[
    "??=", "=>", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "?[", "++", "--", "+=", "-=", "*=", "/=", "(", ")",
    "[", "]", "{", "}", ".", ",", ";", ":", "?", "<", ">", "+", "-", "*", "/", "%", "!", "=", "&", "|", "^", "~",
];

/// The tokens of `source`.
///
/// # Errors
/// A letter that begins none, or a string without an end.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let letters: Vec<char> = source.chars().collect();
    let mut lexer = Lexer { letters: &letters, at: 0, depth: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'l> {
    letters: &'l [char],
    at: usize,
    /// In how many interpolated strings it is: strings in their holes recurse.
    depth: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek(0)?;
        self.at += 1;
        Some(letter)
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, letter)| self.peek(ahead) == Some(letter))
    }

    fn skip_space(&mut self) -> Result<(), String> {
        loop {
            if self.peek(0).is_some_and(char::is_whitespace) {
                self.at += 1;
            } else if self.starts_with("//") {
                while self.next().is_some_and(|letter| letter != '\n') {}
            } else if self.starts_with("/*") {
                self.at += 2;
                while !self.starts_with("*/") {
                    self.next().ok_or("a comment is not closed")?;
                }
                self.at += 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Option<Token>, String> {
        self.skip_space()?;
        let Some(letter) = self.peek(0) else { return Ok(None) };
        if let Some(token) = self.quoted(letter)? {
            return Ok(Some(token));
        }
        if letter.is_alphabetic() || letter == '_' || letter == '@' {
            self.at += 1;
            let mut name = String::new();
            name.extend((letter != '@').then_some(letter));
            while let Some(letter) = self.peek(0).filter(|letter| letter.is_alphanumeric() || *letter == '_') {
                name.push(letter);
                self.at += 1;
            }
            return Ok(Some(Token::Name(name)));
        }
        if letter.is_ascii_digit() {
            return Ok(Some(self.number()));
        }
        for mark in MARKS {
            if self.starts_with(mark) {
                self.at += mark.chars().count();
                return Ok(Some(Token::Mark(mark)));
            }
        }
        Err(format!("{letter:?} is not C#"))
    }

    fn number(&mut self) -> Token {
        let mut digits = String::new();
        while let Some(letter) = self.peek(0).filter(|letter| letter.is_ascii_digit() || *letter == '_') {
            digits.extend((letter != '_').then_some(letter));
            self.at += 1;
        }
        let mut whole = true;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|letter| letter.is_ascii_digit()) {
            whole = false;
            self.at += 1;
        }
        while let Some(letter) = self.peek(0).filter(char::is_ascii_alphanumeric) {
            whole &= "lLuU".contains(letter);
            self.at += 1;
        }
        match digits.parse() {
            Ok(number) if whole => Token::Integer(number),
            _ => Token::Fraction,
        }
    }

    /// A string or character, if one begins here.
    fn quoted(&mut self, letter: char) -> Result<Option<Token>, String> {
        let prefix: String =
            self.letters[self.at..].iter().take_while(|letter| "@$".contains(**letter)).take(2).collect();
        let quote = self.peek(prefix.len());
        if quote == Some('"') && (!prefix.is_empty() || letter == '"') {
            self.at += prefix.len() + 1;
            let verbatim = prefix.contains('@');
            return Ok(Some(match prefix.contains('$') {
                true => Token::Interpolated(self.interpolated(verbatim)?),
                false => Token::Text(self.text('"', verbatim)?),
            }));
        }
        if letter == '\'' {
            self.at += 1;
            return Ok(Some(Token::Text(self.text('\'', false)?)));
        }
        Ok(None)
    }

    fn text(&mut self, quote: char, verbatim: bool) -> Result<String, String> {
        let mut text = String::new();
        loop {
            let letter = self.next().ok_or("a string is not closed")?;
            if letter == '\\' && !verbatim {
                text.push(self.escaped()?);
            } else if letter != quote {
                text.push(letter);
            } else if verbatim && self.peek(0) == Some(quote) {
                self.at += 1;
                text.push(quote);
            } else {
                return Ok(text);
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let letter = self.next().ok_or("a string is not closed")?;
        Ok(match letter {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'u' => {
                let digits: String = self.letters[self.at..].iter().take(4).collect();
                self.at += digits.chars().count();
                u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).ok_or("a \\u without four digits")?
            }
            letter => letter,
        })
    }

    /// After the opening quote.
    fn interpolated(&mut self, verbatim: bool) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        loop {
            let letter = self.next().ok_or("a string is not closed")?;
            match letter {
                '"' if verbatim && self.peek(0) == Some('"') => {
                    self.at += 1;
                    text.push('"');
                }
                '"' => {
                    pieces.extend((!text.is_empty()).then_some(Piece::Text(text)));
                    return Ok(pieces);
                }
                '{' | '}' if self.peek(0) == Some(letter) => {
                    self.at += 1;
                    text.push(letter);
                }
                '{' => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Hole(self.hole()?));
                }
                '\\' if !verbatim => text.push(self.escaped()?),
                _ => text.push(letter),
            }
        }
    }

    /// The source of an expression up to the brace that closes it.
    fn hole(&mut self) -> Result<String, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("interpolated strings are nested more than {MAX_DEPTH} deep"));
        }
        let start = self.at;
        let mut depth = 0usize;
        loop {
            self.skip_space()?;
            let letter = self.peek(0).ok_or("an interpolated string is not closed")?;
            if self.quoted(letter)?.is_some() {
                continue;
            }
            self.at += 1;
            match letter {
                '{' | '(' | '[' => depth += 1,
                '}' if depth == 0 => {
                    self.depth -= 1;
                    return Ok(self.letters[start..self.at - 1].iter().collect());
                }
                '}' | ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_kind() {
        let text = |text: &str| Token::Text(text.into());
        for (source, expected) in [
            (r#""a\"\u0041\n""#, text("a\"A\n")),
            (r#"@"a\""b""#, text("a\\\"b")),
            ("'x'", text("x")),
            (r"'\''", text("'")),
            (
                r#"$"a{b["}"]}{{c}}""#,
                Token::Interpolated(vec![
                    Piece::Text("a".into()),
                    Piece::Hole("b[\"}\"]".into()),
                    Piece::Text("{c}".into()),
                ]),
            ),
            (r#"@$"\{b}""#, Token::Interpolated(vec![Piece::Text("\\".into()), Piece::Hole("b".into())])),
        ] {
            assert_eq!(tokens(source).unwrap(), [expected], "{source}");
        }
        for source in ["\"a", "'a", "$\"{a", "$\"{a\"", "@\"a\"\"", "/*", "#", "\"\\u12\""] {
            assert!(tokens(source).is_err(), "{source}");
        }
    }

    #[test]
    fn numbers_and_marks() {
        let source = "1_000L+2.5 a?.b??c // d\n /* e */ >=";
        let expected = [
            Token::Integer(1000),
            Token::Mark("+"),
            Token::Fraction,
            Token::Name("a".into()),
            Token::Mark("?."),
            Token::Name("b".into()),
            Token::Mark("??"),
            Token::Name("c".into()),
            Token::Mark(">="),
        ];
        assert_eq!(tokens(source).unwrap(), expected);
    }
}
