//! What a process that has ended had open, ended by whoever knows that nobody else will.

use super::super::core::Core;
use crate::error::Error;
use crate::region::SEAT_PROCESS;
use crate::sync::Ordering::Acquire;
use crate::table::PROCESSES;

impl Core {
    /// Ends the open permits of a process that has ended, as if dropped. How many.
    ///
    /// They are known by the seat that it had, until somebody else sits there.
    pub(crate) fn abandon_process(&self, process: u32) -> Result<usize, Error> {
        let Some(shared) = &self.shared else { return Ok(0) };
        shared.check()?;
        let now = self.clamped(None);
        // What it was at is finished or undone first.
        self.clear_up(shared, now, true);
        let Some(slots) = self.slab.in_region() else { return Ok(0) };
        let mut ended = 0;
        for seat in (0..PROCESSES).filter(|seat| *seat != shared.seat) {
            let of = shared.sections.seat(seat, SEAT_PROCESS);
            // Nobody sits there, and nobody sits down meanwhile.
            if of.load(Acquire) != u64::from(process) || !shared.memory.take(seat) {
                continue;
            }
            if of.load(Acquire) == u64::from(process) {
                for seen in self.slab.open_slots().filter(|seen| slots.is_of(*seen, seat)) {
                    // Another may have ended it just now.
                    ended += usize::from(self.abandon(self.slab.id_of(seen), None, Some(now)).is_ok());
                }
            }
            shared.memory.leave(seat);
        }
        Ok(ended)
    }
}
