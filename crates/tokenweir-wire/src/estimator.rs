//! How many tokens a text is, when no provider says so.

use std::sync::Arc;

/// Counts the tokens of text.
///
/// Counts add up: a stream is counted piece by piece, so an estimator answers in thousandths of a token and the sum is
/// rounded up once. Implementations must not panic on any text, and their time must grow no faster than the text: it
/// comes from clients.
pub trait Estimator {
    /// The thousandths of a token that `text` takes. A piece is at most 2 KiB and whole characters.
    fn millitokens(&self, text: &str) -> u64;
}

impl<E: Estimator + ?Sized> Estimator for &E {
    fn millitokens(&self, text: &str) -> u64 {
        (**self).millitokens(text)
    }
}

impl<E: Estimator + ?Sized> Estimator for Arc<E> {
    fn millitokens(&self, text: &str) -> u64 {
        (**self).millitokens(text)
    }
}

impl<E: Estimator + ?Sized> Estimator for Box<E> {
    fn millitokens(&self, text: &str) -> u64 {
        (**self).millitokens(text)
    }
}

/// The characters rule: so many thousandths of a token for each character, by how many bytes it takes in UTF-8.
///
/// By default four ASCII characters are a token, two of two bytes (Latin with accents, Greek, Cyrillic, Hebrew,
/// Arabic), one of three bytes (Chinese, Japanese, Korean, most other scripts), and an emoji is two. Against OpenAI's
/// `o200k` vocabulary a sentence of English, German, French or Chinese prose comes out 3 to 11 % too high, Japanese 21 %,
/// Russian 47 %; code and numbers may take more tokens than this says.
///
/// # Example
/// ```
/// use tokenweir_wire::{Characters, Estimator};
/// assert_eq!(Characters::default().millitokens("four"), 1000);
/// assert_eq!(Characters::default().millitokens("你好"), 2000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Characters {
    /// Thousandths of a token for a character of one, two, three and four bytes.
    pub by_length: [u32; 4],
}

impl Default for Characters {
    fn default() -> Self {
        Characters { by_length: [250, 500, 1000, 2000] }
    }
}

impl Estimator for Characters {
    fn millitokens(&self, text: &str) -> u64 {
        if text.is_ascii() {
            return (text.len() as u64).saturating_mul(u64::from(self.by_length[0]));
        }
        let mut heads = [0u64; 4];
        for byte in text.bytes() {
            let length = match byte {
                0x80..=0xbf => continue,
                0xc0..=0xdf => 1,
                0xe0..=0xef => 2,
                0xf0..=0xff => 3,
                _ => 0,
            };
            heads[length] += 1;
        }
        heads
            .iter()
            .zip(self.by_length)
            .map(|(&count, each)| count.saturating_mul(u64::from(each)))
            .fold(0, u64::saturating_add)
    }
}

/// Thousandths of a token as tokens, rounded up.
pub(crate) fn tokens(millitokens: u64) -> u64 {
    millitokens.div_ceil(1000)
}

/// Exact counts in an encoding of OpenAI's models, by the `bpe-openai` crate, whose time is linear in any text.
///
/// Text is counted in pieces (a stream's as they come, long ones of 2 KiB), so a piece more costs a token more at most.
/// What a provider adds around messages is not text; the [`InputRules`](crate::InputRules) have it.
#[cfg(feature = "bpe")]
#[derive(Clone, Copy)]
pub struct Bpe(&'static bpe_openai::Tokenizer);

#[cfg(feature = "bpe")]
impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bpe")
    }
}

#[cfg(feature = "bpe")]
impl Bpe {
    /// The encoding of GPT-4o and later models.
    pub fn o200k() -> Self {
        Bpe(bpe_openai::o200k_base())
    }

    /// The encoding of GPT-4, GPT-3.5 Turbo and the embedding models.
    pub fn cl100k() -> Self {
        Bpe(bpe_openai::cl100k_base())
    }

    /// The encoding of `model`, by its name; that of the latest models where the name says nothing.
    pub fn for_model(model: &str) -> Self {
        // Fine-tuned models are named `ft:gpt-3.5-turbo:...`, vendors prefix `openai/`, Azure writes `gpt-35-turbo`.
        let name = model.strip_prefix("ft:").unwrap_or(model);
        let name = name.rsplit('/').next().unwrap_or(name);
        let newer = ["gpt-4o", "gpt-4.1", "gpt-4.5"].iter().any(|prefix| name.starts_with(prefix));
        let older = ["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-"].iter().any(|prefix| name.starts_with(prefix));
        if older && !newer { Self::cl100k() } else { Self::o200k() }
    }
}

#[cfg(feature = "bpe")]
impl Estimator for Bpe {
    fn millitokens(&self, text: &str) -> u64 {
        (self.0.count(text) as u64).saturating_mul(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_count_by_their_length() {
        let rule = Characters::default();
        assert_eq!(rule.millitokens(""), 0);
        assert_eq!(rule.millitokens("aé你🙂"), 250 + 500 + 1000 + 2000);
        assert_eq!(tokens(1), 1);
        assert_eq!(tokens(1000), 1);
    }

    #[cfg(feature = "bpe")]
    #[test]
    fn byte_pairs_are_counted_as_the_model_counts_them() {
        // The examples of OpenAI's tokenizer documentation.
        assert_eq!(Bpe::cl100k().millitokens("tiktoken is great!"), 6000);
        assert_eq!(Bpe::o200k().millitokens("tiktoken is great!"), 6000);
        let encoding = |model| std::ptr::from_ref(Bpe::for_model(model).0);
        for model in
            ["gpt-4", "gpt-35-turbo", "ft:gpt-3.5-turbo:acme::x", "openai/gpt-4-turbo", "text-embedding-3-small"]
        {
            assert_eq!(encoding(model), encoding("gpt-4"), "{model}");
        }
        for model in ["gpt-4o-mini", "gpt-4.1", "gpt-5", "o3", "some-deployment"] {
            assert_eq!(encoding(model), encoding("gpt-4o"), "{model}");
        }
    }

    #[cfg(feature = "bpe")]
    #[test]
    fn the_characters_rule_is_on_the_strict_side_of_prose() {
        let texts = [
            "The harbour was quiet that morning, and nobody on the quay had any reason to look up at the crane.",
            "Der Hafen war an diesem Morgen ruhig, und niemand am Kai hatte einen Grund, zum Kran hinaufzusehen.",
            "Le port était calme ce matin-là, et personne sur le quai n'avait de raison de lever les yeux vers la grue.",
            "В то утро в порту было тихо, и ни у кого на причале не было причин смотреть вверх на кран.",
            "那天早上港口很安静，码头上没有人有理由抬头看那台起重机。",
            "その朝、港は静かで、岸壁にいる誰もクレーンを見上げる理由がなかった。",
        ];
        for text in texts {
            let (rule, exact) = (Characters::default().millitokens(text), Bpe::o200k().millitokens(text));
            assert!(rule >= exact && 2 * rule <= 3 * exact, "{rule} against {exact}: {text}");
        }
    }
}
