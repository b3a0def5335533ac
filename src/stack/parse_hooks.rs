//! Checks of hooks, and of how machines are logged in to.

use super::{
    hooks::{Hook, HookCall, HttpCall, Login},
    parse::Check,
    raw::hooks::{RawHook, RawSsh},
};

impl Check<'_> {
    /// The hooks of a pool.
    pub(super) fn hooks(&mut self, pool: &str, raw: Vec<RawHook>) -> Vec<Hook> {
        let each = raw.into_iter().enumerate();
        each.filter_map(|(index, raw)| self.hook(&["pools", pool, "hooks", &index.to_string()], raw))
            .collect()
    }

    fn hook(&mut self, path: &[&str; 4], raw: RawHook) -> Option<Hook> {
        let timeout = self.positive(&[&path[..], &["timeout"]].concat(), &raw.timeout);
        let call = match (raw.command.is_empty(), raw.http, raw.ssh) {
            (false, None, None) => HookCall::Command(raw.command),
            (true, Some(http), None) => HookCall::Http(HttpCall {
                url: http.url?,
                method: http.method,
                token: http.token,
                headers: http.headers,
            }),
            (true, None, Some(command)) => HookCall::Ssh(command),
            _ => {
                let what = "a hook does one thing: `command`, `http` or `ssh`".to_owned();
                self.bad(
                    path,
                    what,
                    "needs one of the three",
                    "add command = [\"./hook.sh\"]",
                );
                return None;
            }
        };
        Some(Hook {
            on: raw.on?,
            call,
            timeout: timeout?,
            retries: raw.retries,
            on_failure: raw.on_failure,
        })
    }

    /// How machines are logged in to.
    pub(super) fn login(&mut self, raw: RawSsh) -> Login {
        self.file(&["ssh", "key_file"], raw.key_file.as_deref());
        Login {
            user: raw.user,
            key_file: raw.key_file,
            port: raw.port,
            address: raw.address,
            jump: raw.jump,
        }
    }
}
