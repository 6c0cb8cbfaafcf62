//! What a process that has ended had open, ended by whoever knows that nobody else will.

use super::super::core::Core;
use crate::error::Error;

impl Core {
    /// Ends the open permits of a process that has ended, as if dropped. How many.
    pub(crate) fn abandon_processes(&self, gone: impl Fn(u32) -> bool) -> Result<usize, Error> {
        let Some(shared) = &self.shared else { return Ok(0) };
        self.check_shared(shared)?;
        let now = self.clamped(None);
        // What it was at is finished or undone first.
        self.clear_up(shared, now, true);
        let Some(slots) = self.slab.in_region() else { return Ok(0) };
        // Whose it is was written before it was opened, and is read before it is ended by its id.
        let process_of = |index| u32::try_from(slots.process_of(index)).unwrap_or(0);
        let theirs = self.slab.open_slots().filter(|seen| gone(process_of(seen.index)));
        // Another may have ended it just now.
        Ok(theirs.filter(|seen| self.abandon(self.slab.id_of(*seen), None, Some(now)).is_ok()).count())
    }
}
