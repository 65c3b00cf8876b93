//! Paths that a gateway and an application may read differently.

use super::{Stage, get};
use crate::support::Key;

/// Paths that the gateway reads as needing less, and the application as needing more.
pub(super) fn ambiguous_paths_reach_no_other_part(stage: &Stage, reader: &Key) {
    for path in [
        "/api/v1/../admin/users",
        "/api/v1/%2e%2e/admin/users",
        "/api/v1/%2E./admin/users",
        "/api//admin/users",
        "//api/admin/users",
        "/api/./admin/users",
        "/api/v1/..%2fadmin/users",
        "/api/v1%2f..%2fadmin%2fusers",
        "/api/v1/..%5cadmin/users",
        "/nothing/../api/admin/users",
        // Parameters of a segment, which some applications remove first.
        "/api/v1/..;/admin/users",
        "/api/v1/..;a=b/admin/users",
        "/api/v1/..%3b/admin/users",
        "/api/v1/..%3B/admin/users",
        "/api/v1/%2e%2e;/admin/users",
        "/api/.;/admin/users",
        "/api/;/admin/users",
        "/api/;a=b/admin/users",
        "/api/%3b/admin/users",
        "/;/api/admin/users",
        // A backslash, which some applications read as a slash.
        "/api/v1/..\\admin/users",
        "/api/\\admin/users",
        "/api\\admin/users",
        "\\api/admin/users",
        "/api;/admin/users",
    ] {
        let (answer, seen) = stage.pass(&get(path).bearer(&reader.secret));
        let read_as = seen.first().map(|seen| seen.line.clone());
        // Rejected, or passed on in a form that both read alike.
        let dotted = |line: &String| {
            line.contains("..") || line.contains("//") || line.contains("/./") || line.contains('%')
        };
        assert!(!read_as.as_ref().is_some_and(dotted), "{path} became {read_as:?}: {answer}");
        assert!(
            !read_as.as_ref().is_some_and(|line| line.contains("admin")),
            "{path} became {read_as:?}: {answer}"
        );
        assert!(matches!(answer.status, 301 | 307 | 308 | 400 | 403 | 404), "{path}: {answer}");
    }
}

/// Invalid URI characters in the part of the path that only the application reads. A gateway may
/// reject them; the key must not be the reason.
pub(super) fn invalid_characters_reject_no_key(stage: &Stage, reader: &Key) {
    for odd in ["?q=\"a\"", "?q=a<b>", "?q=`", "?q=a|b^c{d}", "/a<b", "/\"a\"", "/ä?q=ö", "?q=%zz"]
    {
        let (answer, seen) = stage.pass(&get(&format!("/api/v1/x{odd}")).bearer(&reader.secret));
        assert!(matches!(answer.status, 200 | 400), "{odd}: {answer}");
        assert_eq!(seen.len(), usize::from(answer.status == 200), "{odd}: {seen:?}");
    }
}

/// The same part of the API in other spellings.
pub(super) fn all_that_is_read_as_admin_requires_it(stage: &Stage, reader: &Key, admin: &Key) {
    for path in [
        "/api/admin",
        "/api/admin?a=b",
        "/api/admin;a=b/users",
        "/api/admin%3ba=b/users",
        "/api/%61dmin/users",
        "/api/a%64m%69n/users",
        "/api/%41dmin/users",
        "/api/Admin/users",
        "/api/ADMIN",
        "/%61pi/admin/users",
        "/api/admin%20/users",
        "/api/admin%00/users",
        "/api/admin%/users",
        "/api/%61dmin%zz/users",
        "/API/admin/users",
    ] {
        let (answer, seen) = stage.pass(&get(path).bearer(&reader.secret));
        assert!(seen.is_empty(), "{path} became {seen:?}: {answer}");
        assert!(matches!(answer.status, 400 | 403 | 404), "{path}: {answer}");
    }
    // An admin key passes; an encoded letter elsewhere in the path changes nothing.
    for (path, plain, key) in [
        ("/api/admin", "/api/admin", admin),
        ("/api/admin/users", "/api/admin/users", admin),
        ("/api/%61dmin/users", "/api/admin/users", admin),
        ("/api/v1/%6eame", "/api/v1/name", reader),
    ] {
        let (answer, seen) = stage.pass(&get(path).bearer(&key.secret));
        assert_eq!(answer.status, 200, "{path}: {answer}");
        let as_it_came_or_plain = [path, plain].map(|path| format!("GET {path}"));
        assert!(as_it_came_or_plain.contains(&seen[0].line), "{path}: {seen:?}");
    }
}
