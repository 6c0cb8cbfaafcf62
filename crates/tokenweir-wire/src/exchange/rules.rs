//! What an operator decides of calls that do not end well.

use tokenweir::elsewhere::Permits;
use tokenweir::policy::{Algorithm, Meter};
use tokenweir::{Now, PermitId};

/// What an operator decides of calls that take more than was expected, fail, or are never answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct CallRules {
    /// Which limits cut a stream short.
    pub cut: Cut,
    /// What failed calls are charged.
    pub failed: Failed,
    /// What calls are charged that are never answered.
    pub unanswered: Unanswered,
}

impl CallRules {
    /// These.
    pub const fn new(cut: Cut, failed: Failed, unanswered: Unanswered) -> Self {
        CallRules { cut, failed, unanswered }
    }
}

/// Which limits cut a stream short that has used more than its estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cut {
    /// None: what goes beyond is charged, and later requests wait for it.
    Never,
    /// A quota that is spent: no waiting brings it back soon.
    #[default]
    Quota,
    /// Any limit on tokens or cost that is spent, rates included.
    Any,
}

/// What a call is charged to which the provider answers with an error, and of which no usage is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Failed {
    /// No tokens; it still counts as a request.
    #[default]
    Nothing,
    /// Its estimate: for providers that charge for what they fail at.
    Estimate,
}

/// What a call is charged that was sent and never answered: the connection broke, or the answer did not come in time. The
/// provider may have done all of the work, part of it or none, and may charge for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Unanswered {
    /// Its estimate: what is not known is not nothing, and calls that time out are those that have taken most.
    #[default]
    Estimate,
    /// The input that was estimated: it was sent, and nothing was produced that anyone has seen.
    Input,
    /// No tokens; it still counts as a request.
    Nothing,
}

impl Cut {
    /// The word for it in settings and other languages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cut::Never => "never",
            Cut::Quota => "quota",
            Cut::Any => "any",
        }
    }

    /// The one that a [word](Cut::as_str) is for.
    pub fn from_word(word: &str) -> Option<Self> {
        [Cut::Never, Cut::Quota, Cut::Any].into_iter().find(|cut| cut.as_str() == word)
    }

    /// The first limit that is spent, of those that cut a stream short, and whether it is a quota.
    pub(super) fn spent_limit(self, permits: &dyn Permits, permit: PermitId, now: Now) -> Option<(String, bool)> {
        let mut spent = None;
        permits.each_left_at(permit, now, &mut |limit, left| {
            let counts_tokens = !matches!(limit.meter(), Meter::Requests | Meter::InFlight);
            let is_quota = matches!(limit.algorithm(), Algorithm::Quota { .. });
            if spent.is_none() && left <= 0 && counts_tokens && (is_quota || self == Cut::Any) {
                spent = Some((limit.name().to_string(), is_quota));
            }
        });
        spent.filter(|_| self != Cut::Never)
    }
}

impl Failed {
    /// The word for it in settings and other languages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failed::Nothing => "nothing",
            Failed::Estimate => "estimate",
        }
    }

    /// The one that a [word](Failed::as_str) is for.
    pub fn from_word(word: &str) -> Option<Self> {
        [Failed::Nothing, Failed::Estimate].into_iter().find(|failed| failed.as_str() == word)
    }
}

impl Unanswered {
    /// The word for it in settings and other languages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unanswered::Estimate => "estimate",
            Unanswered::Input => "input",
            Unanswered::Nothing => "nothing",
        }
    }

    /// The one that a [word](Unanswered::as_str) is for.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Unanswered::Estimate, Unanswered::Input, Unanswered::Nothing];
        all.into_iter().find(|unanswered| unanswered.as_str() == word)
    }
}
