//! A policy written as JSON, so that reading it gives the same one.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::limit::{Algorithm, Limit, Mode, Policy, Price, Until, Weights};
use super::period::Written as WrittenPeriod;

/// A list of keys and values, in its order.
struct Pairs<K, V>(Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for Pairs<K, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
        map.end()
    }
}

#[derive(serde::Serialize)]
struct WrittenPolicy<'a> {
    limit: Vec<WrittenLimit<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    price: Vec<WrittenPrice<'a>>,
}

#[derive(serde::Serialize)]
struct WrittenLimit<'a> {
    name: &'a str,
    meter: &'static str,
    algorithm: &'static str,
    amount: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_windows: Option<u32>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    period: Option<WrittenPeriod<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scope: Vec<String>,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matches: Option<Pairs<String, &'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overrides: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    require: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<WrittenWeights<'a>>,
}

#[derive(serde::Serialize)]
struct WrittenWeights<'a> {
    input: u64,
    cached_input: u64,
    output: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<Pairs<&'a str, u64>>,
}

#[derive(serde::Serialize)]
struct WrittenPrice<'a> {
    deployment: &'a str,
    input: u64,
    cached_input: u64,
    output: u64,
}

impl<'a> From<&'a Limit> for WrittenLimit<'a> {
    fn from(limit: &'a Limit) -> Self {
        // Every `per` is whole seconds.
        let seconds = |nanos: u64| Some(format!("{}s", nanos / 1_000_000_000));
        let (mut per, mut burst, mut sub_windows, mut period) = (None, None, None, None);
        match &limit.algorithm {
            Algorithm::Bucket { per: nanos, burst: most, amount } => {
                per = seconds(*nanos);
                burst = (most != amount).then_some(*most);
            }
            Algorithm::Window { per: nanos, sub_windows: parts, .. } => {
                per = seconds(*nanos);
                sub_windows = Some(*parts);
            }
            Algorithm::Quota { period: its, .. } => period = Some(its.written()),
            Algorithm::InFlight { .. } => {}
        }
        let matches = || limit.matches.iter().map(|(field, pattern)| (field.to_string(), pattern.as_str())).collect();
        WrittenLimit {
            name: &limit.name,
            meter: limit.meter.as_str(),
            algorithm: limit.algorithm.as_str(),
            amount: limit.algorithm.amount(),
            per,
            burst,
            sub_windows,
            period,
            until: (limit.until != Until::default()).then(|| limit.until.as_str()),
            scope: limit.scope.iter().map(ToString::to_string).collect(),
            matches: (!limit.matches.is_empty()).then(|| Pairs(matches())),
            overrides: limit.overrides.as_deref(),
            mode: (limit.mode != Mode::default()).then(|| limit.mode.as_str()),
            require: limit.require,
            weights: (limit.weights != Weights::default()).then(|| (&limit.weights).into()),
        }
    }
}

impl<'a> From<&'a Weights> for WrittenWeights<'a> {
    fn from(weights: &'a Weights) -> Self {
        let Weights { input, cached_input, output, ref deployment } = *weights;
        let pairs = || deployment.iter().map(|(pattern, weight)| (pattern.as_str(), *weight)).collect();
        let deployment = (!deployment.is_empty()).then(|| Pairs(pairs()));
        WrittenWeights { input, cached_input, output, deployment }
    }
}

impl<'a> From<&'a Price> for WrittenPrice<'a> {
    fn from(price: &'a Price) -> Self {
        let Price { ref deployment, input, cached_input, output } = *price;
        WrittenPrice { deployment: deployment.as_str(), input, cached_input, output }
    }
}

impl Policy {
    /// The policy as JSON, on one line. [`from_json`](Policy::from_json) reads it as an equal one: comments, and what is
    /// said though it goes without saying, are not kept.
    ///
    /// # Example
    /// ```
    /// use tokenweir::Policy;
    /// let policy = Policy::from_toml(r#"
    ///     [[limit]]
    ///     name = "at once"
    ///     meter = "in_flight"
    ///     algorithm = "in_flight"
    ///     amount = 40
    /// "#)?;
    /// let text = policy.to_json();
    /// assert_eq!(text, r#"{"limit":[{"name":"at once","meter":"in_flight","algorithm":"in_flight","amount":40}]}"#);
    /// assert_eq!(Policy::from_json(&text)?, policy);
    /// # Ok::<(), tokenweir::policy::PolicyError>(())
    /// ```
    pub fn to_json(&self) -> String {
        let limit = self.0.limits.iter().map(WrittenLimit::from).collect();
        let price = self.0.prices.iter().map(WrittenPrice::from).collect();
        // Texts and numbers are always JSON.
        serde_json::to_string(&WrittenPolicy { limit, price }).unwrap_or_default()
    }
}

impl Limit {
    /// The limit, as far as its counters are concerned: whom it applies to, and what it charges, is left out.
    pub(crate) fn bare(&self) -> Limit {
        Limit {
            name: self.name.clone(),
            meter: self.meter,
            algorithm: self.algorithm.clone(),
            scope: self.scope.clone(),
            matches: Vec::new(),
            overrides: None,
            mode: Mode::default(),
            require: false,
            weights: Weights::default(),
            until: self.until,
        }
    }

    /// A bare limit as the document of a policy that has no other.
    pub(crate) fn bare_to_json(&self) -> String {
        // A limit of cost is none without a price.
        let price = vec![WrittenPrice { deployment: "*", input: 0, cached_input: 0, output: 0 }];
        serde_json::to_string(&WrittenPolicy { limit: vec![self.into()], price }).unwrap_or_default()
    }

    /// A bare limit from such a document.
    pub(crate) fn bare_from_json(text: &str) -> Option<Limit> {
        Policy::from_json(text).ok()?.0.limits.first().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something of everything that a policy can say.
    const ALL: &str = r#"
        [[limit]]
        name = "a \"b\" ä"
        meter = "total"
        algorithm = "bucket"
        amount = 100
        per = "1h30m"
        burst = 9_007_199_254_740_992
        scope = ["key:user", "deployment", "project"]
        match = { "key:tier" = "free", project = "se*ch", deployment = "*" }
        require = true
        weights = { cached_input = 0, output = 4000, deployment = { "z*" = 2500, "a" = 0 } }
        [[limit]]
        name = "exception"
        overrides = "a \"b\" ä"
        match = { project = "search" }
        meter = "cost"
        algorithm = "window"
        amount = 5
        per = "10s"
        until = "passed"
        mode = "shadow"
        [[limit]]
        name = "week"
        meter = "input"
        algorithm = "quota"
        amount = 7
        period = "weekly"
        week_start = "sunday"
        time_zone = "Europe/Berlin"
        [[limit]]
        name = "hour"
        meter = "output"
        algorithm = "quota"
        amount = 7
        period = "hourly"
        time_zone = "Etc/UTC"
        [[limit]]
        name = "ever"
        meter = "requests"
        algorithm = "quota"
        amount = 7
        period = "never"
        [[limit]]
        name = "every"
        meter = "requests"
        algorithm = "quota"
        amount = 7
        period = { every = "90m", anchor = "2026-01-31T08:00:00+02:00" }
        [[limit]]
        name = "every other"
        meter = "requests"
        algorithm = "quota"
        amount = 7
        period = { every = "36600d" }
        [[limit]]
        name = "places"
        meter = "in_flight"
        algorithm = "in_flight"
        amount = 7
        [[price]]
        deployment = "gpt*"
        input = 2500
        cached_input = 0
        output = 10000
        [[price]]
        deployment = "*"
        input = 1
        output = 2
    "#;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for policy in [Policy::from_toml(ALL).unwrap(), Policy::default(), Policy::from_toml(ALL).unwrap().share(1)] {
            let text = policy.to_json();
            let read = Policy::from_json(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read, policy, "{text}");
            assert_eq!(read.to_json(), text);
        }
    }

    #[test]
    fn a_bare_limit_has_the_same_counters() {
        for limit in Policy::from_toml(ALL).unwrap().limits() {
            let bare = Limit::bare_from_json(&limit.bare().bare_to_json()).expect("it is a limit");
            assert_eq!(bare, limit.bare());
            assert_eq!(bare.identity(), limit.identity());
            assert_eq!((bare.algorithm(), bare.until()), (limit.algorithm(), limit.until()));
        }
    }
}
