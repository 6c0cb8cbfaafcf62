//! The scripts: what is decided on the server, in one call and as one step.

/// A script and the name that the server gives it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: String,
    pub(crate) sha: String,
}

/// All scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) admit: Script,
    pub(crate) many: Script,
    pub(crate) settle: Script,
    pub(crate) renew: Script,
}

#[cfg(test)]
const CLOCK: &str = "call('TIME')";

impl Scripts {
    /// Those that go by the server's own clock.
    pub(crate) fn new() -> Self {
        Self::made(|text| text)
    }

    /// Those whose clock is a key, in microseconds. Nothing expires there by the server's own clock.
    #[cfg(test)]
    pub(crate) fn with_clock(key: &str) -> Self {
        Self::made(|text| {
            let clock = format!("{{0, call('GET', '{key}')}}");
            text.replace(CLOCK, &clock)
                .replace("'PX', ", "'PX', 100000000 + ")
                .replace("2 * milliseconds", "100000000 + milliseconds")
        })
    }

    fn made(adapt: impl Fn(String) -> String) -> Self {
        let (head, common) = (include_str!("lua/head.lua"), include_str!("lua/common.lua"));
        let script = |parts: &[&str]| {
            let text = adapt(parts.concat());
            // Comments are for whoever reads this, not for the server.
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
            let text = lines.collect::<Vec<_>>().join("\n");
            let sha = redis::Script::new(&text).get_hash().to_owned();
            Script { text, sha }
        };
        Scripts {
            admit: script(&[head, include_str!("lua/quick.lua"), common, include_str!("lua/admit.lua")]),
            many: script(&[head, include_str!("lua/many.lua")]),
            settle: script(&[head, common, include_str!("lua/settle.lua")]),
            renew: script(&[head, common, include_str!("lua/renew.lua")]),
        }
    }
}
