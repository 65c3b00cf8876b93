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

fn wrong() -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, "cursor: not one that this list gave")
}

/// The place in the list that a cursor names.
pub(super) fn place(cursor: Option<&str>) -> Result<Option<u64>, ApiError> {
    let place = |text: &str| u64::from_str_radix(text.strip_prefix(CURSOR_PREFIX)?, 16).ok();
    cursor.map(|text| place(text).ok_or_else(wrong)).transpose()
}

/// The cursor that names a place.
pub(super) fn cursor(place: u64) -> String {
    format!("{CURSOR_PREFIX}{place:x}")
}

/// The name after which a page of records with names begins.
pub(super) fn named_place(cursor: Option<&str>) -> Result<Option<String>, ApiError> {
    let place = |text: &str| {
        let hex =
            text.strip_prefix(CURSOR_PREFIX).filter(|hex| hex.is_ascii() && !hex.is_empty())?;
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
        String::from_utf8(bytes?).ok()
    };
    cursor.map(|text| place(text).ok_or_else(wrong)).transpose()
}

/// The cursor that names the place after a name.
pub(super) fn named_cursor(name: &str) -> String {
    let hex = name.bytes().map(|byte| format!("{byte:02x}"));
    format!("{CURSOR_PREFIX}{}", hex.collect::<String>())
}
