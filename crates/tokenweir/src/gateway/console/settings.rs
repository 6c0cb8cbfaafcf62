//! How a console is built.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calls::OpenCalls;
use super::control::{Control, Making};
use super::kept::KeptRecords;
use super::{Console, GivenTime};
use crate::apim::Profile;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::gateway::estate::Estate;
use crate::gateway::model::ResourceName;
use crate::gateway::provider::{InProcessProvider, InstanceProvider};
use crate::gateway::record::RecordObserver;
use crate::gateway::traffic::GateError;
use crate::limiter::elsewhere::Counters;
use crate::limiter::{Limiter, LimiterBuilder};
use crate::sync::Mutex;

/// What windows may have counted before the process began: the longest renewal period of a call rate is 300 s.
const PAST: Duration = Duration::from_secs(3600);

/// Where a console has the time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleTime {
    /// From a clock: the system's, or the one that the builder was given.
    #[default]
    System,
    /// From commands: `now` sets it, and it stands still in between. The first command must have it.
    Given,
}

/// How a console is to be. As JSON: an object of these fields, of which each may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleOptions {
    /// How gateways count, charge and answer: as API Management does, on the v2 tiers unless set; `null`: as the engine
    /// does by itself.
    pub profile: Option<Profile>,
    /// How long instances take to be made and taken down, and whether they fail.
    pub provider: InProcessProvider,
    /// Where the time is from.
    pub time: ConsoleTime,
    /// How many usage records are kept for whoever polls them: 0 to 1,000,000. The oldest go first, and are counted.
    pub records: usize,
    /// How many calls that were made by command may be under way at a time, and how many permits each gateway may have
    /// out: at most 2^24.
    pub max_calls: usize,
    /// How many counters each gateway may have.
    pub max_counters: usize,
    /// After how many seconds a call that is not ended counts as dropped.
    pub call_ttl_seconds: u64,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        ConsoleOptions {
            profile: Some(Profile::v2()),
            provider: InProcessProvider::default(),
            time: ConsoleTime::default(),
            records: 1_024,
            max_calls: 1 << 16,
            max_counters: 20_000,
            call_ttl_seconds: 600,
        }
    }
}

/// What of its options a console keeps in its document: counters and work that is under way depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSettings {
    /// How gateways count, charge and answer.
    pub profile: Option<Profile>,
    /// How instances are made, unless the host makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<InProcessProvider>,
}

/// How a [`Console`] is to be built.
#[derive(Default)]
pub struct ConsoleBuilder {
    options: ConsoleOptions,
    provider: Option<Box<dyn InstanceProvider + Send>>,
    clock: Option<Arc<dyn Clock>>,
    observers: Vec<Arc<dyn RecordObserver>>,
    limiters: Option<Arc<BuildLimiter>>,
    counters: Option<Arc<KeepCounters>>,
}

/// Who builds the limiters of gates.
pub(super) type BuildLimiter = dyn Fn(LimiterBuilder) -> Result<Limiter, GateError> + Send + Sync;

/// Who keeps the counters of the gate of a resource.
pub(super) type KeepCounters = dyn Fn(&ResourceName) -> Result<Arc<dyn Counters>, GateError> + Send + Sync;

impl std::fmt::Debug for ConsoleBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ConsoleBuilder {
    /// The options, all at once.
    pub fn options(mut self, options: &ConsoleOptions) -> Self {
        self.options = options.clone();
        self
    }

    /// Who makes instances, in place of the provider in the process that the options describe. It is asked while the console
    /// is held, so it must not use it, and should not wait.
    pub fn provider(mut self, provider: impl InstanceProvider + Send + 'static) -> Self {
        self.provider = Some(Box::new(provider));
        self
    }

    /// The clock, where the time is not given by commands; the system's unless set.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// One more who is told of each call, also of those that do not pass through JSON. It may use the console.
    pub fn observer(mut self, observer: Arc<dyn RecordObserver>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Who builds the limiter of each gate: see [`GateBuilder::built_by`](crate::gateway::GateBuilder::built_by). It is asked
    /// while the console is held, so it must not use it.
    pub fn limiters_built_by(
        mut self,
        build: impl Fn(LimiterBuilder) -> Result<Limiter, GateError> + Send + Sync + 'static,
    ) -> Self {
        self.limiters = Some(Arc::new(build));
        self
    }

    /// Who keeps the counters of each gate, by its resource: see [`GateBuilder::counters`](crate::gateway::GateBuilder::counters).
    /// It is asked while the console is held, so it must not use it. Calls are decided on by the gate, not by the console.
    pub fn counters_kept_by(
        mut self,
        keep: impl Fn(&ResourceName) -> Result<Arc<dyn Counters>, GateError> + Send + Sync + 'static,
    ) -> Self {
        self.counters = Some(Arc::new(keep));
        self
    }

    /// The console.
    pub fn build(self) -> Console {
        let options = self.options;
        let given = (options.time == ConsoleTime::Given)
            .then(|| GivenTime { clock: Arc::new(ManualClock::default()), told: OnceLock::new() });
        let clock: Arc<dyn Clock> = match (&given, self.clock) {
            (Some(given), _) => given.clock.clone(),
            (None, Some(clock)) => clock,
            (None, None) => Arc::new(SystemClock::with_past(PAST)),
        };
        let records = Arc::new(KeptRecords::new(options.records));
        let mut observers = self.observers;
        observers.push(records.clone());
        let (estate, in_process) = match self.provider {
            Some(provider) => (Estate::of(Default::default(), Default::default(), provider), None),
            None => (Estate::new(options.provider.clone()), Some(options.provider)),
        };
        let ttl = Duration::from_secs(options.call_ttl_seconds);
        let making = Making {
            profile: options.profile,
            in_process,
            clock: clock.clone(),
            observers,
            max_permits: options.max_calls,
            max_counters: options.max_counters,
            ttl,
            limiters: self.limiters,
            counters: self.counters,
        };
        Console {
            clock,
            given,
            control: Mutex::new(Control::new(estate, making)),
            open: Mutex::new(OpenCalls::new(options.max_calls, ttl)),
            records,
        }
    }
}
