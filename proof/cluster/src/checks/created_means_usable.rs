//! No node rejects a credential as unknown in a validate that began after a client received it.

use crate::world::{Shared, Validate};

pub(super) fn answered(
    world: &Shared,
    asked: &Validate,
    status: Option<u16>,
) -> Result<(), String> {
    let state = world.lock();
    let Some(known) = state.observations.credentials.get(asked.credential) else { return Ok(()) };
    let dying = known.ending.is_some_and(|ending| ending <= asked.ended);
    if status == Some(401) && known.shown <= asked.began && !dying {
        return Err(format!("shown at {}, and rejected: {asked:?}", known.shown));
    }
    Ok(())
}
