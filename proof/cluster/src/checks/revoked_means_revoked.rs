//! No validate that began after the end of a credential was answered is admitted, on any node.

use crate::world::{Shared, Validate};

pub(super) fn answered(
    world: &Shared,
    asked: &Validate,
    status: Option<u16>,
) -> Result<(), String> {
    let state = world.lock();
    let Some(known) = state.book.credentials.get(asked.credential) else { return Ok(()) };
    // A refusal for the limit would tell that the key is still accepted.
    let accepted = matches!(status, Some(200 | 429));
    match known.ended.filter(|ended| accepted && *ended < asked.began) {
        Some(ended) => Err(format!("ended at {ended}, and answered {status:?}: {asked:?}")),
        None => Ok(()),
    }
}
