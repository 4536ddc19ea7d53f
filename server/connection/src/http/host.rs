//! The field `Host`: the name or address that a client believes to speak with, and perhaps a port.

use std::net::Ipv6Addr;

/// Whether a value has the shape of RFC 9110, section 7.2: a name, an IPv4 address or an IPv6 address in brackets, then
/// perhaps a colon and a port. Empty is what a client sends whose URL has no authority.
pub(crate) fn is_well_formed(value: &str) -> bool {
    let (name, port) = split(value);
    let is_name_good = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|rest| rest.parse::<Ipv6Addr>().is_ok()),
        None => name.bytes().all(|byte| OF_NAME[usize::from(byte)]),
    };
    is_name_good && port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= PORT_DIGITS_MAX
}

/// The name or address in a well-formed value, without port and brackets.
pub(crate) fn name_of(value: &str) -> &str {
    split(value).0.trim_start_matches('[').trim_end_matches(']')
}

const PORT_DIGITS_MAX: usize = 5;

/// The port is what follows the last colon outside of brackets.
fn split(value: &str) -> (&str, &str) {
    match value.bytes().rposition(|byte| byte == b':') {
        Some(colon) if !value[colon..].contains(']') => (&value[..colon], &value[colon + 1..]),
        _ => (value, ""),
    }
}

/// The bytes that a registered name may hold; of the sub-delimiters only those that no parser takes for the end of a
/// name. A table, since every request is looked at.
const OF_NAME: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let (others, mut index) = (b"-._~%!$&'()*+;=", 0);
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_from_their_ports() {
        for (value, name) in [
            ("localhost", "localhost"),
            ("bigpeer.example:8080", "bigpeer.example"),
            ("127.0.0.1:9464", "127.0.0.1"),
            ("[::1]:9464", "::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("x:", "x"),
            ("", ""),
        ] {
            assert!(is_well_formed(value), "{value}");
            assert_eq!(name_of(value), name);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for value in [
            "a b",
            "a/b",
            "user@host",
            "a,b",
            "http://a",
            "::1",
            "[::1",
            "::1]",
            "[x]",
            "a:x",
            "a:123456",
            "a:1:2",
            "a\\b",
            "é",
            "a#b",
            "a?b",
            "[::1]x",
            "<a>",
        ] {
            assert!(!is_well_formed(value), "{value}");
        }
    }
}
