//! The estate, and the gate of each resource, which follows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::ConsoleError;
use super::settings::{BuildLimiter, ConsoleSettings, KeepCounters};
use crate::apim::Profile;
use crate::clock::{Clock, Now};
use crate::gateway::code::Code;
use crate::gateway::compile::Terms;
use crate::gateway::document::{Counters, Document, DocumentError};
use crate::gateway::estate::Estate;
use crate::gateway::finding::{Applied, Refused};
use crate::gateway::model::{FoundryResource, PrincipalId, ResourceName};
use crate::gateway::operation::{Declaration, Operation};
use crate::gateway::provider::InProcessProvider;
use crate::gateway::record::RecordObserver;
use crate::gateway::traffic::{Gate, GateError, SavedGate};
use crate::limiter::{LeftOutReason, Restored};

/// How gates are made.
pub(super) struct Making {
    pub(super) profile: Option<Profile>,
    /// The provider's settings, unless the host makes instances.
    pub(super) in_process: Option<InProcessProvider>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observers: Vec<Arc<dyn RecordObserver>>,
    pub(super) max_permits: usize,
    pub(super) max_counters: usize,
    pub(super) ttl: Duration,
    pub(super) limiters: Option<Arc<BuildLimiter>>,
    pub(super) counters: Option<Arc<KeepCounters>>,
}

impl Making {
    fn gate(&self, name: &ResourceName, resource: &FoundryResource) -> Result<Gate, GateError> {
        let (clock, ttl) = (self.clock.clone(), self.ttl);
        let (counters, permits) = (self.max_counters, self.max_permits);
        let mut builder = Gate::builder(name.clone(), resource)
            .limiter(move |limiter| limiter.clock(clock).permit_ttl(ttl).max_counters(counters).max_permits(permits));
        if let Some(profile) = &self.profile {
            builder = builder.profile(profile.clone());
        }
        if let Some(build) = self.limiters.clone() {
            builder = builder.built_by(move |limiter| build(limiter));
        }
        if let Some(keep) = &self.counters {
            builder = builder.counters(keep(name)?);
        }
        self.observers.iter().fold(builder, |builder, observer| builder.observer(observer.clone())).build()
    }

    pub(super) fn terms(&self) -> Terms {
        self.profile.as_ref().map_or(Terms::native(), Terms::from)
    }
}

pub(super) struct Control {
    pub(super) estate: Estate,
    pub(super) making: Making,
    pub(super) gates: BTreeMap<ResourceName, Follower>,
}

/// A gate, and what it follows by now.
pub(super) struct Follower {
    pub(super) gate: Gate,
    of: FoundryResource,
}

impl Control {
    pub(super) fn new(estate: Estate, making: Making) -> Self {
        Control { estate, making, gates: BTreeMap::new() }
    }

    pub(super) fn apply(&mut self, by: &PrincipalId, now: Now, what: &Operation) -> Result<Value, ConsoleError> {
        self.change(now, |estate| estate.apply(by, now.into(), what))
    }

    pub(super) fn declare(&mut self, now: Now, what: &Declaration) -> Result<Value, ConsoleError> {
        self.change(now, |estate| estate.declare(now.into(), what))
    }

    pub(super) fn refresh(&mut self, now: Now) -> Result<Value, ConsoleError> {
        let changes = self.estate.refresh(now.into());
        self.follow(now)?;
        Ok(json!({ "changes": changes }))
    }

    /// Changes the estate, and has its gates follow.
    fn change(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Estate) -> Result<Applied, Refused>,
    ) -> Result<Value, ConsoleError> {
        let before = self.estate.holdings.clone();
        let applied = act(&mut self.estate)?;
        if let Err(error) = self.follow(now) {
            // The estate refuses what cannot be put in force. Should it not, nothing is half done.
            self.estate.holdings = before;
            return Err(error);
        }
        Ok(serde_json::to_value(applied).unwrap_or_default())
    }

    /// Brings each gate to what its resource is at now: all, or none if one of them cannot.
    fn follow(&mut self, now: Now) -> Result<(), ConsoleError> {
        let resources = self.estate.resources();
        // With a gateway its counters and figures go; what calls hold of it goes with them.
        self.gates.retain(|name, follower| {
            let now = resources.get(name);
            now.is_some_and(|now| now.gateway.is_some() || follower.of.gateway.is_none())
        });
        let terms = self.making.terms();
        let changed = |(name, follower): &(&ResourceName, &mut Follower)| resources.get(*name) != Some(&follower.of);
        for (name, _) in self.gates.iter_mut().filter(changed) {
            if let Some(gateway) = resources.get(name).and_then(|resource| resource.gateway.as_ref()) {
                gateway.policy(&terms)?;
            }
        }
        for (name, follower) in self.gates.iter_mut().filter(changed) {
            let Some(resource) = resources.get(name) else { continue };
            match follower.gate.update_at(resource, now) {
                Ok(()) => {}
                // A new gateway, be it of the same name: it shares no counter with the one before.
                Err(GateError::AnotherGateway { .. }) => follower.gate = self.making.gate(name, resource)?,
                Err(error) => return Err(error.into()),
            }
            follower.of = resource.clone();
        }
        Ok(())
    }

    /// The gate of a resource; it is made when it is first asked for.
    pub(super) fn gate(&mut self, name: &ResourceName) -> Option<Gate> {
        self.follower(name).ok().map(|follower| follower.gate.clone())
    }

    /// The gate of the resource that a command names.
    pub(super) fn gate_of(&mut self, named: Option<&ResourceName>) -> Result<Gate, ConsoleError> {
        let name = self.named(named)?;
        Ok(self.follower(&name)?.gate.clone())
    }

    fn follower(&mut self, name: &ResourceName) -> Result<&Follower, ConsoleError> {
        if !self.gates.contains_key(name) {
            let resource = self.estate.resources().get(name).ok_or_else(|| unknown(name))?;
            let follower = Follower { gate: self.making.gate(name, resource)?, of: resource.clone() };
            self.gates.insert(name.clone(), follower);
        }
        self.gates.get(name).ok_or_else(|| unknown(name))
    }

    /// The resource that a command is about: the one that it names, or the only one there is.
    pub(super) fn named(&self, named: Option<&ResourceName>) -> Result<ResourceName, ConsoleError> {
        let resources = self.estate.resources();
        match (named, resources.first_key_value()) {
            (Some(name), _) if resources.contains_key(name) => Ok(name.clone()),
            (Some(name), _) => Err(unknown(name)),
            (None, Some((only, _))) if resources.len() == 1 => Ok(only.clone()),
            (None, _) => {
                let message = match resources.len() {
                    0 => "there is no Foundry resource here".to_owned(),
                    more => format!("there are {more} Foundry resources here, and the command names none"),
                };
                Err(ConsoleError::new(Code::ResourceNotFound, message, "declare a resource, or give its name"))
            }
        }
    }

    pub(super) fn candidates(&self, by: &PrincipalId, resource: Option<&ResourceName>) -> Result<Value, ConsoleError> {
        let found = self.estate.candidates(by, &self.named(resource)?)?;
        Ok(json!({ "instances": found }))
    }

    pub(super) fn audit(&self, after: u64, most: usize) -> Value {
        let trail = self.estate.audit();
        let entries: Vec<_> = trail.entries().filter(|entry| entry.number > after).take(most).collect();
        json!({ "entries": entries, "dropped": trail.dropped() })
    }

    pub(super) fn policy(&self, resource: Option<&ResourceName>) -> Result<Value, ConsoleError> {
        let name = self.named(resource)?;
        let gateway = self.estate.gateway(name.as_str());
        let policy = gateway.map(|gateway| gateway.policy_document(&self.making.terms())).transpose()?;
        Ok(policy.unwrap_or_else(|| json!({ "limit": [] })))
    }

    pub(super) fn save(&self, counters: bool, now: Now) -> Value {
        let has_gateway = |name: &ResourceName| self.estate.gateway(name.as_str()).is_some();
        let kept = self.gates.iter().filter(|(name, _)| counters && has_gateway(name));
        let saved =
            kept.map(|(name, follower)| (name, follower.gate.save_at(now))).filter(|(_, saved)| !saved.is_empty());
        let saved: Counters =
            saved.map(|(name, saved)| (name.clone(), serde_json::to_value(saved).unwrap_or_default())).collect();
        let making = &self.making;
        let settings = ConsoleSettings { profile: making.profile.clone(), provider: making.in_process.clone() };
        json!({ "document": self.estate.document(&saved, &settings) })
    }

    /// Becomes what a document says of the estate. The gates stay, and follow.
    pub(super) fn adopt(&mut self, document: &str, now: Now) -> Result<(), ConsoleError> {
        let Document { holdings, audit, .. } = Document::read(document)?;
        let before = self.estate.holdings.clone();
        let audit = std::mem::replace(&mut self.estate.audit, audit);
        self.estate.holdings = holdings;
        if let Err(error) = self.follow(now) {
            self.estate.replace(before, audit, None);
            return Err(error);
        }
        Ok(())
    }

    /// Becomes what a document says, counters included.
    pub(super) fn load(&mut self, document: &str, now: Now) -> Result<Value, ConsoleError> {
        let Document { holdings, audit, counters, console } = Document::read(document)?;
        let profile = match &console {
            Some(settings) => settings.profile.clone(),
            None => self.making.profile.clone(),
        };
        let saved = read_counters(counters)?;
        let profile = std::mem::replace(&mut self.making.profile, profile);
        let made =
            holdings.resources.iter().filter(|(_, resource)| resource.gateway.is_some()).map(|(name, resource)| {
                let follower = Follower { gate: self.making.gate(name, resource)?, of: resource.clone() };
                Ok((name.clone(), follower))
            });
        let gates = match made.collect::<Result<BTreeMap<_, _>, GateError>>() {
            Ok(gates) => gates,
            Err(error) => {
                self.making.profile = profile;
                return Err(error.into());
            }
        };
        let mut answer = Map::new();
        for (name, saved) in &saved {
            if let Some(follower) = gates.get(name) {
                answer.insert(name.to_string(), restored(&follower.gate.restore_at(saved, now)));
            }
        }
        let in_process = console.and_then(|settings| settings.provider).filter(|_| self.making.in_process.is_some());
        let provider = in_process.clone().map(|provider| Box::new(provider) as Box<_>);
        self.making.in_process = in_process.or(self.making.in_process.take());
        self.estate.replace(holdings, audit, provider);
        self.gates = gates;
        Ok(json!({ "counters": answer }))
    }
}

/// That there is no such resource, to a command that is no operation.
fn unknown(name: &ResourceName) -> ConsoleError {
    let message = format!("there is no Foundry resource {:?} here", name.as_str());
    ConsoleError::new(Code::ResourceNotFound, message, "declare the resource, or correct its name")
}

fn read_counters(counters: Counters) -> Result<BTreeMap<ResourceName, SavedGate>, DocumentError> {
    let read = |(name, counters): (ResourceName, Value)| match serde_json::from_value(counters) {
        Ok(saved) => Ok((name, saved)),
        Err(error) => {
            Err(DocumentError::Unreadable { reason: format!("the counters of {:?}: {error}", name.as_str()) })
        }
    };
    counters.into_iter().map(read).collect()
}

fn restored(restored: &Restored) -> Value {
    let left_out = restored.left_out.iter().map(|left_out| {
        let reason = match left_out.reason {
            LeftOutReason::NoSuchLimit => "there is no such limit",
            LeftOutReason::Changed => "the limit counts something else now",
            LeftOutReason::Kept => "a store keeps it",
            LeftOutReason::Shared => "a region has it",
            LeftOutReason::NoRoom => "there is no room for it",
        };
        json!({ "limit": left_out.limit, "counters": left_out.counters, "reason": reason })
    });
    json!({ "restored": restored.counters, "left_out": left_out.collect::<Vec<_>>() })
}
