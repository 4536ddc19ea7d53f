//! What is refused before anyone looks at the path: requests that a page of a stranger made the browser of an
//! administrator or a user send.
//!
//! A browser lets any page open a WebSocket to any address, and it lets a page speak with this machine under a name of
//! the page's own (DNS rebinding). It says truly, though, which page asks (`Origin`) and under which name (`Host`).
//! Other clients send no `Origin`, and are not concerned.

use std::net::IpAddr;

use bigpeer_connection::{Request, Response};

use super::{Door, reply};

/// The names and pages that are known.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Names under which the admin door answers, beside addresses and those of loopback.
    pub admin_hosts: Vec<String>,
    /// Origins whose pages may open a WebSocket, such as `https://app.example`; `*` is any.
    pub origins: Vec<String>,
}

impl Gate {
    /// The answer to a request that is not to be looked at, if it is one.
    #[must_use]
    pub fn refuse(&self, request: &Request, is_upgrade: bool, door: Door) -> Option<Response> {
        if door == Door::Admin
            && let Some(host) = request.host_name()
            && !self.knows_host(host)
        {
            let text = format!(
                "the admin door does not answer to the name `{}`: use an IP address or localhost, or start the \
                 server with --admin-host and that name",
                shortened(host)
            );
            return Some(reply::message(421, &text));
        }
        if is_upgrade
            && let Some(origin) = request.header("origin")
            && !self.knows_origin(origin)
        {
            let text = format!(
                "pages of `{}` may not connect: start the server with --allow-origin and that origin",
                shortened(origin)
            );
            return Some(reply::message(403, &text));
        }
        None
    }

    /// A page can have its own name lead here, and no address: whoever names one was given it by a person.
    fn knows_host(&self, host: &str) -> bool {
        // The dot at the end says that a name is whole.
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_loopback = host.eq_ignore_ascii_case("localhost") || has_suffix(host, ".localhost");
        is_loopback
            || host.parse::<IpAddr>().is_ok()
            || self.admin_hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// There is no exception for a page of the same origin: this server has no pages on this door, and a name that leads
    /// here by rebinding would be of the same origin as well.
    fn knows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }
}

/// An origin as a browser writes it: scheme, host, and the port where it is not the usual one. Or `*`.
///
/// # Errors
///
/// When it is something else, what it should be.
pub fn parse_origin(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_good =
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']));
    if is_good || text == "*" {
        return Ok(text.to_owned());
    }
    Err("expected an origin such as https://app.example or http://localhost:3000, without a path; or *".to_owned())
}

fn has_suffix(text: &str, suffix: &str) -> bool {
    let at = text.len().checked_sub(suffix.len());
    at.and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// What a stranger wrote, as far as it is repeated.
fn shortened(text: &str) -> &str {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

const SHOWN_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use bigpeer_connection::Method;

    use super::*;

    fn status(gate: &Gate, headers: &[(&str, &str)], is_upgrade: bool, door: Door) -> u16 {
        let request = Request::new(Method::Get, "/metrics", headers, b"").expect("well-formed");
        gate.refuse(&request, is_upgrade, door).map_or(200, |response| response.status)
    }

    #[test]
    fn the_admin_door_answers_to_addresses_loopback_and_names_that_were_given() {
        let gate = Gate { admin_hosts: vec!["admin.example".to_owned()], ..Gate::default() };
        for host in ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "::1", "10.0.0.7"] {
            assert!(gate.knows_host(host), "{host}");
        }
        assert!(gate.knows_host("Admin.Example") && gate.knows_host("localhost."));
        for host in
            ["", "evil.example", "notlocalhost", "localhost.evil.example", "127.0.0.1.nip.io"]
        {
            assert!(!gate.knows_host(host), "{host}");
        }
        // `Request::new` says `localhost`.
        assert_eq!(status(&gate, &[], false, Door::Admin), 200);
    }

    #[test]
    fn a_page_opens_no_websocket_unless_it_is_allowed() {
        let origin = |origin| [("Origin", origin)];
        let gate = Gate { origins: vec!["https://app.example".to_owned()], ..Gate::default() };
        for (found, expected) in [
            ("https://app.example", 200),
            ("https://APP.example", 200),
            ("http://app.example", 403),
            ("https://app.example:444", 403),
            ("http://localhost", 403),
            ("null", 403),
            ("", 403),
        ] {
            assert_eq!(status(&gate, &origin(found), true, Door::Data), expected, "{found}");
            assert_eq!(status(&gate, &origin(found), false, Door::Data), 200, "{found}");
        }
        assert_eq!(status(&gate, &[], true, Door::Data), 200, "no browser");
        let any = Gate { origins: vec!["*".to_owned()], ..Gate::default() };
        assert_eq!(status(&any, &origin("null"), true, Door::Data), 200);
    }

    #[test]
    fn an_origin_has_no_path() {
        for good in ["https://app.example", "http://localhost:3000", "*"] {
            assert_eq!(parse_origin(good).as_deref(), Ok(good));
        }
        for bad in ["app.example", "https://", "https://a/b", "https://a b", "null", "ws://a"] {
            assert!(parse_origin(bad).is_err(), "{bad}");
        }
    }
}
