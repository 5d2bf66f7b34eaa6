//! Telling a caller how far a load has come.

use crate::Digest;

/// Told how far a load or a pull has come, from several threads at once, a few times a second at most for
/// each layer. Calls must return at once: the load waits for them.
pub trait Progress: Sync {
    /// Of `total` bytes of the layer as it came, `done` are read. `layer` is its diffID, or if it is
    /// pulled its digest at the registry; then the first call is with none done unless the layer
    /// was there. `done == total` is told once the layer is in the store; a layer that was there
    /// already is told once.
    fn layer(&self, layer: &Digest, done: u64, total: u64);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn layer(&self, _layer: &Digest, _done: u64, _total: u64) {}
}
