//! Scenarios out of bytes, for a fuzzer to make: every input is one, and a changed byte changes one thing.

use super::trace::{DAY, HOUR, MILLISECOND, MINUTE, Op, SECOND, Scenario, Which, fastest, part};
use serde_json::{Value, json};

/// A scenario lasts for so many steps at most.
const STEPS: usize = 80;

/// The bytes that are left; zeros when none are.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()].clone()
    }

    fn which(&mut self) -> Which {
        Which(u16::from(self.byte()) << 8)
    }

    /// Up to 256 of a unit, from a nanosecond to days.
    fn time(&mut self) -> u64 {
        let units = [1, 1000, MILLISECOND, 8 * MILLISECOND, 100 * MILLISECOND, SECOND, MINUTE, HOUR, 2 * DAY];
        let unit = self.pick(&units);
        unit * (u64::from(self.byte()) + 1)
    }
}

/// The scenario that these bytes describe.
pub fn scenario(bytes: &[u8]) -> Scenario {
    let mut bytes = Bytes(bytes);
    // Mostly so small that a few calls fill a limit.
    let scale = bytes.pick(&[128, 128, 16, 2, 1000, 5_000_000, 70_000_000_000]);
    let ttl = bytes.pick(&[2 * SECOND, 10 * MINUTE, 400 * DAY]);
    let byte = bytes.byte();
    let (count, histories) = (1 + byte % 5, [100, 100, 1, 0][usize::from(byte / 5 % 4)]);
    let limits = (0..count).map(|number| limit(number, scale, &mut bytes)).collect();
    let mut ops = Vec::new();
    while ops.len() < STEPS && !bytes.0.is_empty() {
        ops.push(op(&mut bytes));
    }
    Scenario { limits, scale, ttl, histories, ops }
}

fn limit(number: u8, scale: u64, bytes: &mut Bytes<'_>) -> Value {
    let mut limit = bytes.pick(&[
        json!({ "meter": "total" }),
        json!({ "meter": "input" }),
        json!({ "meter": "output" }),
        json!({ "meter": "cost" }),
        json!({ "meter": "total", "weights": { "cached_input": 0, "output": 4000 } }),
        json!({ "meter": "total", "weights": { "input": 333, "deployment": { "d1": 2500 } } }),
        json!({ "meter": "requests" }),
    ]);
    let (kind, shape, size, rate) = (bytes.byte(), bytes.byte(), u64::from(bytes.byte()), u64::from(bytes.byte()));
    let amount = if limit["meter"] == "requests" { 1 + size % 12 } else { part(scale, 20 + size * 8) };
    match kind % 4 {
        0 => {
            let per = ["1s", "1m", "1h"][usize::from(shape % 3)];
            limit["algorithm"] = json!("bucket");
            limit["per"] = json!(per);
            limit["burst"] = json!(amount);
            // From a trickle to hundreds of times the burst.
            limit["amount"] = json!((amount * (1 + rate) * (1 + rate) / 256).clamp(1, fastest(per)));
        }
        1 => {
            let shapes = [("1s", 1), ("1s", 10), ("10s", 2), ("1m", 60), ("1m", 12), ("1m", 1), ("1h", 100)];
            let (per, sub_windows) = shapes[usize::from(shape) % shapes.len()];
            limit["algorithm"] = json!("window");
            limit["amount"] = json!(amount.min(1_000_000_000));
            limit["per"] = json!(per);
            limit["sub_windows"] = json!(sub_windows);
        }
        2 => {
            let periods = ["hourly", "daily", "weekly", "monthly", "yearly", "never"];
            let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
            limit["algorithm"] = json!("quota");
            limit["amount"] = json!(amount * 4);
            match periods.get(usize::from(shape % 8)) {
                Some(period) => {
                    limit["period"] = json!(period);
                    if *period != "never" {
                        limit["time_zone"] = json!(zones[rate as usize % zones.len()]);
                    }
                }
                None => limit["period"] = json!({ "every": format!("{}s", 1 + rate) }),
            }
        }
        _ => limit = json!({ "meter": "in_flight", "algorithm": "in_flight", "amount": 1 + size % 5 }),
    }
    limit["name"] = json!(format!("l{number}"));
    limit["scope"] = bytes.pick(&[
        json!([]),
        json!(["project"]),
        json!(["deployment"]),
        json!(["project", "deployment"]),
        json!(["key:user"]),
    ]);
    if kind >= 224 {
        limit["mode"] = json!("shadow");
    }
    limit
}

fn op(bytes: &mut Bytes<'_>) -> Op {
    let option = |byte: u8| (!byte.is_multiple_of(8)).then_some(byte);
    match bytes.byte() % 32 {
        0..10 => {
            let who = bytes.byte();
            Op::Admit {
                project: who % 3,
                deployment: who / 3 % 2,
                user: [None, Some(0), Some(1)][usize::from(who / 6 % 3)],
                input: bytes.byte(),
                output: bytes.byte(),
                raii: who >= 128,
            }
        }
        10..14 => Op::Wait(bytes.time()),
        14..16 => Op::WaitAsTold { less: u64::from(bytes.byte() % 2) },
        16 => {
            let times = i64::from(bytes.byte() as i8);
            Op::SetWall(times * bytes.time() as i64 / 16)
        }
        17 => Op::StepBack(bytes.time()),
        18..20 => Op::Observe { which: bytes.which(), input: bytes.byte() / 2, output: bytes.byte() },
        20..24 => Op::Settle {
            which: bytes.which(),
            input: option(bytes.byte()),
            cached: option(bytes.byte()),
            output: option(bytes.byte()),
        },
        24 => Op::Cancel(bytes.which()),
        25 => Op::Drop(bytes.which()),
        26 => Op::Again(bytes.which()),
        27 => Op::Renew { which: bytes.which(), ttl: bytes.time() },
        28 => Op::Sweep,
        29 => Op::Swap { which: bytes.which(), amount: bytes.byte(), rate: bytes.byte() },
        _ => Op::Toggle(bytes.which()),
    }
}
