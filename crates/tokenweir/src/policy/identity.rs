//! What makes a counter the same counter under another policy.

use super::limit::{Algorithm, Limit, Meter, Mode, Until, Weights};
use super::period::Period;

impl Limit {
    /// What the limit's counters are known by, as JSON: its name, meter, algorithm with period, and scope.
    ///
    /// Counters go on under every policy that has a limit of the same identity; another one begins with new counters.
    /// The meter belongs to it because tokens cannot be compared with requests.
    pub fn identity(&self) -> String {
        let algorithm = self.algorithm.as_str();
        let algorithm = match &self.algorithm {
            Algorithm::Bucket { per, .. } => format!("{algorithm} {per}"),
            Algorithm::Window { per, sub_windows, .. } => format!("{algorithm} {per}/{sub_windows}"),
            Algorithm::Quota { period, .. } => format!("{algorithm} {period}"),
            Algorithm::InFlight { .. } => algorithm.to_owned(),
        };
        let scope: Vec<String> = self.scope.iter().map(ToString::to_string).collect();
        // A list of texts is always JSON.
        serde_json::to_string(&(&*self.name, self.meter.as_str(), algorithm, scope)).unwrap_or_default()
    }

    /// A limit of this [`identity`](Limit::identity), for who has its counters and no policy with it. What an identity does
    /// not say is as if unwritten, and the amount, which none says, is 1. `None` if it is no limit's identity.
    ///
    /// # Example
    /// ```
    /// use tokenweir::policy::{Algorithm, Limit};
    /// let limit = Limit::from_identity(r#"["project tpm","total","window 60000000000/60",["project"]]"#).unwrap();
    /// let minute = Algorithm::Window { amount: 1, per: 60_000_000_000, sub_windows: 60 };
    /// assert_eq!((&**limit.name(), limit.algorithm()), ("project tpm", &minute));
    /// ```
    pub fn from_identity(identity: &str) -> Option<Self> {
        let (name, meter, algorithm, scope): (String, String, String, Vec<String>) =
            serde_json::from_str(identity).ok()?;
        let limit = Limit {
            name: name.into(),
            meter: Meter::ALL.into_iter().find(|known| known.as_str() == meter)?,
            algorithm: terms(&algorithm)?,
            scope: scope.iter().map(|part| part.parse().ok()).collect::<Option<_>>()?,
            matches: Vec::new(),
            overrides: None,
            mode: Mode::default(),
            require: false,
            weights: Weights::default(),
            until: Until::default(),
        };
        // A policy that has it says whether there can be such a limit.
        Limit::bare_from_json(&limit.bare_to_json()).filter(|limit| limit.identity() == identity)
    }
}

/// An algorithm with its period, as an identity has it.
fn terms(written: &str) -> Option<Algorithm> {
    let (word, terms) = written.split_once(' ').unwrap_or((written, ""));
    Some(match word {
        "bucket" => Algorithm::Bucket { amount: 1, per: terms.parse().ok()?, burst: 1 },
        "window" => {
            let (per, sub_windows) = terms.split_once('/')?;
            Algorithm::Window { amount: 1, per: per.parse().ok()?, sub_windows: sub_windows.parse().ok()? }
        }
        "quota" => Algorithm::Quota { amount: 1, period: Period::shown(terms)? },
        _ => Algorithm::InFlight { amount: 1 },
    })
}

#[cfg(test)]
mod tests {
    use crate::policy::{Limit, Policy};

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        for terms in [
            "algorithm = 'bucket'\nper = '1h30m'\nburst = 9",
            "algorithm = 'window'\nper = '10s'",
            "algorithm = 'quota'\nperiod = 'hourly'\ntime_zone = 'Etc/UTC'",
            "algorithm = 'quota'\nperiod = 'daily'\ntime_zone = 'Asia/Kathmandu'",
            "algorithm = 'quota'\nperiod = 'weekly'",
            "algorithm = 'quota'\nperiod = 'weekly'\nweek_start = 'sunday'\ntime_zone = 'America/Port-au-Prince'",
            "algorithm = 'quota'\nperiod = 'monthly'\nuntil = 'passed'",
            "algorithm = 'quota'\nperiod = 'yearly'",
            "algorithm = 'quota'\nperiod = 'never'",
            "algorithm = 'quota'\nperiod = { every = '90m', anchor = '2026-01-31T10:00:00+02:00' }",
            "algorithm = 'quota'\nperiod = { every = '36600d' }",
            "algorithm = 'in_flight'",
        ] {
            let meter = if terms.contains("in_flight") { "in_flight" } else { "cost" };
            let text = format!(
                "[[limit]]\nname = 'a \"b\" in ä'\nmeter = '{meter}'\nscope = ['key:x y', 'project']\namount = 7\n{terms}\n\
                 [[price]]\ndeployment = '*'\ninput = 1\noutput = 1\n"
            );
            let limit = Policy::from_toml(&text).unwrap().limits()[0].clone();
            let read = Limit::from_identity(&limit.identity()).unwrap_or_else(|| panic!("{}", limit.identity()));
            assert_eq!(read.identity(), limit.identity());
            assert_eq!((read.name(), read.meter(), read.scope()), (limit.name(), limit.meter(), limit.scope()));
            assert_eq!(read.algorithm().as_str(), limit.algorithm().as_str());
        }
    }

    #[test]
    fn what_is_no_identity_is_none() {
        for wrong in [
            "",
            "[]",
            r#"["","total","bucket 60000000000",[]]"#,
            r#"["a","tokens","bucket 60000000000",[]]"#,
            r#"["a","total","bucket 0",[]]"#,
            r#"["a","total","bucket 60000000001",[]]"#,
            r#"["a","total","bucket +60000000000",[]]"#,
            r#"["a", "total","bucket 60000000000",[]]"#,
            r#"["a","total","window 60000000000/0",[]]"#,
            r#"["a","total","window 60000000000/501",[]]"#,
            r#"["a","total","quota fortnightly",[]]"#,
            r#"["a","total","quota every 0s",[]]"#,
            r#"["a","total","quota weekly from monday",[]]"#,
            r#"["a","total","quota daily from monday",[]]"#,
            r#"["a","total","quota monthly in Atlantis",[]]"#,
            r#"["a","total","in_flight",[]]"#,
            r#"["a","in_flight","places",[]]"#,
            r#"["a","total","bucket 60000000000",["town"]]"#,
            r#"["a","total","bucket 60000000000",["project","project"]]"#,
        ] {
            assert!(Limit::from_identity(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn amounts_and_modes_are_no_part_of_it_and_periods_are() {
        let identity = |fields: &str| {
            let text = format!(
                "[[limit]]\nname = \"a \\\"b\\\"\"\nmeter = 'total'\nscope = ['project', 'key:user']\n{fields}"
            );
            Policy::from_toml(&text).unwrap().limits()[0].identity()
        };
        let month = identity("algorithm = 'quota'\namount = 5\nperiod = 'monthly'");
        assert_eq!(month, r#"["a \"b\"","total","quota monthly",["project","key:user"]]"#);
        assert_eq!(month, identity("algorithm = 'quota'\namount = 6\nperiod = 'monthly'\nmode = 'shadow'"));
        assert_ne!(month, identity("algorithm = 'quota'\namount = 5\nperiod = 'daily'"));
        let window = identity("algorithm = 'window'\namount = 5\nper = '1m'\nsub_windows = 6");
        assert_ne!(window, identity("algorithm = 'window'\namount = 5\nper = '1m'\nsub_windows = 5"));
        assert_ne!(window, identity("algorithm = 'bucket'\namount = 5\nper = '1m'"));
    }
}
