//! The CSV of the public Azure LLM inference traces: `TIMESTAMP,ContextTokens,GeneratedTokens`.

use std::str::FromStr;

use tokenweir::{Estimate, Usage};

use super::{Ending, Entry, MAX_TOKENS, Wrong, due, tokens};
use crate::instant;

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";

/// What the CSV leaves out.
#[derive(Debug)]
pub struct Azure {
    /// Who calls.
    pub project: String,
    /// What it calls.
    pub deployment: String,
    /// The output that a request expects.
    pub output: OutputRule,
    /// Nanoseconds until a request settles.
    pub duration: i64,
    /// Further nanoseconds for each token of its output.
    pub duration_per_token: i64,
}

/// The output that a request expects, from what it produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputRule {
    /// Always this many tokens.
    Tokens(u64),
    /// The tokens that it produced times `numerator / denominator`, rounded up.
    Times {
        /// Of the factor.
        numerator: u64,
        /// Of the factor, a power of ten.
        denominator: u64,
    },
}

impl OutputRule {
    /// The estimate for a request that produced `output` tokens; `None` above 2^53.
    fn estimate(self, output: u64) -> Option<u64> {
        match self {
            OutputRule::Tokens(tokens) => Some(tokens),
            OutputRule::Times { numerator, denominator } => {
                let tokens = (u128::from(output) * u128::from(numerator)).div_ceil(u128::from(denominator));
                u64::try_from(tokens).ok().filter(|&tokens| tokens <= MAX_TOKENS)
            }
        }
    }
}

impl FromStr for OutputRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no rule; write a number of tokens such as 400, or a factor such as 4x or 1.5x");
        let Some(factor) = text.strip_suffix('x') else {
            return tokens(text).map(OutputRule::Tokens).ok_or_else(wrong);
        };
        let (whole, fraction) = factor.split_once('.').unwrap_or((factor, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
            return Err(wrong());
        }
        let numerator = tokens(&format!("{whole}{fraction}")).ok_or_else(wrong)?;
        Ok(OutputRule::Times { numerator, denominator: 10_u64.pow(fraction.len() as u32) })
    }
}

/// Checks the first line.
pub(super) fn header(text: &str) -> Result<(), Wrong> {
    // Spreadsheets put a byte order mark before the first name.
    if text.strip_prefix('\u{feff}').unwrap_or(text) == HEADER {
        return Ok(());
    }
    Err(Wrong::new(format!("the first line is not {HEADER}"), "give a trace of this format, or another --format"))
}

impl Azure {
    pub(super) fn entry(&self, line: u64, text: &str) -> Result<Entry, Wrong> {
        let cells: Vec<&str> = text.split(',').collect();
        let [at, input, output] = cells[..] else {
            let reason = format!("the line has {} fields, not 3", cells.len());
            return Err(Wrong::new(reason, format!("write {HEADER}")));
        };
        let shown = |text: &str| crate::text::cut(&crate::text::printable(text.as_bytes()), 40);
        let instant = instant::azure(at).map_err(|reason| {
            let remedy = "write it in UTC, for instance 2023-11-16 18:17:03.9799600";
            Wrong::new(format!("TIMESTAMP {:?} {reason}", shown(at)), remedy)
        })?;
        let count = |name: &str, text: &str| {
            tokens(text).ok_or_else(|| {
                let reason = format!("{name} is {:?}", shown(text));
                Wrong::new(reason, "write a whole number of tokens from 0 to 9007199254740992 (2^53)")
            })
        };
        let (input, output) = (count("ContextTokens", input)?, count("GeneratedTokens", output)?);
        let estimate = self.output.estimate(output).ok_or_else(|| {
            Wrong::new("the estimate of its output is above 2^53", "give a smaller --estimate-output")
        })?;
        let duration = i128::from(self.duration_per_token) * i128::from(output) + i128::from(self.duration);
        Ok(Entry {
            line,
            at: instant,
            at_text: format!("\"{at}\""),
            project: self.project.clone().into_bytes(),
            deployment: self.deployment.clone().into_bytes(),
            keys: Vec::new(),
            estimate: Estimate::new(input, estimate),
            ending: Ending::Usage(Usage::new(input, output)),
            due: due(instant, i64::try_from(duration).unwrap_or(i64::MAX))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> OutputRule {
        text.parse().expect("is a rule")
    }

    #[test]
    fn rules_of_estimates() {
        assert_eq!(rule("400").estimate(7), Some(400));
        assert_eq!(rule("4x").estimate(7), Some(28));
        assert_eq!(rule("1.5x").estimate(7), Some(11));
        assert_eq!(rule("0.000000001x").estimate(1), Some(1));
        assert_eq!(rule("0x").estimate(9), Some(0));
        assert_eq!(rule("2x").estimate(MAX_TOKENS), None);
        for wrong in ["", "x", "-1", "1.5", ".5x", "1.x", "1.0000000001x", "1xx", "9007199254740993", "+4x"] {
            assert!(wrong.parse::<OutputRule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines() {
        let mut format = Azure {
            project: "code".into(),
            deployment: "m".into(),
            output: rule("2x"),
            duration: 1,
            duration_per_token: 10,
        };
        let entry = format.entry(2, "2023-11-16 18:17:03.9799600,4808,10").expect("is right");
        assert_eq!((entry.at, entry.due - entry.at), (1_700_158_623_979_960_000, 101));
        assert_eq!(entry.estimate, Estimate::new(4808, 20));
        assert_eq!(entry.at_text, "\"2023-11-16 18:17:03.9799600\"");
        for wrong in [
            "a,b",
            "2023-11-16 18:17:03,1,2,3",
            "2023-11-16 18:17:03,1,-2",
            "yesterday,1,2",
            "2023-11-16 18:17:03, 1,2",
        ] {
            assert!(format.entry(2, wrong).is_err(), "{wrong}");
        }
        format.duration = i64::MAX;
        assert!(format.entry(2, "2023-11-16 18:17:03,1,2").is_err());
        assert!(header("\u{feff}TIMESTAMP,ContextTokens,GeneratedTokens").is_ok());
        assert!(header("time,in,out").is_err());
    }
}
