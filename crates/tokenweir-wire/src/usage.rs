//! What a provider says a call has used, in one vocabulary.

use tokenweir::Usage;

/// No call uses more tokens than this; a figure above it is taken as unknown. It is the engine's own bound.
pub(crate) const MOST: u64 = 1 << 53;

/// The tokens of one call. What is not known is `None`, never 0.
///
/// The parts are within the wholes, whatever the provider's own habit: cached, written and audio tokens are within
/// `input`, reasoning and audio tokens within `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TokenUsage {
    /// All input tokens.
    pub input: Option<u64>,
    /// Those of them that came from the provider's cache.
    pub cached_input: Option<u64>,
    /// Those of them that were written to the provider's cache.
    pub cache_write: Option<u64>,
    /// Those of them that are audio.
    pub audio_input: Option<u64>,
    /// All output tokens.
    pub output: Option<u64>,
    /// Those of them that are reasoning, which the caller may not see.
    pub reasoning: Option<u64>,
    /// Those of them that are audio.
    pub audio_output: Option<u64>,
}

/// What the engine settles by. Cached tokens beyond the input, which no provider should report, are cut to it.
impl From<TokenUsage> for Usage {
    fn from(usage: TokenUsage) -> Usage {
        Usage {
            input: usage.input,
            cached_input: usage.input.and_then(|input| Some(usage.cached_input?.min(input))),
            output: usage.output,
        }
    }
}

/// The figures that providers report, by what they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    Input,
    CachedInput,
    CacheWrite,
    AudioInput,
    /// Input that tools brought, where it is not in `Input`.
    ToolInput,
    Output,
    Reasoning,
    AudioOutput,
    Total,
}

const FIGURES: usize = Figure::Total as usize + 1;

/// The figures of one report, or of all so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Figures([Option<u64>; FIGURES]);

impl Figures {
    pub(crate) fn get(&self, figure: Figure) -> Option<u64> {
        self.0[figure as usize]
    }

    /// A figure as it stands in a document. What cannot be a number of tokens stays unknown.
    pub(crate) fn set(&mut self, figure: Figure, tokens: Option<u64>) {
        if let Some(tokens) = tokens.filter(|&tokens| tokens <= MOST) {
            self.0[figure as usize] = Some(tokens);
        }
    }

    /// Takes a later report in. It counts from the beginning, or (`deltas`) from the report before it.
    pub(crate) fn merge(&mut self, later: &Figures, deltas: bool) {
        for (sum, later) in self.0.iter_mut().zip(later.0) {
            if let Some(later) = later {
                *sum = Some(if deltas { sum.unwrap_or(0).saturating_add(later).min(MOST) } else { later });
            }
        }
    }
}

/// Sums of what is known; unknown only if all of it is.
pub(crate) fn sum(parts: &[Option<u64>]) -> Option<u64> {
    parts.iter().flatten().copied().reduce(|sum, part| sum.saturating_add(part).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_reports_stand_in_for_earlier_ones_or_add_to_them() {
        let mut first = Figures::default();
        first.set(Figure::Input, Some(10));
        first.set(Figure::Output, Some(1));
        let mut later = Figures::default();
        later.set(Figure::Output, Some(5));
        later.set(Figure::Total, Some(MOST + 1));
        let mut cumulative = first;
        cumulative.merge(&later, false);
        assert_eq!((cumulative.get(Figure::Input), cumulative.get(Figure::Output)), (Some(10), Some(5)));
        assert_eq!(cumulative.get(Figure::Total), None);
        first.merge(&later, true);
        assert_eq!(first.get(Figure::Output), Some(6));
    }

    #[test]
    fn the_engine_is_told_nothing_that_it_would_refuse() {
        let usage = TokenUsage { input: Some(10), cached_input: Some(12), ..TokenUsage::default() };
        assert_eq!(Usage::from(usage), Usage { input: Some(10), cached_input: Some(10), output: None });
        let unknown = TokenUsage { cached_input: Some(12), ..TokenUsage::default() };
        assert_eq!(Usage::from(unknown), Usage::UNKNOWN);
    }
}
