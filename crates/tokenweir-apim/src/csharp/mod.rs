//! The part of C# that policy expressions are written in.
//!
//! Everything that is C# in form is read; what it means is for `eval`, which knows a few calls and says of the rest
//! that it does not.

mod lexer;
mod parser;

pub(crate) use parser::{Expr, Hole, Operator, Statement, parse};
