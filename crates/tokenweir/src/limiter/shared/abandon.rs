//! What a process that has ended had open, ended by whoever knows that nobody else will.

use super::super::core::Core;
use crate::error::Error;

impl Core {
    /// Ends the open permits of a process that has ended, as if dropped. How many.
    pub(crate) fn abandon_process(&self, process: u32) -> Result<usize, Error> {
        let Some(shared) = &self.shared else { return Ok(0) };
        self.check_shared(shared)?;
        let now = self.clamped(None);
        // What it was at is finished or undone first.
        self.clear_up(shared, now, true);
        let Some(slots) = self.slab.in_region() else { return Ok(0) };
        // Whose it is was written before it was opened, and is read before it is ended by its id.
        let its = self.slab.open_slots().filter(|seen| slots.process_of(seen.index) == u64::from(process));
        // Another may have ended it just now.
        Ok(its.filter(|seen| self.abandon(self.slab.id_of(*seen), None, Some(now)).is_ok()).count())
    }
}
