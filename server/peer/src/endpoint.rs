//! Where a server is, and how it is reached.

use std::fmt;
use std::str::FromStr;

/// The address of a server, parsed from `ws://HOST[:PORT]` or `tcp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) scheme: Scheme,
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What is spoken at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// A WebSocket at `/_ditto`.
    WebSocket,
    /// Frames on a bare stream, after a preamble.
    Framed,
}

/// An address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is no address of a server: {cause}")]
pub struct EndpointError {
    /// What was given.
    pub url: String,
    /// What is wrong with it.
    pub cause: &'static str,
}

/// The port of a WebSocket without another.
const PORT_HTTP: u16 = 80;

impl Endpoint {
    /// The value of `Host`.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::WebSocket => "ws",
            Scheme::Framed => "tcp",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        parse(url).map_err(|cause| EndpointError { url: url.to_owned(), cause })
    }
}

fn parse(url: &str) -> Result<Endpoint, &'static str> {
    let (scheme, rest) =
        url.split_once("://").ok_or("expected ws://HOST:PORT or tcp://HOST:PORT")?;
    let (scheme, port_default) = match scheme {
        "ws" => (Scheme::WebSocket, Some(PORT_HTTP)),
        "tcp" => (Scheme::Framed, None),
        "wss" | "https" => {
            return Err(
                "TLS is not spoken by this build: use ws://, over a trusted network or a tunnel",
            );
        }
        "http" => return Err("the address of device sync begins with ws://"),
        _ => return Err("only ws:// and tcp:// are spoken"),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err("it ends with the port: the path is always /_ditto");
    }
    if authority.contains('@') {
        return Err("credentials do not belong into it: pass the token beside it");
    }
    let (host, port) = split_port(authority)?;
    let port = match port {
        Some(port) => port.parse().map_err(|_| "the port is not a number from 1 to 65535")?,
        None => port_default.ok_or("the port is missing")?,
    };
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '[' | ']');
    if host.is_empty() || !host.chars().all(is_plain) || port == 0 {
        return Err("the host or the port is missing");
    }
    Ok(Endpoint { scheme, host: host.to_owned(), port })
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the `]` of the address is missing")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("expected `:PORT` behind the `]`"),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("an IPv6 address stands in brackets"),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_what_they_print() {
        for (url, printed) in [
            ("ws://localhost:8080", "ws://localhost:8080"),
            ("ws://localhost/", "ws://localhost:80"),
            ("tcp://10.0.0.1:4040", "tcp://10.0.0.1:4040"),
            ("ws://[::1]:8080", "ws://[::1]:8080"),
        ] {
            let endpoint: Endpoint = url.parse().expect("an address");
            assert_eq!(endpoint.to_string(), printed);
            assert_eq!(printed.parse(), Ok(endpoint));
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (url, part) in [
            ("localhost:8080", "expected ws://"),
            ("wss://a:1", "TLS"),
            ("http://a:1", "ws://"),
            ("ws://a:1/x", "/_ditto"),
            ("ws://u:p@a:1", "token"),
            ("ws://a:x", "port"),
            ("ws://a:0", "port"),
            ("ws://:1", "host"),
            ("tcp://a", "port"),
            ("ws://::1:80", "brackets"),
            ("ws://[::1", "]"),
            ("ws://a b:1", "host"),
        ] {
            let error = url.parse::<Endpoint>().expect_err(url).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
