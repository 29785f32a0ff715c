//! What happens when the context is full.

use super::{CancelHandle, GenerateError, Session};

impl Session {
    /// Makes room in a full context: keeps the first `sinks` tokens (Xiao et al. 2023, StreamingLLM) and the later
    /// half of the others, and drops what lies between. Keys and values of the later half are computed anew, at
    /// their new positions, so that positions never pass what the model was made for. Does nothing where there is
    /// nothing to drop.
    ///
    /// Random numbers go on with the positions of the whole text.
    ///
    /// # Errors
    /// The device's errors; the sequence stays as it was.
    pub async fn shift_context(&mut self, sinks: u32) -> Result<(), GenerateError> {
        let len = self.committed.len();
        let sinks = (sinks as usize).min(len.saturating_sub(1));
        let dropped = (len - sinks) / 2;
        if dropped == 0 {
            return Ok(());
        }
        let before = self.committed.clone();
        self.committed.drain(sinks..sinks + dropped);
        self.set_past(self.past.min(sinks as u32));
        let never = CancelHandle::default();
        match self.read_pending(false, &mut |_, _| (), &never).await {
            Ok(_) => {
                self.dropped = self.dropped.saturating_add(dropped as u32);
                Ok(())
            }
            Err(error) => {
                // The dropped keys are overwritten: everything but the sinks is to be computed anew.
                self.committed = before;
                self.set_past(self.past.min(sinks as u32));
                Err(error)
            }
        }
    }
}
