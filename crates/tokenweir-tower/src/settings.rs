//! What an operator decides.

use std::fmt;
use std::sync::Arc;
use tokenweir_wire::{CallRules, Characters, Cut, Estimator, Failed, InputRules, OutputRule, Unanswered};

/// What becomes of a request whose body is longer than is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Oversize {
    /// It is refused, with 413.
    #[default]
    Refuse,
    /// It passes without being read further, on an estimate by its length: a token for every four bytes that
    /// `content-length` states. One that does not state it is refused, and so is one whose head does not name the
    /// deployment. It is not asked to report the usage of its stream.
    ByLength,
}

/// How a [`MeterLayer`](crate::MeterLayer) works.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// What is held for the output of a request that states no bound.
    pub output: OutputRule,
    /// How what is not text is counted in a request.
    pub input: InputRules,
    /// How text is counted; by its characters unless set.
    pub estimator: Arc<dyn Estimator + Send + Sync>,
    /// So many bytes of a request's body are read; 32 MiB unless set. They are held until the request is admitted.
    pub max_body: usize,
    /// What becomes of longer ones; [`Oversize::Refuse`] unless set.
    pub oversize: Oversize,
    /// Whether streams of OpenAI's that would not report their usage are asked to, unseen by the client; they are unless
    /// set.
    pub ask_for_usage: bool,
    /// Which limits cut a stream short; [`Cut::Quota`] unless set.
    pub cut: Cut,
    /// What failed calls are charged; [`Failed::Nothing`] unless set.
    pub failed: Failed,
    /// What calls are charged that were sent and never answered: the service failed, or its response says so with
    /// [`NoAnswer`](crate::NoAnswer). [`Unanswered::Estimate`] unless set.
    pub unanswered: Unanswered,
    /// Whether responses say how the caller's limits stand, in its dialect; they do unless set.
    pub headers: bool,
    /// Whether they say it in the IETF draft's words besides; they do not unless set.
    pub ietf_headers: bool,
}

impl Settings {
    /// Everything as described, with `output` for requests that state no bound of it.
    pub fn new(output: OutputRule) -> Self {
        Settings {
            output,
            input: InputRules::default(),
            estimator: Arc::new(Characters::default()),
            max_body: 32 << 20,
            oversize: Oversize::default(),
            ask_for_usage: true,
            cut: Cut::default(),
            failed: Failed::default(),
            unanswered: Unanswered::default(),
            headers: true,
            ietf_headers: false,
        }
    }

    pub(crate) fn rules(&self) -> CallRules {
        CallRules::new(self.cut, self.failed, self.unanswered)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("output", &self.output)
            .field("max_body", &self.max_body)
            .field("oversize", &self.oversize)
            .field("cut", &self.cut)
            .field("failed", &self.failed)
            .field("unanswered", &self.unanswered)
            .finish_non_exhaustive()
    }
}
