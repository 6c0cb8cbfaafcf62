//! What makes a counter the same counter under another policy.

use super::limit::{Algorithm, Limit};

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
}

#[cfg(test)]
mod tests {
    use crate::policy::Policy;

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
