//! Another policy while there is use, and while permits are open.

use crate::{KINDS, Stage};

pub(crate) fn what_was_counted_stays_counted_under_another_policy(stage: &Stage<'_>) {
    // A bucket keeps its balance instead, whatever its size.
    for kind in &KINDS[..2] {
        let policy = |name: &str, amount: u64| {
            format!("[[limit]]\nname = '{name}'\nmeter = 'total'\namount = {amount}\n{kind}\n")
        };
        let limiters = stage.begin(&policy("tokens", 1000));
        let permit = limiters.admitted(0, 300, 300);
        limiters.change(1, &policy("tokens", 1500));
        limiters.has_exactly(2, 900);
        limiters.change(2, &policy("tokens", 500));
        limiters.refuses(1, 1, 0);
        // Another limit has counters of its own, and what is open is of the one it was admitted by.
        limiters.change(0, &policy("others", 500));
        limiters.has_exactly(1, 500);
        limiters.settle(2, permit, 100, 0);
        limiters.has_exactly(2, 500);
        limiters.change(1, &policy("tokens", 500));
        limiters.has_exactly(0, 400);
    }
}
