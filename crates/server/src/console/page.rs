//! The frame around every page, and the pages that only have a message.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_console::health::{self, Severity};
use fluxgate_console::page::{Frame, MessagePage, RenderError, Section, Viewer, render};
use fluxgate_console::session::Session;

use super::Console;
use super::response::{html, redirect};
use super::signed_in::SignedIn;
use crate::admin::cluster::view::cluster_view;
use crate::shared::auth::Principal;
use crate::shared::error::ApiError;

/// The HTTP status of an error.
pub(super) fn status_of(body: &ErrorBody) -> StatusCode {
    StatusCode::from_u16(body.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Console {
    /// Title, navigation and status around a page.
    pub(super) fn frame(
        &self,
        signed_in: Option<&SignedIn>,
        title: &str,
        section: Section,
    ) -> Frame {
        let viewer = signed_in.map(|signed_in| {
            let (name, owner) = match &signed_in.caller.principal {
                Principal::Operator => ("Operator".to_owned(), None),
                Principal::Key { entry, .. } => {
                    let owner = entry.owner().map(str::to_owned);
                    (entry.name().to_owned(), owner)
                }
            };
            let form_token = self.signer.form_token(&signed_in.session);
            let own = signed_in.entry().map(|entry| entry.id().to_string());
            let own = own.unwrap_or_default();
            Viewer { name, owner, own, is_operator: signed_in.is_operator(), form_token }
        });
        let is_operator = viewer.as_ref().is_some_and(|viewer| viewer.is_operator);
        let problems = if is_operator {
            let mut problems = health::problems(&cluster_view(&self.state));
            problems.retain(|problem| problem.severity >= Severity::Degraded);
            problems
        } else {
            Vec::new()
        };
        Frame {
            title: title.to_owned(),
            section,
            viewer,
            node: self.state.me.0,
            cluster: self.state.config.cluster_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            problems,
            canonical: String::new(),
        }
    }

    /// A page for a person who is signed in. Renews the session if that is due.
    pub(super) fn show(
        &self,
        signed_in: &SignedIn,
        status: StatusCode,
        page: Result<String, RenderError>,
    ) -> Response<Body> {
        self.renewed(signed_in, html(status, page))
    }

    /// A response that also renews the session, if that is due.
    pub(super) fn renewed(
        &self,
        signed_in: &SignedIn,
        mut response: Response<Body>,
    ) -> Response<Body> {
        let SignedIn { session, now_s, .. } = signed_in;
        if session.is_stale(*now_s) {
            let session = Session { used_s: *now_s, ..*session };
            self.keep(&mut response, &session, *now_s);
        }
        response
    }

    /// A page with a message.
    pub(super) fn message(
        &self,
        signed_in: Option<&SignedIn>,
        status: StatusCode,
        heading: &str,
        text: &str,
        links: &[(&str, &str)],
    ) -> Response<Body> {
        let link = |(to, label): &(&str, &str)| ((*to).to_owned(), (*label).to_owned());
        let page = MessagePage {
            frame: self.frame(signed_in, heading, Section::None),
            heading: heading.to_owned(),
            text: text.to_owned(),
            links: links.iter().map(link).collect(),
        };
        html(status, render(&page))
    }

    /// The page for a request that was rejected.
    pub(super) fn error_page(&self, signed_in: &SignedIn, error: &ApiError) -> Response<Body> {
        let body = error.body();
        let status = status_of(&body);
        let ErrorBody { error, message } = body;
        let (heading, advice) = match error {
            ErrorCode::AuthenticationFailed | ErrorCode::GatewayUnauthorized => {
                return redirect("/console/sign-in?note=ended");
            }
            ErrorCode::NotFound => ("No such key", "It may belong to another owner."),
            ErrorCode::Conflict => ("That is not possible now", "Reload the key and look."),
            ErrorCode::AlreadyDone => return self.already_done(signed_in, &message),
            ErrorCode::IdempotencyKeyReused => {
                ("This form was sent before, with another content", "Open the form again.")
            }
            ErrorCode::ClusterTooOld => {
                ("The cluster does not know that yet", "Upgrade its nodes first.")
            }
            ErrorCode::PreconditionFailed => {
                ("Someone else has changed it", "Reload the key and make your change again.")
            }
            ErrorCode::NoLeader | ErrorCode::Unavailable => {
                ("The cluster takes no changes now", "Try again in a few seconds.")
            }
            ErrorCode::RequestTimeout => {
                ("The outcome is not known", "Look at the key before you try again.")
            }
            ErrorCode::Internal => {
                ("The node made a mistake", "Look at the key before you try again.")
            }
            ErrorCode::InsufficientScope => ("This is not yours to change", ""),
            ErrorCode::InvalidRequest
            | ErrorCode::RateLimitExceeded
            | ErrorCode::MethodNotAllowed
            | ErrorCode::TooLarge
            | ErrorCode::UnsupportedMediaType
            | ErrorCode::HeadersTooLarge => ("That did not work", "Go back and try again."),
        };
        let text = format!("The node says: {message}. {advice}");
        self.message(Some(signed_in), status, heading, &text, &[("/console/keys", "API Keys")])
    }

    /// The page for a form that was sent again: its key was created and shown the first time.
    fn already_done(&self, signed_in: &SignedIn, message: &str) -> Response<Body> {
        let id = message.split(' ').find(|word| word.starts_with("key_")).unwrap_or_default();
        let text = "This form was sent before, and its key was shown then, once. No second key \
            was made. If the key was not kept, rotate it to get a new secret.";
        let key = format!("/console/keys/{id}");
        let rotate = format!("{key}/rotate");
        let links = [(key.as_str(), "See the key"), (rotate.as_str(), "Rotate it")];
        self.message(Some(signed_in), StatusCode::CONFLICT, "Already made", text, &links)
    }
}
