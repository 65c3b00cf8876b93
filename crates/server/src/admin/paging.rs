//! Pages of a list: their size, and the cursor that begins the next one.

use fluxgate_api::error::ErrorCode;
use fluxgate_types::caps;

use crate::shared::error::ApiError;

/// Every cursor begins with this.
const CURSOR_PREFIX: &str = "c-";

/// The size of a page.
pub(super) fn page_size(requested: Option<usize>) -> Result<usize, ApiError> {
    match requested.unwrap_or(caps::LIST_PAGE_DEFAULT) {
        size @ 1..=caps::LIST_PAGE_MAX => Ok(size),
        _ => {
            let message = format!("limit: must be 1 to {}", caps::LIST_PAGE_MAX);
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// The place in the list that a cursor names.
pub(super) fn place(cursor: Option<&str>) -> Result<Option<u64>, ApiError> {
    let wrong = || ApiError::new(ErrorCode::InvalidRequest, "cursor: not one that this list gave");
    let place = |text: &str| u64::from_str_radix(text.strip_prefix(CURSOR_PREFIX)?, 16).ok();
    cursor.map(|text| place(text).ok_or_else(wrong)).transpose()
}

/// The cursor that names a place.
pub(super) fn cursor(place: u64) -> String {
    format!("{CURSOR_PREFIX}{place:x}")
}
