//! What is claimed of several limits together, at a time that stands still: who is refused was short of something that
//! somebody had or asked for, and at the end the books agree.

use super::record::{Each, Event, Kind, Recorded};

/// One permit, as the calls on it were recorded.
struct Life<'a> {
    admitted: &'a Recorded,
    n: u64,
    ended: Option<&'a Recorded>,
    /// What it came to, or its estimate while it is open.
    spent: u64,
}

impl Each<'_> {
    /// S6 and S5: nobody is denied for what nobody takes, and a limit's use is what was spent and what is held.
    pub fn check_together(&self) {
        let lives = self.lives();
        for denied in self.calls() {
            if let Event::Denied { n, refused } = &denied.event {
                assert!(refused.contains(&true), "denied by no limit: {denied:?}");
                self.check_denied(denied, *n, refused, &lives);
            }
        }
        for (limit, (kind, _)) in self.run.limits.iter().enumerate() {
            let of = |open: bool| lives.iter().filter(move |life| life.ended.is_none() == open);
            let charge = |life: &Life<'_>| if *kind == Kind::Places { 1 } else { life.spent };
            let held: u64 = of(true).map(charge).sum();
            let spent: u64 = of(false).map(charge).sum();
            let book = &self.books[limit];
            let used = if *kind == Kind::Places { held } else { spent + held };
            assert_eq!((book.used, book.held), (used, held), "limit {limit}: {self:#?}");
            if *kind != Kind::Places {
                assert_eq!(book.settled_total, spent, "limit {limit}: {self:#?}");
            }
        }
    }

    /// Each limit that refuses could have been short of this charge: by all that was spent before the call, or held or
    /// asked for at some instant of it.
    fn check_denied(&self, denied: &Recorded, n: u64, refused: &[bool], lives: &[Life<'_>]) {
        for (limit, (kind, amount)) in self.run.limits.iter().enumerate().filter(|(limit, _)| refused[*limit]) {
            let places = *kind == Kind::Places;
            let had = lives.iter().filter(|life| life.admitted.invoked < denied.returned).map(|life| {
                let over = life.ended.is_some_and(|ended| ended.returned < denied.invoked);
                match (places, over) {
                    (true, over) => u64::from(!over),
                    (false, true) => life.spent,
                    (false, false) => life.spent.max(life.n),
                }
            });
            let asked = self.calls().filter(|call| call.overlaps(denied)).map(|call| match call.event {
                Event::Denied { .. } if places => 1,
                Event::Denied { n, .. } => n,
                _ => 0,
            });
            let most = had.chain(asked).sum::<u64>() + if places { 1 } else { n };
            assert!(most > *amount, "limit {limit} refused, and all there was came to {most}: {denied:?} in {self:#?}");
        }
    }

    fn lives(&self) -> Vec<Life<'_>> {
        let admitted = self.calls().filter_map(|call| match call.event {
            Event::Admitted { permit, n } => Some((call, permit, n)),
            _ => None,
        });
        let life = |(admitted, permit, n)| {
            let mut life = Life { admitted, n, ended: None, spent: n };
            for call in self.calls() {
                if let Event::Ended { permit: other, back, excess } = call.event
                    && other == permit
                {
                    assert!(life.ended.is_none(), "permit {permit} has ended twice: {self:#?}");
                    (life.ended, life.spent) = (Some(call), n - back + excess);
                }
            }
            life
        };
        admitted.map(life).collect()
    }
}
