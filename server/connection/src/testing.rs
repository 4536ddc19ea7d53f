//! Tests of whole connections: bytes in, events and bytes out.
