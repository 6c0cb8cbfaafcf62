//! Expressions and statements of C#.

use super::lexer::{Piece, Token, tokens};

/// How deep expressions and statements may be nested: reading them recurses.
const MAX_DEPTH: usize = 48;
/// How deep a tree may be that is handed on.
const MAX_TREE: usize = 160;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Text(String),
    Integer(i128),
    Bool(bool),
    Null,
    Name(String),
    /// `a.b` and `a?.b`, which says so.
    Member(Box<Expr>, String, bool),
    Index(Box<Expr>, Vec<Expr>),
    Call(Box<Expr>, Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `a ? b : c`
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    Interpolated(Vec<Hole>),
    /// `new[] { a, b }` and lists like it.
    List(Vec<Expr>),
    Block(Vec<Statement>),
    /// C# in form, without a meaning here; what it is.
    Other(&'static str),
}

/// A piece of an interpolated string.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Hole {
    Text(String),
    Value(Expr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Coalesce,
    /// One that policies hardly use, and nothing here computes.
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    /// A declaration or an assignment.
    Set(String, Expr),
    Return(Expr),
    If(Expr, Vec<Statement>, Vec<Statement>),
}

/// Reads an expression of a policy, `@( ... )` or `@{ ... }`.
///
/// # Errors
/// What is not C#, or a statement that policies hardly use, in words.
pub(crate) fn parse(source: &str) -> Result<Expr, String> {
    let body = source.trim();
    let inner = |open: char, close: char| body.strip_prefix('@')?.strip_prefix(open)?.strip_suffix(close);
    let mut parser = Parser { tokens: Vec::new(), at: 0, depth: 0 };
    let parsed = if let Some(inner) = inner('(', ')') {
        parser.tokens = tokens(inner)?;
        parser.expression()?
    } else if let Some(inner) = inner('{', '}') {
        parser.tokens = tokens(inner)?;
        Expr::Block(parser.statements()?)
    } else {
        return Err("text follows the expression".into());
    };
    match parser.peek() {
        // What reads the tree recurses along long rows of operators and calls, too.
        None if depth(&parsed) > MAX_TREE => Err("it has too many operators, calls or statements in a row".into()),
        None => Ok(parsed),
        Some(token) => Err(format!("{} is not expected there", shown(token))),
    }
}

/// How deep the tree is.
fn depth(expr: &Expr) -> usize {
    let deepest = |list: &[Expr]| list.iter().map(depth).max().unwrap_or(0);
    1 + match expr {
        Expr::Text(_) | Expr::Integer(_) | Expr::Bool(_) | Expr::Null | Expr::Name(_) | Expr::Other(_) => 0,
        Expr::Member(of, ..) | Expr::Not(of) | Expr::Negative(of) => depth(of),
        Expr::Index(of, list) | Expr::Call(of, list) => depth(of).max(deepest(list)),
        Expr::Binary(_, left, right) => depth(left).max(depth(right)),
        Expr::Choice(a, b, c) => depth(a).max(depth(b)).max(depth(c)),
        Expr::Interpolated(holes) => {
            let of = |hole: &Hole| if let Hole::Value(value) = hole { depth(value) } else { 0 };
            holes.iter().map(of).max().unwrap_or(0)
        }
        Expr::List(list) => deepest(list),
        Expr::Block(statements) => depth_of(statements),
    }
}

/// Statements are read one within the other: what follows one is its continuation.
fn depth_of(statements: &[Statement]) -> usize {
    let of = |statement: &Statement| match statement {
        Statement::Set(_, value) | Statement::Return(value) => depth(value),
        Statement::If(condition, yes, no) => depth(condition).max(depth_of(yes) + depth_of(no)),
    };
    statements.len() + statements.iter().map(of).max().unwrap_or(0)
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("{name:?}"),
        Token::Text(text) => format!("the string {text:?}"),
        Token::Interpolated(_) => "an interpolated string".into(),
        Token::Integer(number) => number.to_string(),
        Token::Fraction => "a fraction".into(),
        Token::Mark(mark) => format!("{mark:?}"),
    }
}

/// Operators by how strongly they bind, the weakest first.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[("|", Operator::Other), ("^", Operator::Other), ("&", Operator::Other)],
    &[("==", Operator::Equal), ("!=", Operator::Unequal)],
    &[("<=", Operator::LessEqual), (">=", Operator::GreaterEqual), ("<", Operator::Less), (">", Operator::Greater)],
    &[("+", Operator::Add), ("-", Operator::Other)],
    &[("*", Operator::Other), ("/", Operator::Other), ("%", Operator::Other)],
];

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn mark(&self, ahead: usize, mark: &str) -> bool {
        matches!(self.tokens.get(self.at + ahead), Some(Token::Mark(found)) if *found == mark)
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        match self.tokens.get(self.at + ahead) {
            Some(Token::Name(name)) => Some(name),
            _ => None,
        }
    }

    fn eat(&mut self, mark: &str) -> bool {
        let found = self.mark(0, mark);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: &str) -> Result<(), String> {
        if self.eat(mark) { Ok(()) } else { Err(format!("{mark:?} is missing")) }
    }

    fn name(&mut self) -> Result<String, String> {
        let name = self.word(0).map(str::to_owned).ok_or("a name is missing")?;
        self.at += 1;
        Ok(name)
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn expression(&mut self) -> Result<Expr, String> {
        self.nested(|parser| {
            let condition = parser.coalesce()?;
            if !parser.eat("?") {
                return Ok(condition);
            }
            let yes = parser.expression()?;
            parser.expect(":")?;
            let no = parser.expression()?;
            Ok(Expr::Choice(Box::new(condition), Box::new(yes), Box::new(no)))
        })
    }

    fn coalesce(&mut self) -> Result<Expr, String> {
        let mut all = vec![self.binary(0)?];
        while self.eat("??") {
            all.push(self.binary(0)?);
        }
        let last = all.pop().ok_or("an expression is missing")?;
        let pair = |right, left| Expr::Binary(Operator::Coalesce, Box::new(left), Box::new(right));
        Ok(all.into_iter().rev().fold(last, pair))
    }

    fn binary(&mut self, level: usize) -> Result<Expr, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some((mark, operator)) = operators.iter().find(|(mark, _)| self.mark(0, mark)) {
            self.expect(mark)?;
            let right = self.binary(level + 1)?;
            left = Expr::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        self.nested(|parser| {
            if parser.eat("!") {
                return Ok(Expr::Not(Box::new(parser.unary()?)));
            }
            if parser.eat("-") {
                return Ok(Expr::Negative(Box::new(parser.unary()?)));
            }
            if parser.eat("+") {
                return parser.unary();
            }
            if let Some(length) = parser.cast() {
                parser.at += length;
                // The types that policies cast to do not change what is counted.
                return parser.unary();
            }
            let primary = parser.primary()?;
            parser.postfix(primary)
        })
    }

    /// The length of a type in brackets before an operand.
    fn cast(&self) -> Option<usize> {
        if !self.mark(0, "(") {
            return None;
        }
        let length = self.type_length(1)?;
        let operand = matches!(
            self.tokens.get(self.at + 2 + length)?,
            Token::Name(_) | Token::Text(_) | Token::Interpolated(_) | Token::Integer(_) | Token::Mark("(" | "!")
        );
        let known = ["as", "is"];
        (self.mark(1 + length, ")") && operand && !known.contains(&self.word(2 + length).unwrap_or_default()))
            .then_some(length + 2)
    }

    /// The tokens of a type's name from `ahead` on.
    fn type_length(&self, ahead: usize) -> Option<usize> {
        let mut length = 0;
        loop {
            self.word(ahead + length)?;
            length += 1;
            if !self.mark(ahead + length, ".") {
                break;
            }
            length += 1;
        }
        if self.mark(ahead + length, "<") {
            length += self.generic_length(ahead + length)?;
        }
        if self.mark(ahead + length, "?") {
            length += 1;
        }
        if self.mark(ahead + length, "[") && self.mark(ahead + length + 1, "]") {
            length += 2;
        }
        Some(length)
    }

    /// The tokens of `<A, B<C>>` from `ahead` on.
    fn generic_length(&self, ahead: usize) -> Option<usize> {
        let mut depth = 0usize;
        for length in 0..32 {
            match self.tokens.get(self.at + ahead + length)? {
                Token::Mark("<") => depth += 1,
                Token::Mark(">") if depth == 1 => return Some(length + 1),
                Token::Mark(">") => depth -= 1,
                Token::Name(_) | Token::Mark("." | "," | "?" | "[" | "]" | "?[") => {}
                _ => return None,
            }
        }
        None
    }

    fn arguments(&mut self, close: &str) -> Result<Vec<Expr>, String> {
        let mut arguments = Vec::new();
        while !self.eat(close) {
            // A named argument, or one that is filled in.
            if self.word(0).is_some() && self.mark(1, ":") {
                self.at += 2;
            } else if matches!(self.word(0), Some("out" | "ref" | "in")) && self.word(1).is_some() {
                self.at += 1;
                if self.word(1).is_some() {
                    self.at += 1;
                }
            }
            arguments.push(self.expression()?);
            if !self.mark(0, close) {
                self.expect(",")?;
            }
        }
        Ok(arguments)
    }

    fn primary(&mut self) -> Result<Expr, String> {
        let token = self.peek().cloned().ok_or("the expression ends too early")?;
        self.at += 1;
        match token {
            Token::Text(text) => Ok(Expr::Text(text)),
            Token::Integer(number) => Ok(Expr::Integer(number)),
            Token::Fraction => Ok(Expr::Other("a fraction")),
            Token::Interpolated(pieces) => self.holes(pieces),
            Token::Mark("(") => {
                let lambda = self.word(0).is_some() && self.mark(1, ",") || self.mark(0, ")");
                if lambda {
                    while !self.eat(")") {
                        self.at += 1;
                        if self.at >= self.tokens.len() {
                            return Err("\")\" is missing".into());
                        }
                    }
                    self.expect("=>")?;
                    return self.lambda();
                }
                let inner = self.expression()?;
                self.expect(")")?;
                if self.eat("=>") { self.lambda() } else { Ok(inner) }
            }
            Token::Mark(mark) => Err(format!("{mark:?} is not expected there")),
            Token::Name(name) => match name.as_str() {
                "true" => Ok(Expr::Bool(true)),
                "false" => Ok(Expr::Bool(false)),
                "null" => Ok(Expr::Null),
                "new" => self.new_object(),
                _ if self.eat("=>") => self.lambda(),
                _ => Ok(Expr::Name(name)),
            },
        }
    }

    fn lambda(&mut self) -> Result<Expr, String> {
        if self.eat("{") {
            self.nested(Self::statements)?;
            self.expect("}")?;
        } else {
            self.expression()?;
        }
        Ok(Expr::Other("a function"))
    }

    fn holes(&mut self, pieces: Vec<Piece>) -> Result<Expr, String> {
        let mut holes = Vec::new();
        for piece in pieces {
            holes.push(match piece {
                Piece::Text(text) => Hole::Text(text),
                Piece::Hole(source) => {
                    let mut inner = Parser { tokens: tokens(&source)?, at: 0, depth: self.depth };
                    let value = inner.expression()?;
                    match inner.peek() {
                        None => Hole::Value(value),
                        // `{a:D2}` and `{a,5}` write it in a form of their own.
                        Some(_) => Hole::Value(Expr::Other("a format")),
                    }
                }
            });
        }
        Ok(Expr::Interpolated(holes))
    }

    /// After `new`.
    fn new_object(&mut self) -> Result<Expr, String> {
        let length = if self.mark(0, "[") || self.mark(0, "{") { Some(0) } else { self.type_length(0) };
        self.at += length.ok_or("what is new has no type")?;
        let array = length == Some(0) || self.mark(0, "{");
        let mut sized = false;
        if self.eat("[") {
            sized = !self.arguments("]")?.is_empty();
        }
        let arguments = if self.eat("(") { self.arguments(")")? } else { Vec::new() };
        if !self.eat("{") {
            return Ok(Expr::Other("a new object"));
        }
        // `{ a, b }`, or `{ Name = a }` of an object.
        let mut items = Vec::new();
        let mut named = false;
        while !self.eat("}") {
            if self.word(0).is_some() && self.mark(1, "=") {
                named = true;
                self.at += 2;
            }
            if self.eat("{") {
                named = true;
                self.nested(|parser| parser.arguments("}"))?;
            } else {
                items.push(self.expression()?);
            }
            if !self.mark(0, "}") {
                self.expect(",")?;
            }
        }
        let list = !named && !sized && arguments.is_empty() && (array || !items.is_empty());
        Ok(if list { Expr::List(items) } else { Expr::Other("a new object") })
    }

    fn postfix(&mut self, mut left: Expr) -> Result<Expr, String> {
        loop {
            if self.mark(0, "<")
                && matches!(left, Expr::Member(..) | Expr::Name(_))
                && let Some(generic) = self.generic_length(0)
                && self.mark(generic, "(")
            {
                self.at += generic;
            }
            if self.eat(".") {
                left = Expr::Member(Box::new(left), self.name()?, false);
            } else if self.eat("?.") {
                left = Expr::Member(Box::new(left), self.name()?, true);
            } else if self.eat("[") || self.eat("?[") {
                left = Expr::Index(Box::new(left), self.arguments("]")?);
            } else if self.eat("(") {
                left = Expr::Call(Box::new(left), self.arguments(")")?);
            } else if self.word(0) == Some("as") {
                self.at += 1;
                self.at += self.type_length(0).ok_or("a type is missing")?;
            } else if self.word(0) == Some("is") {
                self.at += 1;
                self.unary()?;
                return Ok(Expr::Other("a test of a type"));
            } else if self.eat("!") || self.eat("++") || self.eat("--") {
                // `a!` says that it is not null.
            } else {
                return Ok(left);
            }
        }
    }

    fn statements(&mut self) -> Result<Vec<Statement>, String> {
        let mut statements = Vec::new();
        while self.peek().is_some() && !self.mark(0, "}") {
            if self.eat(";") {
                continue;
            }
            statements.push(self.statement()?);
        }
        Ok(statements)
    }

    /// A statement, or several in braces.
    fn body(&mut self) -> Result<Vec<Statement>, String> {
        self.nested(|parser| {
            if !parser.eat("{") {
                return Ok(vec![parser.statement()?]);
            }
            let statements = parser.statements()?;
            parser.expect("}")?;
            Ok(statements)
        })
    }

    fn statement(&mut self) -> Result<Statement, String> {
        match self.word(0) {
            Some("return") => {
                self.at += 1;
                let value = if self.mark(0, ";") { Expr::Null } else { self.expression()? };
                self.expect(";")?;
                return Ok(Statement::Return(value));
            }
            Some("if") => {
                self.at += 1;
                self.expect("(")?;
                let condition = self.expression()?;
                self.expect(")")?;
                let yes = self.body()?;
                let mut no = Vec::new();
                if self.word(0) == Some("else") {
                    self.at += 1;
                    no = self.body()?;
                }
                return Ok(Statement::If(condition, yes, no));
            }
            Some(word @ ("for" | "foreach" | "while" | "do" | "try" | "switch" | "throw" | "using" | "lock")) => {
                return Err(format!("it has a statement with {word:?}"));
            }
            _ => {}
        }
        let declared = self.type_length(0).filter(|length| self.word(*length).is_some() && self.mark(length + 1, "="));
        self.at += declared.unwrap_or(0);
        if self.word(0).is_none() || !self.mark(1, "=") {
            return Err("it has a statement that is neither a variable, an if nor a return".into());
        }
        let name = self.name()?;
        self.expect("=")?;
        let value = self.expression()?;
        self.expect(";")?;
        Ok(Statement::Set(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Expr {
        Expr::Text(text.into())
    }

    fn path(path: &str) -> Expr {
        let mut names = path.split('.');
        let first = Expr::Name(names.next().unwrap().into());
        names.fold(first, |left, name| {
            let soft = name.strip_prefix('?');
            Expr::Member(Box::new(left), soft.unwrap_or(name).into(), soft.is_some())
        })
    }

    #[test]
    fn expressions() {
        let call = |of: Expr, arguments: Vec<Expr>| Expr::Call(Box::new(of), arguments);
        let binary = |operator, a: Expr, b: Expr| Expr::Binary(operator, Box::new(a), Box::new(b));
        for (source, expected) in [
            ("@(context.Subscription.Id)", path("context.Subscription.Id")),
            ("@(context.Subscription?.Id)", path("context.Subscription.?Id")),
            ("@((string)a[\"b\"])", Expr::Index(Box::new(path("a")), vec![text("b")])),
            ("@(a.Get<string>(\"b\", c: 1))", call(path("a.Get"), vec![text("b"), Expr::Integer(1)])),
            ("@(a as string)", path("a")),
            ("@(((Jwt)a).b)", path("a.b")),
            ("@(a < b)", binary(Operator::Less, path("a"), path("b"))),
            ("@(a ?? b ?? c)", binary(Operator::Coalesce, path("a"), binary(Operator::Coalesce, path("b"), path("c")))),
            (
                "@(a == 1 && !b)",
                binary(
                    Operator::And,
                    binary(Operator::Equal, path("a"), Expr::Integer(1)),
                    Expr::Not(Box::new(path("b"))),
                ),
            ),
            ("@(a ? b : c)", Expr::Choice(Box::new(path("a")), Box::new(path("b")), Box::new(path("c")))),
            ("@($\"x{a}\")", Expr::Interpolated(vec![Hole::Text("x".into()), Hole::Value(path("a"))])),
            ("@(new string[] { \"a\", \"b\" })", Expr::List(vec![text("a"), text("b")])),
            ("@(new[]{\"a\"})", Expr::List(vec![text("a")])),
            ("@(new JObject(new JProperty(\"a\", b)))", Expr::Other("a new object")),
            ("@(a.Any(g => g.Name == \"b\"))", call(path("a.Any"), vec![Expr::Other("a function")])),
            ("@((a) + b)", binary(Operator::Add, path("a"), path("b"))),
        ] {
            assert_eq!(parse(source).as_ref(), Ok(&expected), "{source}");
        }
    }

    #[test]
    fn blocks() {
        let parsed = parse("@{ var a = b; string c = \"d\"; if (a == null) { return c; } else return a; }").unwrap();
        let Expr::Block(statements) = parsed else { panic!("a block") };
        assert_eq!(statements.len(), 3);
        assert_eq!(statements[0], Statement::Set("a".into(), path("b")));
        assert!(matches!(&statements[2], Statement::If(_, yes, no) if yes.len() == 1 && no.len() == 1));
        let parsed = parse("@{ JObject b = c.As<JObject>(true); return b?[\"x\"]; }").unwrap();
        assert!(matches!(parsed, Expr::Block(statements) if statements.len() == 2));
    }

    #[test]
    fn what_is_not_read_is_said() {
        let deep = format!("@({}a{})", "(".repeat(1000), ")".repeat(1000));
        let long = format!("@(a{})", "+a".repeat(1000));
        let calls = format!("@(a{})", "()".repeat(1000));
        let nots = format!("@({}a)", "!".repeat(1000));
        let holes = format!("@({}a{})", "$\"{".repeat(200), "}\"".repeat(200));
        let ifs = format!("@{{{} return a; }}", "if (a) ".repeat(1000));
        for source in
            ["@(a b)", "@(", "@()", "@(a", "@{ foreach (var a in b) {} }", "@{ a; }", "@(a) b", "@(a ? b)", "@(\"a)"]
        {
            assert!(parse(source).is_err(), "{source}");
        }
        for source in [deep, long, calls, nots, holes, ifs] {
            assert!(parse(&source).is_err(), "{}", &source[..20]);
        }
    }
}
