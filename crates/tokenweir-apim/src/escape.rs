//! Makes a policy document well-formed XML, and remembers where everything stood.
//!
//! API Management lets expressions stand in attributes and text as they are: quotes, `<` and `&&` included. Where an
//! expression ends only C# can tell, so the scanner knows its strings, characters, comments and brackets. What it finds
//! in an expression it writes as entities; an XML parser does the rest. Comments are left out.
//!
//! Everything that could make an XML parser do too much work is refused here: document types (and with them entities),
//! depth, size, and the number of elements and attributes.

/// The longest document in bytes: four times what API Management takes.
const MAX_BYTES: usize = 1 << 20;
/// How deep elements may be nested.
const MAX_DEPTH: usize = 64;
/// The most elements of a document.
const MAX_ELEMENTS: usize = 20_000;
/// The most attributes of an element: an XML parser compares each with each.
const MAX_ATTRIBUTES: usize = 64;
/// How deep brackets and interpolated strings of an expression may be nested.
const MAX_BRACKETS: usize = 256;

/// What is wrong with the text of a document, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Byte offset in the document.
    pub(crate) at: usize,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

fn fault<T>(at: usize, message: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, message: message.into(), remedy: remedy.into() })
}

/// Well-formed text, and which part of it comes from where.
#[derive(Debug)]
pub(crate) struct Escaped {
    pub(crate) text: String,
    /// Places of `text` with the offsets in the document that they come from; in between both count alike.
    marks: Vec<(usize, usize)>,
}

impl Escaped {
    /// The offset in the document of the byte of `text` at `at`.
    pub(crate) fn origin(&self, at: usize) -> usize {
        let next = self.marks.partition_point(|(to, _)| *to <= at);
        let (to, from) = next.checked_sub(1).map_or((0, 0), |mark| self.marks[mark]);
        from + (at - to)
    }
}

/// Reads a document.
pub(crate) fn escape(source: &str) -> Result<Escaped, Fault> {
    if source.len() > MAX_BYTES {
        let message = format!("the document is {} bytes long", source.len());
        return fault(0, message, format!("keep it within {MAX_BYTES} bytes"));
    }
    let body = if source.starts_with('\u{feff}') { 3 } else { 0 };
    let mut scanner = Scanner { source, out: String::with_capacity(source.len() * 9 / 8), marks: Vec::new(), at: body };
    scanner.document()?;
    Ok(Escaped { text: scanner.out, marks: scanner.marks })
}

struct Scanner<'s> {
    source: &'s str,
    out: String,
    marks: Vec<(usize, usize)>,
    at: usize,
}

/// What an open bracket or interpolated string waits for.
enum Open {
    Bracket(char),
    Interpolated { verbatim: bool },
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn mark(&mut self, from: usize) {
        let (to, origin) = self.marks.last().copied().unwrap_or((0, 0));
        if origin + (self.out.len() - to) != from {
            self.marks.push((self.out.len(), from));
        }
    }

    /// Copies the source up to `end` as it is.
    fn copy_to(&mut self, end: usize) {
        self.mark(self.at);
        self.out.push_str(&self.source[self.at..end]);
        self.at = end;
    }

    /// Writes `text` for what stands from here to `end`.
    fn replace_to(&mut self, end: usize, text: &str) {
        self.mark(self.at);
        self.out.push_str(text);
        self.at = end;
    }

    fn copy_char(&mut self) {
        if let Some(letter) = self.peek() {
            self.copy_to(self.at + letter.len_utf8());
        }
    }

    fn skip_space(&mut self) {
        let space = self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.copy_to(self.at + space);
    }

    /// The end of what `close` closes, from here on.
    fn closing(&self, close: &str, what: &str) -> Result<usize, Fault> {
        match self.rest().find(close) {
            Some(found) => Ok(self.at + found + close.len()),
            None => fault(self.at, format!("{what} is not closed"), format!("close it with {close}")),
        }
    }

    fn document(&mut self) -> Result<(), Fault> {
        let (mut depth, mut elements) = (0usize, 0usize);
        // Whether only space has been seen since the last tag: an expression begins its text.
        let mut fresh = true;
        while let Some(letter) = self.peek() {
            let rest = self.rest();
            if rest.starts_with("<!--") {
                let end = self.closing("-->", "a comment")?;
                self.at = end;
            } else if rest.starts_with("<![CDATA[") {
                let end = self.closing("]]>", "a CDATA section")?;
                self.copy_to(end);
                fresh = false;
            } else if rest.starts_with("<?") {
                let end = self.closing("?>", "a processing instruction")?;
                self.copy_to(end);
            } else if rest.starts_with("<!") {
                return fault(
                    self.at,
                    "the document declares a document type or entities",
                    "remove the declaration: API Management takes none, and entities can be made to grow without end",
                );
            } else if rest.starts_with("</") {
                let end = self.closing(">", "an end tag")?;
                self.copy_to(end);
                depth = depth.saturating_sub(1);
                fresh = true;
            } else if letter == '<' && rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') {
                let start = self.at;
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return fault(start, format!("there are more than {MAX_ELEMENTS} elements"), "split the document");
                }
                if self.tag()? {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        let message = format!("elements are nested more than {MAX_DEPTH} deep");
                        return fault(start, message, "nest them less");
                    }
                }
                fresh = true;
            } else if fresh && (rest.starts_with("@(") || rest.starts_with("@{")) {
                self.expression(false)?;
                fresh = false;
            } else {
                fresh &= letter.is_whitespace();
                self.plain()?;
            }
        }
        Ok(())
    }

    /// A start tag. Whether it stays open.
    fn tag(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        let name = self.rest()[1..].find(|c: char| c.is_whitespace() || "/>=\"'<".contains(c));
        self.copy_to(name.map_or(self.source.len(), |length| start + 1 + length));
        let mut attributes = 0;
        loop {
            self.skip_space();
            if self.rest().starts_with("/>") {
                self.copy_to(self.at + 2);
                return Ok(false);
            }
            match self.peek() {
                None | Some('<') => return fault(start, "a start tag is not closed", "close it with > or />"),
                Some('>') => {
                    self.copy_char();
                    return Ok(true);
                }
                Some(quote @ ('"' | '\'')) => {
                    attributes += 1;
                    if attributes > MAX_ATTRIBUTES {
                        let message = format!("an element has more than {MAX_ATTRIBUTES} attributes");
                        return fault(start, message, "remove some");
                    }
                    self.value(quote)?;
                }
                Some(_) => self.copy_char(),
            }
        }
    }

    /// The value of an attribute, with its quotes.
    fn value(&mut self, quote: char) -> Result<(), Fault> {
        let start = self.at;
        self.copy_char();
        self.skip_space();
        if self.rest().starts_with("@(") || self.rest().starts_with("@{") {
            self.expression(true)?;
        }
        loop {
            match self.peek() {
                None => {
                    return fault(start, "the value of an attribute is not closed", format!("close it with {quote}"));
                }
                Some(letter) if letter == quote => {
                    self.copy_char();
                    return Ok(());
                }
                Some('<') => self.replace_to(self.at + 1, "&lt;"),
                Some(_) => self.plain()?,
            }
        }
    }

    /// A letter outside of expressions.
    fn plain(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some('<') => self.replace_to(self.at + 1, "&lt;"),
            Some('&') => match self.entity() {
                Some((_, end)) => self.copy_to(end),
                None => {
                    let name: String =
                        self.rest()[1..].chars().take_while(char::is_ascii_alphanumeric).take(40).collect();
                    if !name.is_empty() && self.rest()[1 + name.len()..].starts_with(';') {
                        let message = format!("unknown entity &{name};");
                        return fault(
                            self.at,
                            message,
                            "write one of &lt; &gt; &amp; &quot; &apos;, or the letter itself",
                        );
                    }
                    self.replace_to(self.at + 1, "&amp;");
                }
            },
            Some(_) => self.copy_char(),
            None => {}
        }
        Ok(())
    }

    /// The letter that an entity here stands for, and where it ends.
    fn entity(&self) -> Option<(char, usize)> {
        let body = self.rest().strip_prefix('&')?;
        let length = body.bytes().take(12).position(|byte| byte == b';')?;
        let name = &body.as_bytes()[..length];
        let letter = match name {
            b"lt" => '<',
            b"gt" => '>',
            b"amp" => '&',
            b"quot" => '"',
            b"apos" => '\'',
            [b'#', b'x', hex @ ..] => char::from_u32(u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?)?,
            [b'#', decimal @ ..] => char::from_u32(std::str::from_utf8(decimal).ok()?.parse().ok()?)?,
            _ => return None,
        };
        Some((letter, self.at + length + 2))
    }

    /// The next letter of an expression, entities resolved, and where it ends.
    fn unit(&self) -> Option<(char, usize)> {
        let letter = self.peek()?;
        Some(match letter {
            '&' => self.entity().unwrap_or(('&', self.at + 1)),
            _ => (letter, self.at + letter.len_utf8()),
        })
    }

    fn put_unit(&mut self, attribute: bool) -> Option<char> {
        let (letter, end) = self.unit()?;
        match letter {
            '<' => self.replace_to(end, "&lt;"),
            '>' => self.replace_to(end, "&gt;"),
            '&' => self.replace_to(end, "&amp;"),
            '"' => self.replace_to(end, "&quot;"),
            '\'' => self.replace_to(end, "&apos;"),
            // In an attribute they would be read as spaces, and C# comments end with a line.
            '\n' if attribute => self.replace_to(end, "&#10;"),
            '\r' if attribute => self.replace_to(end, "&#13;"),
            '\t' if attribute => self.replace_to(end, "&#9;"),
            _ => {
                let mut buffer = [0; 4];
                self.replace_to(end, letter.encode_utf8(&mut buffer));
            }
        }
        Some(letter)
    }

    /// An expression, `@( ... )` or `@{ ... }`, written with entities.
    fn expression(&mut self, attribute: bool) -> Result<(), Fault> {
        let start = self.at;
        let unclosed = || -> Fault {
            Fault {
                at: start,
                message: "an expression is not closed".into(),
                remedy: "close its brackets, strings and comments".into(),
            }
        };
        self.copy_char();
        let mut open: Vec<Open> = Vec::new();
        loop {
            let at = self.at;
            let letter = self.put_unit(attribute).ok_or_else(unclosed)?;
            let next = self.unit().map(|(letter, _)| letter);
            if let Some(Open::Interpolated { verbatim }) = open.last() {
                let verbatim = *verbatim;
                match letter {
                    '{' if next == Some('{') => drop(self.put_unit(attribute)),
                    '{' => open.push(Open::Bracket('{')),
                    '\\' if !verbatim => drop(self.put_unit(attribute)),
                    '"' if verbatim && next == Some('"') => drop(self.put_unit(attribute)),
                    '"' => drop(open.pop()),
                    _ => {}
                }
            } else {
                match letter {
                    '(' | '[' | '{' => open.push(Open::Bracket(letter)),
                    ')' | ']' | '}' => {
                        let wanted = match letter {
                            ')' => '(',
                            ']' => '[',
                            _ => '{',
                        };
                        match open.pop() {
                            Some(Open::Bracket(opened)) if opened == wanted => {}
                            _ => {
                                let message = format!("{letter} closes nothing in an expression");
                                return fault(at, message, "make its brackets pairs");
                            }
                        }
                    }
                    '"' => self.string('"', false, attribute).ok_or_else(unclosed)?,
                    '\'' => self.string('\'', false, attribute).ok_or_else(unclosed)?,
                    '@' | '$' => self.prefixed(letter, attribute, &mut open).ok_or_else(unclosed)?,
                    '/' if next == Some('/') => while self.put_unit(attribute).ok_or_else(unclosed)? != '\n' {},
                    '/' if next == Some('*') => {
                        self.put_unit(attribute);
                        let mut last = ' ';
                        loop {
                            let letter = self.put_unit(attribute).ok_or_else(unclosed)?;
                            if last == '*' && letter == '/' {
                                break;
                            }
                            last = letter;
                        }
                    }
                    _ => {}
                }
            }
            if open.len() > MAX_BRACKETS {
                let message = format!("brackets of an expression are nested more than {MAX_BRACKETS} deep");
                return fault(at, message, "nest them less");
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    /// What follows `@` or `$`: a verbatim string, or an interpolated one, which is opened.
    fn prefixed(&mut self, first: char, attribute: bool, open: &mut Vec<Open>) -> Option<()> {
        let mut prefix = vec![first];
        while let Some((letter @ ('@' | '$'), _)) = self.unit() {
            if prefix.contains(&letter) {
                return Some(());
            }
            prefix.push(letter);
            self.put_unit(attribute);
        }
        if self.unit()?.0 != '"' {
            return Some(());
        }
        self.put_unit(attribute);
        let verbatim = prefix.contains(&'@');
        if prefix.contains(&'$') {
            open.push(Open::Interpolated { verbatim });
            return Some(());
        }
        self.string('"', verbatim, attribute)
    }

    /// The rest of a string or character up to its quote.
    fn string(&mut self, quote: char, verbatim: bool, attribute: bool) -> Option<()> {
        loop {
            let letter = self.put_unit(attribute)?;
            if letter == '\\' && !verbatim {
                self.put_unit(attribute)?;
            } else if letter == quote {
                if !verbatim || self.unit().map(|(letter, _)| letter) != Some(quote) {
                    return Some(());
                }
                self.put_unit(attribute);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(source: &str) -> String {
        let escaped = escape(source).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
        let tree = roxmltree::Document::parse(&escaped.text).unwrap_or_else(|e| panic!("{}: {e}", escaped.text));
        let node = tree.root_element();
        node.attribute("x").or(node.text()).unwrap_or_default().to_owned()
    }

    #[test]
    fn expressions_end_where_csharp_says() {
        for (source, expected) in [
            (r#"<a x="@(h("x", "N/A"))" y="1"/>"#, r#"@(h("x", "N/A"))"#),
            (r#"<a x='@(h("x") && a < b)'/>"#, r#"@(h("x") && a < b)"#),
            (r#"<a x="@(&quot;a)&quot; + b)" y="2"/>"#, r#"@("a)" + b)"#),
            (r#"<a x="@(a &lt; 1 &amp;&amp; b)"/>"#, "@(a < 1 && b)"),
            (r#"<a x="@(f("\")", 'x', '\'', ')'))"/>"#, r#"@(f("\")", 'x', '\'', ')'))"#),
            (r#"<a x="@($"{a["k"]}-{{)}}-{b}" + @"c:\")"/>"#, r#"@($"{a["k"]}-{{)}}-{b}" + @"c:\")"#),
            (r#"<a x="@($@"{a}""\" + @$"\{b}")"/>"#, r#"@($@"{a}""\" + @$"\{b}")"#),
            ("<a x=\"@{ // don't )\n return \"}\"; /* ) \" */ }\"/>", "@{ // don't )\n return \"}\"; /* ) \" */ }"),
            ("<a> @(b.As<string>() + \"<\")</a>", " @(b.As<string>() + \"<\")"),
            (r#"<a x="b & c < d &amp; e"/>"#, "b & c < d & e"),
            ("<a>b & c < 1</a>", "b & c < 1"),
            ("<a><!-- -- @( & < --> b</a>", " b"),
            ("<a><![CDATA[<b> & @(]]></a>", "<b> & @("),
            (r#"<a x="a@(b"/>"#, "a@(b"),
            ("\u{feff}<?xml version=\"1.0\"?><a x=\"é\"/>", "é"),
        ] {
            assert_eq!(value(source), expected, "{source}");
        }
    }

    #[test]
    fn origins_are_exact() {
        let source = "<!-- c\n -->\n<a x=\"@(a\n && \"b\")\"\n y='1'><b>é&quot;</b>\n<c/></a>";
        let escaped = escape(source).unwrap();
        for needle in ["<a", "y=", "<b", "é", "<c", "</a>"] {
            let (found, expected) = (escaped.text.find(needle).unwrap(), source.find(needle).unwrap());
            assert_eq!(escaped.origin(found), expected, "{needle}");
        }
    }

    #[test]
    fn what_is_hostile_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        let wide = format!("<a {}/>", (0..100).map(|n| format!("x{n}='' ")).collect::<String>());
        let many = format!("<a>{}</a>", "<b/>".repeat(20_001));
        let brackets = format!("<a x=\"@({})\"/>", "(".repeat(10_000));
        for (source, said) in [
            ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "document type"),
            ("<!DOCTYPE a SYSTEM \"http://example.com/a.dtd\"><a/>", "document type"),
            ("<a>&lol;</a>", "unknown entity &lol;"),
            ("<a>\n<b x=\"@(f(\"/>\n</a>", "an expression is not closed"),
            ("<a x=\"@(b])\"/>", "] closes nothing"),
            ("<a x=\"", "the value of an attribute is not closed"),
            ("<a x", "a start tag is not closed"),
            ("<a><!-- ", "a comment is not closed"),
            (&deep, "nested more than 64 deep"),
            (&wide, "more than 64 attributes"),
            (&many, "more than 20000 elements"),
            (&brackets, "brackets of an expression are nested more than 256"),
            (&" ".repeat(MAX_BYTES + 1), "bytes long"),
        ] {
            let fault = escape(source).unwrap_err();
            assert!(fault.message.contains(said), "{}", fault.message);
            assert!(!fault.remedy.is_empty());
        }
    }
}
