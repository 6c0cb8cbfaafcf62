//! The data path of a gateway.
//!
//! - `compiled`: its limits as a policy of the engine, and what a change of one leaves alone;
//! - `governed`: which calls are governed, bypassed or denied;
//! - `workloads`: agents and tools;
//! - `walkthrough`: the first steps of the vendor's page, under the profile of API Management;
//! - `elsewhere`: a gate whose counters are somewhere else;
//! - `records`: one record for each call.

#[path = "../support/elsewhere.rs"]
mod away;
mod compiled;
mod elsewhere;
#[path = "../support/foundry.rs"]
mod foundry;
mod governed;
mod records;
mod walkthrough;
mod workloads;

use std::sync::{Arc, Mutex};
use tokenweir::gateway::model::{FoundryResource, Limits};
use tokenweir::gateway::{Call, Completion, Gate, Passage, RecordObserver, RefusedCall, UsageRecord};
use tokenweir::{CounterUsage, Estimate, ManualClock, Now, Usage};

/// So many seconds after both clocks showed 0.
pub(crate) fn s(seconds: u64) -> Now {
    Now::at(seconds * 1_000_000_000)
}

/// The records of a gate.
#[derive(Default)]
pub(crate) struct Records(Mutex<Vec<UsageRecord>>);

impl Records {
    pub(crate) fn taken(&self) -> Vec<UsageRecord> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
}

impl RecordObserver for Records {
    fn recorded(&self, record: &UsageRecord) {
        self.0.lock().expect("nobody panicked").push(record.clone());
    }
}

/// A gate with a clock that stands at 0, a model to change, and what it recorded.
pub(crate) struct Scene {
    pub(crate) resource: FoundryResource,
    pub(crate) gate: Gate,
    pub(crate) records: Arc<Records>,
}

impl Scene {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::of(foundry::resource("eastus2", limits))
    }

    pub(crate) fn of(resource: FoundryResource) -> Self {
        let records = Arc::new(Records::default());
        let gate = Gate::builder(foundry::name("account"), &resource)
            .limiter(|limiter| limiter.clock(ManualClock::default()))
            .observer(records.clone())
            .build()
            .expect("limits that can be put in force");
        Scene { resource, gate, records }
    }

    pub(crate) fn gateway(&mut self) -> &mut tokenweir::gateway::model::AiGateway {
        self.resource.gateway.as_mut().expect("a gateway")
    }

    /// The gate follows the model.
    #[track_caller]
    pub(crate) fn update(&self, now: Now) {
        self.gate.update_at(&self.resource, now).expect("a model to follow");
    }

    #[track_caller]
    pub(crate) fn pass(&self, call: &Call<'_>, now: Now) -> Passage {
        self.gate.admit_at(call, now).expect("a decision").passed().expect("it passes")
    }

    #[track_caller]
    pub(crate) fn refuse(&self, call: &Call<'_>, now: Now) -> RefusedCall {
        self.gate.admit_at(call, now).expect("a decision").refused().expect("it is refused")
    }

    /// A call that takes what it is estimated at.
    #[track_caller]
    pub(crate) fn take(&self, call: Call<'_>, tokens: u64, now: Now) {
        let passage = self.pass(&call.with_estimate(Estimate::new(tokens, 0)), now);
        passage.settle_at(&Completion::of(Usage::new(tokens, 0)), now).expect("settled");
    }

    pub(crate) fn counters(&self, now: Now) -> Vec<CounterUsage> {
        self.gate.limiter().usage_at(&Default::default(), now)
    }

    /// What a limit has used for these scope values.
    #[track_caller]
    pub(crate) fn used(&self, limit: &str, now: Now) -> u64 {
        self.counters(now).iter().filter(|counter| counter.limit == limit).map(|counter| counter.used).sum()
    }
}
