//! The decision on each call.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
// A number of its own for each call takes part in no race that is model-checked.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use super::call::Call;
use super::passage::{Passage, RefusedCall, Verdict};
use super::standing::{Stand, Standing, Wrong};
use crate::apim::{Profile, Remaining};
use crate::clock::Now;
use crate::error::Error;
use crate::gateway::compile::{CompileError, Terms};
use crate::gateway::figures::{Counts, Figures};
use crate::gateway::model::{FoundryResource, GatewayName, ProjectName, ResourceName};
use crate::gateway::record::{CallOutcome, LastError, RecordObserver, UsageRecord};
use crate::limiter::elsewhere::{Counters, Decided, Permits};
use crate::limiter::{CounterUsage, Decision, Denied, Limiter, LimiterBuilder, Peek, UsageFilter};
use crate::policy::Policy;
use crate::request::Estimate;
use crate::store::StoreError;
use crate::sync::Mutex;

/// Why a gate cannot be built, or cannot follow its model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The limits cannot be put in force.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The limiter does not take up the new limits.
    #[error(transparent)]
    Limiter(#[from] crate::Error),
    /// Whoever builds the gate's limiter cannot: see [`GateBuilder::built_by`].
    #[error("{reason}")]
    NotBuilt {
        /// Why, and what to do.
        reason: String,
    },
    /// The resource has another gateway now: gateways never share counters.
    #[error("the resource's gateway is {now:?} now, and this gate is that of {was:?}; build a new gate for it")]
    AnotherGateway {
        /// The gate's.
        was: GatewayName,
        /// The resource's; it may have the same name and be a new one.
        now: GatewayName,
    },
}

/// The data path of one gateway: decides on each call, counts it and records it.
///
/// Cheap to clone; all clones are the same gate. Every method may be called from any thread at once. Those that depend on
/// time have twins ending in `_at`, as the limiter's.
///
/// # Example
/// ```
/// use tokenweir::apim::Profile;
/// use tokenweir::gateway::{Call, CallOutcome, Completion, Gate, Verdict};
/// use tokenweir::{Estimate, Usage};
///
/// # let resource = serde_json::from_str(r#"{
/// #     "site": {"tenant": "t", "subscription": "s", "resource_group": "g", "region": "eastus2"},
/// #     "public_network_access": true,
/// #     "deployments": {"gpt-4o": {"model": "gpt-4o"}},
/// #     "projects": {"search": {"created": "2026-11-01T00:00:00Z"}},
/// #     "gateway": {
/// #         "name": "gateway", "instance": "instance", "state": "enabled", "made_instance": true,
/// #         "created": "2026-11-01T00:00:00Z", "since": "2026-11-01T00:00:00Z",
/// #         "memberships": {"search": {"status": "enabled", "since": "2026-11-01T00:00:00Z", "enabled_times": 1}},
/// #         "limits": {"projects": {"search": {"gpt-4o": {"tokens_per_minute": 100}}}}
/// #     }
/// # }"#)?;
/// // `resource` is a Foundry resource with an enabled gateway: 100 tokens per minute for project search on gpt-4o.
/// let gate = Gate::builder("account".parse()?, &resource).profile(Profile::v2()).build()?;
///
/// let call = Call::model("search", "gpt-4o").with_estimate(Estimate::new(90, 40));
/// match gate.admit(&call)? {
///     Verdict::Passed(passage) => {
///         // call the model, then:
///         passage.settle(&Completion::of(Usage::new(92, 61)))?;
///     }
///     Verdict::Refused(refused) => println!("{} {}", refused.status(), refused.message()),
/// }
///
/// // 153 of 100 are charged: the next call waits for the debt to be paid.
/// let refused = gate.admit(&call)?.refused().ok_or("passed")?;
/// assert_eq!((refused.status(), refused.retry_after()), (429, Some(33)));
/// assert_eq!(refused.message(), "Token limit is exceeded. Try again in 33 seconds.");
/// assert_eq!(gate.figures().of(CallOutcome::RefusedRate), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Gate {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) limiter: Limiter,
    /// Where the counters are, if they are not the limiter's.
    pub(super) elsewhere: Option<Arc<dyn Counters>>,
    resource: ResourceName,
    pub(super) standing: ArcSwap<Standing>,
    pub(super) terms: Terms,
    pub(super) profile: Option<Profile>,
    observers: Vec<Arc<dyn RecordObserver>>,
    pub(super) total: Counts,
    /// Ids of calls: a part of the gate's own and a number.
    run: u64,
    calls: AtomicU64,
    /// Held by who follows a change of the model: the policy and the standing are of one model.
    updating: Mutex<()>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("resource", &self.inner.resource)
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

type Configure = Box<dyn FnOnce(LimiterBuilder) -> LimiterBuilder>;
type Build = Box<dyn FnOnce(LimiterBuilder) -> Result<Limiter, GateError>>;

/// How a [`Gate`] is to be built.
pub struct GateBuilder<'a> {
    name: ResourceName,
    resource: &'a FoundryResource,
    profile: Option<Profile>,
    observers: Vec<Arc<dyn RecordObserver>>,
    configure: Configure,
    build: Build,
    elsewhere: Option<Arc<dyn Counters>>,
}

impl fmt::Debug for GateBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateBuilder").field("resource", &self.name).finish_non_exhaustive()
    }
}

impl GateBuilder<'_> {
    /// Counts, charges and answers as API Management does; as the engine does unless set.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// One more who is told of each call.
    pub fn observer(mut self, observer: Arc<dyn RecordObserver>) -> Self {
        self.observers.push(observer);
        self
    }

    /// What the gate's limiter is to be like: its clock, how many counters and permits it may have, how long permits live.
    pub fn limiter(mut self, configure: impl FnOnce(LimiterBuilder) -> LimiterBuilder + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Who builds the gate's limiter, of what [`limiter`](GateBuilder::limiter) has made of its builder: on a region that
    /// several processes share, or with a store. It is built in this process's memory unless set.
    pub fn built_by(mut self, build: impl FnOnce(LimiterBuilder) -> Result<Limiter, GateError> + 'static) -> Self {
        self.build = Box::new(build);
        self
    }

    /// Where the counters are, if it is somewhere else: on a server that many gates share. Its limiter is then what estimates
    /// are cut to and what tells the time, and counts nothing; calls are decided by [`decide_at`](Gate::decide_at).
    ///
    /// No two gateways may share counters.
    pub fn counters(mut self, elsewhere: Arc<dyn Counters>) -> Self {
        self.elsewhere = Some(elsewhere);
        self
    }

    /// The gate.
    ///
    /// # Errors
    /// [`GateError::Compile`], and whatever the one [who builds](GateBuilder::built_by) its limiter says.
    pub fn build(self) -> Result<Gate, GateError> {
        let terms = self.profile.as_ref().map_or(Terms::native(), Terms::from);
        let policy = policy(self.resource, &terms)?;
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.put_in_force(policy.clone()).map_err(crate::Error::from)?;
        }
        let inner = Inner {
            limiter: (self.build)((self.configure)(Limiter::builder(policy)))?,
            elsewhere: self.elsewhere,
            resource: self.name,
            standing: ArcSwap::from_pointee(Standing::new(self.resource, None)),
            terms,
            profile: self.profile,
            observers: self.observers,
            total: Counts::default(),
            run: crate::table::hasher().hash_one(0),
            calls: AtomicU64::new(0),
            updating: Mutex::new(()),
        };
        Ok(Gate { inner: Arc::new(inner) })
    }
}

fn policy(resource: &FoundryResource, terms: &Terms) -> Result<Policy, CompileError> {
    resource.gateway.as_ref().map_or(Ok(Policy::default()), |gateway| gateway.policy(terms))
}

impl Gate {
    /// The gate of a resource's gateway, as the model stands. Without a gateway all calls bypass it.
    pub fn builder(name: ResourceName, resource: &FoundryResource) -> GateBuilder<'_> {
        let (configure, build): (Configure, Build) =
            (Box::new(|builder| builder), Box::new(|builder| Ok(builder.build())));
        GateBuilder { name, resource, profile: None, observers: Vec::new(), configure, build, elsewhere: None }
    }

    /// Follows the model: memberships, limits, agents and settings as they are in `resource` apply to the next call. Use
    /// that is counted stays, as far as [`Limiter::swap_policy`] keeps it; counters of other limits are not touched.
    ///
    /// # Errors
    /// [`GateError`]; then everything stays as it was.
    pub fn update(&self, resource: &FoundryResource) -> Result<(), GateError> {
        self.update_at(resource, self.now())
    }

    /// [`update`](Gate::update) at `now`.
    ///
    /// # Errors
    /// As [`update`](Gate::update).
    pub fn update_at(&self, resource: &FoundryResource, now: Now) -> Result<(), GateError> {
        let policy = policy(resource, &self.inner.terms)?;
        self.change(resource, || {
            if policy == self.inner.limiter.policy() {
                return Ok(());
            }
            if let Some(elsewhere) = &self.inner.elsewhere {
                elsewhere.put_in_force(policy.clone()).map_err(crate::Error::from)?;
            }
            Ok(self.inner.limiter.swap_policy_at(policy, now)?)
        })
    }

    /// Follows the model in all but its limits: for a gate on a region whose limits another process's gate puts in force.
    ///
    /// # Errors
    /// [`GateError::AnotherGateway`]; then everything stays as it was.
    pub fn update_standing(&self, resource: &FoundryResource) -> Result<(), GateError> {
        self.change(resource, || Ok(()))
    }

    fn change(
        &self,
        resource: &FoundryResource,
        put_in_force: impl FnOnce() -> Result<(), GateError>,
    ) -> Result<(), GateError> {
        let _one = self.inner.updating.lock();
        let before = self.inner.standing.load();
        let mut standing = Standing::new(resource, Some(&before));
        match (&before.gateway, &standing.gateway) {
            (Some(was), Some(now)) if was != now => {
                return Err(GateError::AnotherGateway { was: was.0.clone(), now: now.0.clone() });
            }
            // Deleted: the gate remembers whose it was.
            (Some(_), None) => standing.gateway.clone_from(&before.gateway),
            _ => {}
        }
        put_in_force()?;
        self.inner.standing.store(Arc::new(standing));
        Ok(())
    }

    /// What the gate's clock shows.
    pub fn now(&self) -> Now {
        self.inner.limiter.now()
    }

    /// The limiter with the gateway's counters, to view them. What is admitted on it directly, the gate does not see.
    pub fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    /// Whoever has the permits of its calls: its limiter, or [whoever has its counters](GateBuilder::counters).
    pub fn permits(&self) -> &dyn Permits {
        match &self.inner.elsewhere {
            Some(elsewhere) => &**elsewhere,
            None => &self.inner.limiter,
        }
    }

    /// The gateway's counters, as [`Limiter::usage_at`]; where they are on a server, as they were when they were last looked at.
    pub fn usage_at(&self, filter: &UsageFilter, now: Now) -> Vec<CounterUsage> {
        match &self.inner.elsewhere {
            Some(elsewhere) => elsewhere.usage(filter),
            None => self.inner.limiter.usage_at(filter, now),
        }
    }

    /// What limits have left, and what a call has consumed once that is known, as headers of its profile's names.
    pub fn headers(&self, left: Remaining, consumed: Option<u64>) -> Vec<(String, u64)> {
        self.wording().headers(left, consumed)
    }

    /// The headers of a refusal, by its profile's names.
    pub fn refusal_headers(&self, refused: &RefusedCall) -> Vec<(String, u64)> {
        let profile = self.wording();
        match refused.answer() {
            Some(answer) => answer.headers(&profile),
            None => profile.headers.retry_after.clone().zip(refused.retry_after()).into_iter().collect(),
        }
    }

    /// Where the engine answers for itself, only the headers' names are of a profile: the default one.
    fn wording(&self) -> Cow<'_, Profile> {
        self.inner.profile.as_ref().map_or_else(Cow::default, Cow::Borrowed)
    }

    /// How it charges and answers, where that is not as the engine does.
    pub fn profile(&self) -> Option<&Profile> {
        self.inner.profile.as_ref()
    }

    /// All calls, by what came of them.
    pub fn figures(&self) -> Figures {
        self.inner.total.read()
    }

    /// The calls of one project of the resource; `None` if it has no such project.
    pub fn project_figures(&self, project: &ProjectName) -> Option<Figures> {
        self.inner.standing.load().projects.get(project).map(|project| project.counts.read())
    }

    /// The calls of projects that the resource does not have.
    pub fn unknown_figures(&self) -> Figures {
        self.inner.standing.load().unknown.read()
    }

    /// Counts a call that a gate of another process has decided on, and tells the observers of it. The counters of limits
    /// are not touched: they are the other gate's business, or in a region that both share.
    pub fn take_over(&self, record: &UsageRecord) {
        self.inner.total.add(record.outcome);
        self.inner.standing.load().counts(&record.project).add(record.outcome);
        self.inner.tell(record);
    }

    /// Decides on a call: it passes, governed or not, or it is refused.
    ///
    /// # Errors
    /// As [`Limiter::admit`]; [`Error::Store`] where [the counters are elsewhere](GateBuilder::counters). The call is counted
    /// and recorded as [`CallOutcome::Failed`]; no limit has been charged.
    pub fn admit(&self, call: &Call<'_>) -> Result<Verdict, Error> {
        self.admit_at(call, self.now())
    }

    /// [`admit`](Gate::admit) at `now`.
    ///
    /// # Errors
    /// As [`admit`](Gate::admit).
    pub fn admit_at(&self, call: &Call<'_>, now: Now) -> Result<Verdict, Error> {
        let standing = self.inner.standing.load();
        let estimate = match self.before_limits(&standing, call, now) {
            Before::Limits(estimate) => estimate,
            Before::Verdict(verdict) => return Ok(verdict),
        };
        let decided = match &self.inner.elsewhere {
            Some(_) => Err(is_elsewhere()),
            None => call.with_request(|request| self.inner.limiter.admit_at(request, estimate, now)).map(Decided::from),
        };
        self.after_limits(&standing, call, (estimate, decided), now)
    }

    /// [`admit_at`](Gate::admit_at), also where [the counters are elsewhere](GateBuilder::counters): then it waits for them.
    /// Otherwise it is ready at once.
    ///
    /// # Errors
    /// As [`admit`](Gate::admit); [`Error::Store`] if nobody can decide.
    pub async fn decide_at(&self, call: &Call<'_>, now: Now) -> Result<Verdict, Error> {
        let Some(elsewhere) = &self.inner.elsewhere else { return self.admit_at(call, now) };
        let standing = self.inner.standing.load_full();
        let estimate = match self.before_limits(&standing, call, now) {
            Before::Limits(estimate) => estimate,
            Before::Verdict(verdict) => return Ok(verdict),
        };
        let decided = {
            let keys = call.request_keys();
            let request = call.request(&keys);
            elsewhere.admit(&request, estimate).await
        };
        self.after_limits(&standing, call, (estimate, decided), now)
    }

    /// What comes of a call before its limits are asked.
    fn before_limits(&self, standing: &Standing, call: &Call<'_>, now: Now) -> Before {
        match standing.stand(call) {
            Stand::Governed => Before::Limits(self.charged_at_once(call)),
            Stand::Bypassed => {
                let record = self.begin(standing, call, CallOutcome::Bypassed, now);
                let passage = Passage::new(self.clone(), None, record, now, Estimate::default());
                Before::Verdict(Verdict::Passed(passage))
            }
            Stand::Refused(status, reason, wrong) => {
                let outcome = match wrong {
                    Wrong::AgentBlocked => CallOutcome::RefusedAgentBlocked,
                    _ => CallOutcome::RefusedUngoverned,
                };
                let mut record = self.begin(standing, call, outcome, now);
                record.response_code = Some(status);
                let (source, reason) = ("gateway".to_owned(), reason.to_owned());
                record.last_error = Some(LastError { source, reason, message: wrong.message(call) });
                self.inner.tell(&record);
                Before::Verdict(Verdict::Refused(RefusedCall::new(record, None, None)))
            }
        }
    }

    /// What comes of a call that was charged `estimate`, by what its limits have decided.
    fn after_limits(
        &self,
        standing: &Standing,
        call: &Call<'_>,
        (estimate, decided): (Estimate, Result<Decided, Error>),
        now: Now,
    ) -> Result<Verdict, Error> {
        match decided {
            Err(error) => {
                let mut record = self.begin(standing, call, CallOutcome::Failed, now);
                let (source, reason) = ("tokenweir".to_owned(), error.name().to_owned());
                record.last_error = Some(LastError { source, reason, message: error.to_string() });
                self.inner.tell(&record);
                Err(error)
            }
            Ok(Decided::Admitted(permit)) => {
                let record = self.begin(standing, call, CallOutcome::Admitted, now);
                Ok(Verdict::Passed(Passage::new(self.clone(), Some(permit), record, now, estimate)))
            }
            Ok(Decided::Denied(denied)) => Ok(Verdict::Refused(self.refuse(standing, call, *denied, estimate, now))),
        }
    }

    /// What the limits of a call have left, for headers: nothing if it is not governed.
    ///
    /// # Errors
    /// As [`Limiter::peek`]; [`Error::Store`] where [the counters are elsewhere](GateBuilder::counters).
    pub fn remaining_at(&self, call: &Call<'_>, now: Now) -> Result<Remaining, Error> {
        if self.inner.standing.load().stand(call) != Stand::Governed {
            return Ok(Remaining::default());
        }
        let peek = self.peek_at(call, Estimate::default(), now)?;
        let left: Vec<_> = peek.limits.into_iter().map(|view| (view.limit, view.remaining)).collect();
        Ok(self.inner.remaining(&left, 0))
    }

    /// Whether calls of this kind are governed, and so counted by limits.
    pub(in crate::gateway) fn governs(&self, call: &Call<'_>) -> bool {
        self.inner.standing.load().stand(call) == Stand::Governed
    }

    /// What would come of a call that is charged `estimate` at once. Nothing is taken.
    ///
    /// # Errors
    /// As [`remaining_at`](Gate::remaining_at).
    pub(in crate::gateway) fn peek_at(&self, call: &Call<'_>, estimate: Estimate, now: Now) -> Result<Peek, Error> {
        if self.inner.elsewhere.is_some() {
            return Err(is_elsewhere());
        }
        call.with_request(|request| self.inner.limiter.peek_at(request, estimate, now))
    }

    /// What of a call's estimate is charged at admission.
    fn charged_at_once(&self, call: &Call<'_>) -> Estimate {
        let estimate = call.estimate.unwrap_or_default();
        match &self.inner.profile {
            Some(profile) => profile.estimate(estimate.input, call.streamed),
            None => estimate,
        }
    }

    fn refuse(&self, standing: &Standing, call: &Call<'_>, denied: Denied, asked: Estimate, now: Now) -> RefusedCall {
        let answer = self.inner.profile.as_ref().map(|profile| profile.answer(&denied, asked, now));
        let (status, limit, retry_after, error) = match &answer {
            Some(answer) => {
                let (source, reason, message) = (answer.source, answer.reason, &answer.message);
                (answer.status, answer.limit.clone(), answer.retry_after, (source, reason, message.clone()))
            }
            None => {
                let (limit, retry_after) = (denied.limit().to_owned(), denied.retry_after_seconds());
                let message = match retry_after {
                    Some(seconds) => format!("Limit {limit:?} is exceeded. Try again in {seconds} s."),
                    None if denied.never_fits() => format!("The request is larger than the whole limit {limit:?}."),
                    None => format!("Limit {limit:?} is exceeded."),
                };
                (denied.status(), limit, retry_after, ("tokenweir", "LimitExceeded", message))
            }
        };
        let outcome = if status == 403 { CallOutcome::RefusedQuota } else { CallOutcome::RefusedRate };
        let mut record = self.begin(standing, call, outcome, now);
        record.response_code = Some(status);
        record.limit = Some(limit);
        record.refused_by = denied.refusals().map(|refusal| refusal.limit.to_owned()).collect();
        record.retry_after = retry_after;
        record.never_fits = denied.never_fits();
        let (source, reason, message) = error;
        record.last_error = Some(LastError { source: source.to_owned(), reason: reason.to_owned(), message });
        self.inner.tell(&record);
        RefusedCall::new(record, answer, Some(denied))
    }

    /// Counts a call, and begins its record.
    fn begin(&self, standing: &Standing, call: &Call<'_>, outcome: CallOutcome, now: Now) -> UsageRecord {
        self.inner.total.add(outcome);
        standing.counts(call.project).add(outcome);
        let own = |text: Option<&str>| text.map(str::to_owned);
        let caller = call.keys.iter().map(|key| (key.name.to_owned(), String::from_utf8_lossy(key.value).into_owned()));
        UsageRecord {
            time: now.into(),
            correlation_id: call.correlation_id.map_or_else(|| self.inner.correlation_id(), str::to_owned),
            resource: self.inner.resource.clone(),
            region: standing.region.clone(),
            gateway: standing.gateway.as_ref().map(|(name, _)| name.clone()),
            project: call.project.to_owned(),
            project_known: standing.projects.contains_key(call.project),
            deployment: own(call.deployment),
            deployment_served: None,
            model: call.deployment.and_then(|name| standing.deployments.get(name)).map(ToString::to_string),
            model_served: None,
            agent: own(call.agent),
            tool: own(call.tool),
            operation: own(call.operation),
            caller: caller.collect(),
            dimensions: standing.dimensions(&self.inner.resource, call),
            outcome,
            limit: None,
            refused_by: Vec::new(),
            retry_after: None,
            never_fits: false,
            response_code: None,
            backend_response_code: None,
            streamed: call.streamed,
            estimated_input: call.estimate.map(|estimate| estimate.input),
            estimated_output: call.estimate.map(|estimate| estimate.output),
            input: None,
            cached_input: None,
            output: None,
            reasoning: None,
            charged_input: None,
            charged_output: None,
            estimated: None,
            ended: None,
            total_time: std::time::Duration::ZERO,
            backend_time: None,
            first_token_time: None,
            last_error: None,
        }
    }
}

/// What comes of a call before its limits are asked.
enum Before {
    /// They are, and charged this.
    Limits(Estimate),
    /// Something else has decided.
    Verdict(Verdict),
}

impl From<Decision<'_>> for Decided {
    fn from(decision: Decision<'_>) -> Self {
        match decision {
            Decision::Admitted(permit) => Decided::Admitted(permit.into_id()),
            Decision::Denied(denied) => Decided::Denied(Box::new(denied)),
        }
    }
}

fn is_elsewhere() -> Error {
    StoreError::new("the gate's counters are on a server, and it can be waited for by Gate::decide_at only").into()
}

impl Inner {
    pub(super) fn tell(&self, record: &UsageRecord) {
        self.observers.iter().for_each(|observer| observer.recorded(record));
    }

    pub(super) fn remaining(&self, left: &[(String, i64)], charged: u64) -> Remaining {
        let policy = self.limiter.policy();
        match &self.profile {
            Some(profile) => profile.remaining(&policy, left, charged),
            None => Profile::v2().remaining(&policy, left, charged),
        }
    }

    /// Different for each call of this gate, and those of other gates but for a chance of about 2^-64.
    fn correlation_id(&self) -> String {
        format!("{:016x}{:016x}", self.run, self.calls.fetch_add(1, Relaxed))
    }
}
