//! Against a socket of our own machine that plays a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use super::*;
use crate::cli::http::Method;

/// Accepts one connection and hands it to `serve`.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (Url, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap()).parse().unwrap();
    (url, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

fn post(body: &'static [u8]) -> Request {
    let body = Bytes::from_static(body);
    Request { method: Method::Post, target: "/x".into(), token: "T".into(), body }
}

/// Reads one request off the wire and returns its head and body.
fn read_request(stream: &mut BufReader<TcpStream>) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "the client went on");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let (url, thread) = server(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        let (head, first) = read_request(&mut reader);
        assert!(head.starts_with("POST /x HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nAuthorization: Bearer T\r\n"), "{head}");
        let (_, second) = read_request(&mut reader);
        for (status, body) in [(200, first), (418, second)] {
            let length = body.len();
            write!(writer, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n").unwrap();
            writer.write_all(&body).unwrap();
        }
    });
    let mut transport = TcpTransport::connect(&url).unwrap();
    transport.send(post(b"one")).unwrap();
    transport.send(post(b"two")).unwrap();
    for expected in [(200, "one"), (418, "two")] {
        let mut body = Vec::new();
        let mut sink = |_, bytes: &[u8]| {
            body.extend_from_slice(bytes);
            Ok(())
        };
        assert_eq!(transport.receive(&mut sink).unwrap(), expected.0);
        assert_eq!(body, expected.1.as_bytes());
    }
    thread.join().unwrap();
}

#[test]
fn a_server_that_waits_for_its_answers_to_be_read_does_not_stop_us() {
    // Each is more than the kernel and the machine hold between the two of us.
    const COUNT: usize = 2;
    const REQUEST_BYTES: usize = 16 << 20;
    const ANSWER_BYTES: usize = 24 << 20;
    let (url, thread) = server(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        for _ in 0..COUNT {
            let (_, body) = read_request(&mut reader);
            assert_eq!(body.len(), REQUEST_BYTES);
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {ANSWER_BYTES}\r\n\r\n").unwrap();
            writer.write_all(&vec![b'y'; ANSWER_BYTES]).unwrap();
        }
    });
    let mut transport = TcpTransport::connect(&url).unwrap();
    for _ in 0..COUNT {
        let request = Request { body: vec![b'x'; REQUEST_BYTES].into(), ..post(b"") };
        transport.send(request).unwrap();
    }
    for _ in 0..COUNT {
        let mut count = 0;
        transport
            .receive(&mut |_, bytes| {
                count += bytes.len();
                Ok(())
            })
            .unwrap();
        assert_eq!(count, ANSWER_BYTES);
    }
    thread.join().unwrap();
}

#[test]
fn an_answer_cut_short_is_an_error() {
    let (url, thread) = server(|stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader);
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    });
    let mut transport = TcpTransport::connect(&url).unwrap();
    let error = transport.request(post(b"{}"), 100).unwrap_err();
    assert!(matches!(error, CliError::Failed(_)), "{error}");
    thread.join().unwrap();
}

#[test]
fn nobody_listening_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let Err(error) = TcpTransport::connect(&url) else { panic!("nothing listens there") };
    assert!(matches!(error, CliError::Unreachable { .. }), "{error}");
}
