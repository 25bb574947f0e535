//! A client of HTTP/2 that sends the bytes that it is told to, and keeps no rule.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// The setting of how many bytes of a call's answer may be sent unasked.
const INITIAL_WINDOW_SIZE: u16 = 4;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The bytes of a frame before what it carries.
const HEAD: usize = 9;

pub(crate) struct Raw {
    stream: TcpStream,
    next: u32,
    /// What was read and makes no whole frame yet.
    read: Vec<u8>,
}

impl Raw {
    /// A connection on which nothing was said yet.
    pub(crate) async fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream, next: 1, read: Vec::new() }
    }

    /// One on which HTTP/2 has begun.
    pub(crate) async fn begin(address: SocketAddr) -> Self {
        Self::begin_with(address, &[]).await
    }

    /// One whose calls take no message before they say so.
    pub(crate) async fn begin_without_window(address: SocketAddr) -> Self {
        let setting = [INITIAL_WINDOW_SIZE.to_be_bytes().as_slice(), &[0; 4]].concat();
        Self::begin_with(address, &setting).await
    }

    async fn begin_with(address: SocketAddr, settings: &[u8]) -> Self {
        let mut raw = Self::silent(address).await;
        raw.send(&[PREFACE.as_slice(), &frame(SETTINGS, 0, 0, settings)].concat()).await;
        raw
    }

    /// Lets the first call have this many bytes more.
    pub(crate) async fn widen(&mut self, bytes: u32) {
        self.send(&frame(WINDOW_UPDATE, 0, 1, &bytes.to_be_bytes())).await;
    }

    /// The next message of any call. Says on the way that it lives.
    pub(crate) async fn message(&mut self) -> Vec<u8> {
        loop {
            let (kind, flags, payload) = self.frame().await;
            match kind {
                DATA if !payload.is_empty() => return payload,
                PING if flags & ACK == 0 => {
                    self.send(&frame(PING, ACK, 0, &payload)).await;
                }
                _ => {}
            }
        }
    }

    /// Kind, flags and payload of the next frame; nothing is lost if this is given up.
    async fn frame(&mut self) -> (u8, u8, Vec<u8>) {
        loop {
            if let Some((&[a, b, c, kind, flags, ..], rest)) = self.read.split_first_chunk::<HEAD>()
            {
                let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
                if let Some(payload) = rest.get(..length) {
                    let found = (kind, flags, payload.to_vec());
                    self.read.drain(..HEAD + length);
                    return found;
                }
            }
            let read = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(read > 0, "the server ends the connection");
        }
    }

    /// Whether the bytes could be sent; a peer that is gone takes none.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The beginning of a call; its message never ends.
    pub(crate) fn open(&mut self, method: &str) -> Vec<u8> {
        self.headers(method, END_HEADERS).1
    }

    /// A whole call with this message.
    pub(crate) fn call(&mut self, method: &str, message: &[u8]) -> Vec<u8> {
        let (id, mut bytes) = self.headers(method, END_HEADERS);
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0], length.as_slice(), message].concat();
        bytes.extend(frame(DATA, END_STREAM, id, &body));
        bytes
    }

    /// A call that is taken back at once.
    pub(crate) fn reset(&mut self, method: &str) -> Vec<u8> {
        let (id, mut bytes) = self.headers(method, END_HEADERS);
        bytes.extend(frame(RESET, 0, id, &8_u32.to_be_bytes()));
        bytes
    }

    fn headers(&mut self, method: &str, flags: u8) -> (u32, Vec<u8>) {
        let id = self.next;
        self.next += 2;
        let path = format!("/externalscaler.ExternalScaler/{method}");
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "podswell"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // A literal that is not remembered (HPACK).
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        (id, frame(HEADERS, flags, id, &block))
    }

    /// Reads until the server ends the connection.
    pub(crate) async fn ended(&mut self) {
        let mut bytes = vec![0; 16 * 1024];
        while self.stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], stream.to_be_bytes().as_slice()].concat();
    [&head, payload].concat()
}
