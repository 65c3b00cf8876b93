//! Each rule of who may take part (`docs/protocol.md`, "Who may take part").

mod attempts;
mod driven;
mod forming;
mod new;
mod old;
