//! No validate that began after a credential was shown is refused as unknown.

use crate::world::{Shared, Validate};

pub(super) fn answered(
    world: &Shared,
    asked: &Validate,
    status: Option<u16>,
) -> Result<(), String> {
    let state = world.lock();
    let Some(known) = state.book.credentials.get(asked.credential) else { return Ok(()) };
    let dying = known.ending.is_some_and(|ending| ending <= asked.ended);
    if status == Some(401) && known.shown <= asked.began && !dying {
        return Err(format!("shown at {}, and refused: {asked:?}", known.shown));
    }
    Ok(())
}
