//! No node admits a credential in a validate that began after the credential's end was answered.

use crate::world::{Shared, Validate};

pub(super) fn answered(
    world: &Shared,
    asked: &Validate,
    status: Option<u16>,
) -> Result<(), String> {
    let state = world.lock();
    let Some(known) = state.observations.credentials.get(asked.credential) else { return Ok(()) };
    // A denial for the limit means that the node still accepts the key.
    let accepted = matches!(status, Some(200 | 429));
    match known.ended.filter(|ended| accepted && *ended < asked.began) {
        Some(ended) => Err(format!("ended at {ended}, and answered {status:?}: {asked:?}")),
        None => Ok(()),
    }
}
