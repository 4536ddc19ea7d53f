//! Heads: finding their end, and reading them so that no two parsers could disagree about what they mean.

use std::mem::MaybeUninit;

use httparse::Header;

use super::host;
use crate::error::HttpError;

/// How many header fields a head may have.
pub(crate) const HEADER_COUNT_MAX: usize = 64;

/// The methods that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    /// Any other: to be refused with 405.
    Other,
}

impl Method {
    fn parse(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    /// As it stands on the wire. `Other` has no name of its own.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "OTHER",
        }
    }
}

/// The versions of HTTP that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A range of bytes in a head. Empty at zero means: not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The place of `part` in `whole`, of which it is a slice.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        let end = start + part.len();
        assert!(end <= whole.len(), "the part lies within the whole");
        let narrow = |at| u16::try_from(at).expect("a head is no longer than u16 can count");
        Self { start: narrow(start), end: narrow(end) }
    }

    pub(crate) fn is_absent(self) -> bool {
        self.start == 0
    }

    pub(crate) fn slice(self, head: &str) -> &str {
        &head[usize::from(self.start)..usize::from(self.end)]
    }
}

/// The header fields whose place is remembered. Each may appear once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    Authorization,
    ContentType,
    Accept,
    ContentEncoding,
    DittoTxnId,
    HydraTxnId,
    WebSocketKey,
    WebSocketProtocol,
}

impl Known {
    pub(crate) const COUNT: usize = 9;

    fn parse(name: &str) -> Option<Self> {
        const NAMES: [(&str, Known); Known::COUNT] = [
            ("host", Known::Host),
            ("authorization", Known::Authorization),
            ("content-type", Known::ContentType),
            ("accept", Known::Accept),
            ("content-encoding", Known::ContentEncoding),
            ("x-ditto-txn-id", Known::DittoTxnId),
            ("x-hydra-txn-id", Known::HydraTxnId),
            ("sec-websocket-key", Known::WebSocketKey),
            ("sec-websocket-protocol", Known::WebSocketProtocol),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, known)| *known)
    }
}

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Not at all: no body for a request, everything up to the end of the stream for a response.
    Unsaid,
}

/// What a request's head says. All spans are places in the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) path: Span,
    pub(crate) query: Span,
    pub(crate) known: [Span; Known::COUNT],
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) is_upgrade: bool,
    pub(crate) websocket_version_ok: bool,
}

impl RequestHead {
    pub(crate) fn known(&self, name: Known) -> Span {
        self.known[name as usize]
    }
}

/// Looks for the end of the head at the start of `bytes`; `scanned` remembers, from call to call, what has been
/// looked at. Lines end in CR LF and nothing else, and control bytes are refused as soon as they are seen.
pub(crate) fn find_end(
    bytes: &[u8],
    scanned: &mut usize,
    limit_bytes: usize,
) -> Result<Option<usize>, HttpError> {
    let end = bytes.len().min(limit_bytes);
    let mut at = *scanned;
    while at < end {
        // What follows a carriage return has to be looked at.
        if at == 0 || bytes[at - 1] != b'\r' {
            at += plain_prefix(&bytes[at..end]);
            if at == end {
                break;
            }
        }
        let previous = at.checked_sub(1).map(|before| bytes[before]);
        match (previous, bytes[at]) {
            (Some(b'\r'), b'\n') => {
                if bytes[..at - 1].ends_with(b"\r\n") {
                    return Ok(Some(at + 1));
                }
            }
            (_, b'\n') => return Err(malformed("a line feed without its carriage return")),
            (Some(b'\r'), _) => return Err(malformed("a carriage return without its line feed")),
            (_, b'\r' | b'\t' | b' '..=b'~' | 0x80..) => {}
            _ => return Err(malformed("a control character")),
        }
        at += 1;
    }
    *scanned = end;
    if bytes.len() < limit_bytes {
        Ok(None)
    } else if bytes[..end].contains(&b'\n') {
        Err(HttpError::HeadTooLarge { limit_bytes })
    } else {
        Err(HttpError::TargetTooLong { limit_bytes })
    }
}

/// How many bytes at the front need no closer look: those before the first control byte. Whole blocks are looked at
/// at once.
fn plain_prefix(bytes: &[u8]) -> usize {
    let is_plain = |&byte: &u8| (byte >= b' ') & (byte != 0x7F);
    let is_block_plain = |block: &&[u8]| block.iter().fold(true, |all, byte| all & is_plain(byte));
    let blocks = bytes.chunks_exact(PLAIN_BLOCK_BYTES).take_while(is_block_plain).count();
    let (plain, rest) = bytes.split_at(blocks * PLAIN_BLOCK_BYTES);
    plain.len() + rest.iter().position(|byte| !is_plain(byte)).unwrap_or(rest.len())
}

/// As many bytes as a processor compares at once.
const PLAIN_BLOCK_BYTES: usize = 16;

/// The text of a head.
pub(crate) fn head_text(head: &[u8]) -> Result<&str, HttpError> {
    std::str::from_utf8(head).map_err(|_| HttpError::HeadNotUtf8)
}

/// Reads a whole request head, its empty line included.
pub(crate) fn parse_request(text: &str) -> Result<RequestHead, HttpError> {
    let head = text.as_bytes();
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADER_COUNT_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        Ok(_) => return Err(malformed("the head is cut short")),
        Err(error) => return Err(refusal(error)),
    }
    let method = parsed.method.expect("a parsed request has a method");
    let version = version_of(parsed.version);
    let target = parsed.path.expect("a parsed request has a target");
    let (path, query) = split_target(target, Method::parse(method))?;

    let mut fields = Fields::default();
    for header in parsed.headers.iter() {
        fields.read(header, head)?;
    }
    fields.check(version, text)?;
    Ok(RequestHead {
        method: Method::parse(method),
        version,
        path: Span::of(path.as_bytes(), head),
        query: query.map_or_else(Span::default, |query| Span::of(query.as_bytes(), head)),
        known: fields.known,
        framing: fields.framing(),
        keep_alive: fields.keeps_alive(version),
        expects_continue: fields.expects_continue && version == Version::Http11,
        is_upgrade: fields.is_upgrade(version, method),
        websocket_version_ok: fields.websocket_version_ok,
    })
}

/// What a response's head says.
#[derive(Clone, Debug)]
pub(crate) struct ParsedResponse {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) is_upgrade: bool,
    pub(crate) headers: Vec<(String, String)>,
}

/// Reads a whole response head, its empty line included.
pub(crate) fn parse_response(head: &[u8]) -> Result<ParsedResponse, HttpError> {
    head_text(head)?;
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADER_COUNT_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let parsing = httparse::ParserConfig::default();
    match parsing.parse_response_with_uninit_headers(&mut parsed, head, &mut headers) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        Ok(_) => return Err(malformed("the head is cut short")),
        Err(error) => return Err(refusal(error)),
    }
    let version = version_of(parsed.version);
    let mut fields = Fields::default();
    for header in parsed.headers.iter() {
        fields.read(header, head)?;
    }
    fields.check_framing(version)?;
    let headers = parsed.headers.iter();
    Ok(ParsedResponse {
        status: parsed.code.expect("a parsed response has a status"),
        framing: fields.framing(),
        keep_alive: fields.keeps_alive(version),
        is_upgrade: fields.upgrade_websocket && fields.connection_upgrade,
        headers: headers.map(|header| (header.name.to_owned(), text(header).to_owned())).collect(),
    })
}

/// The value of the first field named `name` in a whole head that was parsed before.
pub(crate) fn find_field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim_matches([' ', '\t']))
    })
}

/// What the header fields say about the shape of a message.
#[derive(Default)]
struct Fields {
    known: [Span; Known::COUNT],
    content_length: Option<u64>,
    is_chunked: bool,
    connection_close: bool,
    connection_keep_alive: bool,
    connection_upgrade: bool,
    upgrade_websocket: bool,
    expects_continue: bool,
    websocket_version_ok: bool,
}

impl Fields {
    fn read(&mut self, header: &Header<'_>, head: &[u8]) -> Result<(), HttpError> {
        if let Some(known) = Known::parse(header.name) {
            let span = &mut self.known[known as usize];
            if !span.is_absent() {
                return Err(malformed("a header field that may appear once appears twice"));
            }
            *span = Span::of(header.value, head);
            return Ok(());
        }
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            self.read_content_length(text(header))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.read_transfer_encoding(text(header))?;
        } else if name.eq_ignore_ascii_case("connection") {
            self.read_connection(text(header));
        } else if name.eq_ignore_ascii_case("upgrade") {
            self.upgrade_websocket |= has_token(text(header), "websocket");
        } else if name.eq_ignore_ascii_case("sec-websocket-version") {
            self.websocket_version_ok = text(header).trim() == "13";
        } else if name.eq_ignore_ascii_case("expect") {
            if !text(header).eq_ignore_ascii_case("100-continue") {
                return Err(HttpError::UnsupportedExpectation);
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    fn read_content_length(&mut self, value: &str) -> Result<(), HttpError> {
        if self.content_length.is_some() {
            return Err(malformed("two content lengths"));
        }
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed("a content length that is not a number"));
        }
        // A number that no u64 holds is a number all the same: too large, not malformed.
        self.content_length = Some(value.parse().unwrap_or(u64::MAX));
        Ok(())
    }

    fn read_transfer_encoding(&mut self, value: &str) -> Result<(), HttpError> {
        if self.is_chunked {
            return Err(malformed("two transfer encodings"));
        }
        if !value.eq_ignore_ascii_case("chunked") {
            return Err(HttpError::UnsupportedTransferCoding);
        }
        self.is_chunked = true;
        Ok(())
    }

    fn read_connection(&mut self, value: &str) {
        self.connection_close |= has_token(value, "close");
        self.connection_keep_alive |= has_token(value, "keep-alive");
        self.connection_upgrade |= has_token(value, "upgrade");
    }

    /// Refuses what a proxy in front of us might read differently.
    fn check(&self, version: Version, head: &str) -> Result<(), HttpError> {
        self.check_framing(version)?;
        let host = self.known[Known::Host as usize];
        if host.is_absent() {
            return match version {
                Version::Http10 => Ok(()),
                Version::Http11 => Err(malformed("a request without a Host field")),
            };
        }
        if !host::is_well_formed(host.slice(head)) {
            return Err(malformed("a Host field that is no name or address with a port"));
        }
        Ok(())
    }

    fn check_framing(&self, version: Version) -> Result<(), HttpError> {
        if self.is_chunked && self.content_length.is_some() {
            return Err(malformed("both a content length and a transfer encoding"));
        }
        if self.is_chunked && version == Version::Http10 {
            return Err(malformed("a transfer encoding in HTTP/1.0"));
        }
        Ok(())
    }

    fn framing(&self) -> Framing {
        match self.content_length {
            _ if self.is_chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Unsaid,
        }
    }

    fn keeps_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.connection_close,
            Version::Http10 => self.connection_keep_alive && !self.connection_close,
        }
    }

    fn is_upgrade(&self, version: Version, method: &str) -> bool {
        version == Version::Http11
            && method == "GET"
            && self.upgrade_websocket
            && self.connection_upgrade
    }
}

/// Cuts a target into path and query; the absolute form loses its scheme and authority.
fn split_target(target: &str, method: Method) -> Result<(&str, Option<&str>), HttpError> {
    let local = if target.starts_with('/') || (target == "*" && method == Method::Options) {
        target
    } else {
        let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
        let rest = rest.ok_or(malformed("a request target that is neither a path nor a URL"))?;
        rest.find('/').map(|at| &rest[at..]).ok_or(malformed("a URL without a path"))?
    };
    if local.contains('#') {
        return Err(malformed("a request target with a fragment"));
    }
    Ok(match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    })
}

fn version_of(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
}

fn text<'a>(header: &Header<'a>) -> &'a str {
    std::str::from_utf8(header.value).expect("a slice of UTF-8 between ASCII bytes is UTF-8")
}

fn refusal(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::TooManyHeaders { limit: HEADER_COUNT_MAX },
        httparse::Error::Version => HttpError::UnsupportedVersion,
        httparse::Error::HeaderName => malformed("a header field's name"),
        httparse::Error::HeaderValue => malformed("a header field's value"),
        httparse::Error::Status => malformed("the status line"),
        httparse::Error::NewLine | httparse::Error::Token => malformed("the request line"),
    }
}

const fn malformed(what: &'static str) -> HttpError {
    HttpError::Malformed { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &str) -> Result<RequestHead, HttpError> {
        parse_request(&format!("{lines}\r\n"))
    }

    fn refused(lines: &str) -> u16 {
        parse(lines).expect_err(lines).status()
    }

    #[test]
    fn smuggling_shapes_are_refused() {
        let post = "POST / HTTP/1.1\r\nHost: x\r\n";
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: \r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "X-Folded: a\r\n b\r\n",
            "Host: y\r\n",
            "Authorization: a\r\nauthorization: b\r\n",
        ] {
            assert_eq!(refused(&format!("{post}{fields}")), 400, "{fields}");
        }
        assert_eq!(refused(&format!("{post}Transfer-Encoding: chunked, identity\r\n")), 501);
        assert_eq!(refused(&format!("{post}Transfer-Encoding: xchunked\r\n")), 501);
        assert_eq!(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n"), 400);
        assert_eq!(refused("GET / HTTP/1.1\r\n"), 400);
        assert_eq!(refused("GET / HTTP/2.0\r\nHost: x\r\n"), 505);
        assert_eq!(refused(&format!("{post}Expect: the-unexpected\r\n")), 417);
    }

    #[test]
    fn a_length_beyond_u64_is_too_large_and_not_malformed() {
        let head =
            parse("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n");
        assert_eq!(head.unwrap().framing, Framing::Length(u64::MAX));
    }

    #[test]
    fn a_head_that_is_not_utf8_is_refused() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\nX: \xff\xfe\r\n\r\n";
        assert_eq!(head_text(head).unwrap_err(), HttpError::HeadNotUtf8);
    }

    #[test]
    fn targets_are_paths_or_urls() {
        for (target, path, query) in [
            ("/a/b", "/a/b", ""),
            ("/a?x=1&y", "/a", "x=1&y"),
            ("http://host:80/a?b", "/a", "b"),
            ("/", "/", ""),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let parsed = parse_request(&head).unwrap();
            assert_eq!(parsed.path.slice(&head), path);
            assert_eq!(parsed.query.slice(&head), query);
        }
        for target in ["a", "*", "ftp://x/", "http://x", "/a#b", "x:80"] {
            assert_eq!(refused(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n")), 400, "{target}");
        }
        assert!(parse("OPTIONS * HTTP/1.1\r\nHost: x\r\n").is_ok());
    }

    #[test]
    fn the_connection_field_and_the_version_decide_about_keeping_alive() {
        let keeps = |lines| parse(lines).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: x\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n"));
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_the_bytes_were_split() {
        let bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody";
        for split in 0..bytes.len() {
            let mut scanned = 0;
            let early = find_end(&bytes[..split], &mut scanned, 100).unwrap();
            assert_eq!(early.is_some(), split >= 27);
            if early.is_none() {
                assert_eq!(find_end(bytes, &mut scanned, 100), Ok(Some(27)));
            }
        }
    }

    #[test]
    fn lines_that_end_otherwise_are_refused_at_once() {
        for bytes in [&b"GET / HTTP/1.1\nHost"[..], b"GET /\rx", b"\x16\x03\x01", b"GE\0T"] {
            assert_eq!(find_end(bytes, &mut 0, 100).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn a_head_over_the_limit_is_refused_also_when_it_is_whole() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100));
        assert_eq!(find_end(long.as_bytes(), &mut 0, 64).unwrap_err().status(), 431);
        assert_eq!(find_end(&[b'x'; 64], &mut 0, 64).unwrap_err().status(), 414);
    }
}
