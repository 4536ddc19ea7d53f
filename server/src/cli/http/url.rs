//! The address of a server.

use std::fmt;
use std::str::FromStr;

/// `http://host:port/base`, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// Whether TLS is spoken.
    pub(crate) is_tls: bool,
    /// Name or address of the host; an IPv6 address without its brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// What stands before every path; empty, or with a slash at its start and none at its end.
    pub(crate) base: String,
}

/// A text that is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: an address looks like http://127.0.0.1:8080")]
pub(crate) struct UrlError(&'static str);

impl Url {
    /// The value of the header field `Host`.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(UrlError("only http and https are spoken")),
            None => return Err(UrlError("the scheme is missing")),
        };
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\');
        if !rest.chars().all(is_plain) {
            return Err(UrlError("there is a character that no address of a server has"));
        }
        let (authority, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(UrlError("a user in the address is not supported, a key goes to --key"));
        }
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            return Err(UrlError("the host is missing"));
        }
        let port = match port {
            Some(port) => {
                port.parse().map_err(|_| UrlError("the port is not a number to 65535"))?
            }
            None if is_tls => 443,
            None => 80,
        };
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { is_tls, host: host.to_owned(), port, base })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    let Some(bracketed) = authority.strip_prefix('[') else {
        return Ok(match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        });
    };
    match bracketed.split_once(']') {
        Some((host, "")) => Ok((host, None)),
        Some((host, port)) if port.starts_with(':') => Ok((host, Some(&port[1..]))),
        _ => Err(UrlError("the brackets of an IPv6 address do not match")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        let same =
            ["http://127.0.0.1:8080", "https://x.example/app/1", "http://[::1]:90", "http://h"];
        for text in same {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        let url: Url = "https://h:443/a//".parse().unwrap();
        assert_eq!((url.port, &*url.base, url.to_string()), (443, "/a", "https://h/a".into()));
        assert_eq!("http://[::1]:90".parse::<Url>().unwrap().host, "::1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "127.0.0.1:80",
            "ftp://h",
            "http://",
            "http://h:99999",
            "http://h:",
            "http://u@h",
            "http://h/a b",
            "http://[::1",
            "http://h/?q",
            "http://h/\r\nX: y",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
