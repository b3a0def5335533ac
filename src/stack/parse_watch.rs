//! Checks of `[watch]`: where `runfleet watch` tells of itself, and who may read it.

use std::net::SocketAddr;

use super::{StackProblem, Watching, parse::Check, raw::RawWatch};

/// What to type where an address is none.
const ADDRESS: &str = "write an IP address and a port: \"127.0.0.1:9090\", \"[::1]:9090\", \"0.0.0.0:9090\"";

impl Check<'_> {
    pub(super) fn watching(&mut self, raw: RawWatch) -> Watching {
        if let Some(secret) = &raw.secret {
            self.secret(&["watch", "secret"], secret);
        }
        let path = ["watch", "listen"];
        let listen = raw.listen.and_then(|text| {
            let parsed: Result<SocketAddr, _> = text.trim().parse();
            if parsed.is_err() {
                self.report(
                    StackProblem::new(
                        "stack::bad_value",
                        self.span(&path),
                        format!("`watch.listen` cannot be \"{text}\": not an address with a port"),
                        "not an address",
                    )
                    .help(ADDRESS),
                );
            }
            parsed.ok()
        });
        if let Some(listen) = listen
            && !listen.ip().is_loopback()
            && !self.written(&["watch", "secret"])
        {
            self.report(
                StackProblem::new(
                    "stack::missing_key",
                    self.span(&path),
                    format!("`watch.listen` is {listen}, which others reach, and `watch` has no secret"),
                    "others reach it",
                )
                .help(
                    "add what a reader must send: secret = { env = \"RUNFLEET_WATCH_SECRET\" }; or listen on \
                     127.0.0.1",
                ),
            );
        }
        Watching {
            listen,
            secret: raw.secret,
        }
    }
}
