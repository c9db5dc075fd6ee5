//! HTTP/1.1 to the handler, written byte for byte as .NET's `HttpClient` writes it.
//!
//! A general client would choose header order, letter case and framing itself; a handler decides by exactly these
//! whether a request can only have come from the host. One connection per request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers larger than this are refused, so that a broken handler cannot fill the memory.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
const MAX_HEAD: usize = 256 * 1024;

/// How the body is framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// Neither body nor framing header.
    None,
    /// `Content-Length`, 0 included.
    Length(Bytes),
    /// `Transfer-Encoding: chunked`. The body is text.
    Chunked(Bytes),
}

/// A request to the handler. `headers` holds everything, framing headers included, in wire order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireRequest {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// The handler's answer, completely read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireAnswer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Bytes,
}

impl WireAnswer {
    /// A header as text, name compared ignoring case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// What can go wrong between host and handler.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Nothing listens.
    #[error("Connection refused (127.0.0.1:{port}): {source}")]
    Connect { port: u16, source: io::Error },
    /// The handler closed before it answered completely.
    #[error("The response ended prematurely. ({0})")]
    Ended(String),
    /// What came back is not HTTP.
    #[error("Received an invalid answer: {0}")]
    NotHttp(String),
}

/// .NET's text writer flushes whenever 1024 UTF-16 units have gathered.
const CHUNK_UNITS: usize = 1024;

fn chunks(text: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut units = 0;
        // A UTF-16 unit per leading byte, a second one for characters outside the basic plane.
        let end = rest.iter().position(|byte| {
            units += match byte {
                0x80..=0xbf => 0,
                0xf0..=0xff => 2,
                _ => 1,
            };
            units > CHUNK_UNITS
        });
        let (chunk, after) = rest.split_at(end.unwrap_or(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

impl WireRequest {
    /// The bytes on the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        match &self.body {
            Body::None => {}
            Body::Length(bytes) => out.extend_from_slice(bytes),
            Body::Chunked(bytes) => {
                for chunk in chunks(bytes) {
                    out.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        out
    }

    /// Sends the request as .NET does: a request without a body is sent again, up to four times in all, when the
    /// handler closes the connection without answering.
    pub(crate) async fn send(&self, port: u16) -> Result<WireAnswer, WireError> {
        let attempts = match &self.body {
            Body::Length(bytes) if !bytes.is_empty() => 1,
            Body::Chunked(_) => 1,
            Body::Length(_) | Body::None => 4,
        };
        for _ in 1..attempts {
            match self.send_once(port).await {
                Err(WireError::Ended(_)) => {}
                other => return other,
            }
        }
        self.send_once(port).await
    }

    async fn send_once(&self, port: u16) -> Result<WireAnswer, WireError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream =
            TcpStream::connect(address).await.map_err(|source| WireError::Connect { port, source })?;
        let ended = |error: io::Error| WireError::Ended(error.to_string());
        // A handler may answer and close before it read the whole body; its answer counts.
        let written = stream.write_all(&self.to_bytes()).await;
        let mut reader = AnswerReader { stream, buffer: Vec::new() };
        match reader.answer(self.method == "HEAD").await {
            Err(WireError::Ended(reason)) => Err(written.err().map_or(WireError::Ended(reason), ended)),
            other => other,
        }
    }
}

struct AnswerReader {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl AnswerReader {
    async fn fill(&mut self) -> Result<usize, WireError> {
        if self.buffer.len() > MAX_ANSWER {
            return Err(WireError::NotHttp("the answer is larger than 256 MiB".to_owned()));
        }
        self.stream.read_buf(&mut self.buffer).await.map_err(|error| WireError::Ended(error.to_string()))
    }

    async fn need(&mut self) -> Result<(), WireError> {
        match self.fill().await? {
            0 => Err(WireError::Ended("ResponseEnded".to_owned())),
            _ => Ok(()),
        }
    }

    async fn answer(&mut self, is_head: bool) -> Result<WireAnswer, WireError> {
        let mut answer = self.head().await?;
        // Interim answers (100 Continue) announce the real one.
        while (100..200).contains(&answer.status) {
            answer = self.head().await?;
        }
        answer.body = if is_head || matches!(answer.status, 204 | 304) {
            Bytes::new()
        } else if answer
            .header("Transfer-Encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            self.chunked().await?
        } else if let Some(length) = answer.header("Content-Length") {
            let length = length
                .parse::<usize>()
                .map_err(|_| WireError::NotHttp(format!("Content-Length: {length}")))?;
            self.exact(length).await?
        } else {
            while self.fill().await? > 0 {}
            Bytes::from(std::mem::take(&mut self.buffer))
        };
        Ok(answer)
    }

    async fn head(&mut self) -> Result<WireAnswer, WireError> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&self.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let answer = WireAnswer {
                        status: response.code.unwrap_or_default(),
                        reason: response.reason.unwrap_or_default().to_owned(),
                        headers: response
                            .headers
                            .iter()
                            .map(|header| (header.name.to_owned(), header.value.to_vec()))
                            .collect(),
                        body: Bytes::new(),
                    };
                    self.buffer.drain(..length);
                    return Ok(answer);
                }
                Ok(httparse::Status::Partial) if self.buffer.len() > MAX_HEAD => {
                    return Err(WireError::NotHttp("the headers are larger than 256 KiB".to_owned()));
                }
                Ok(httparse::Status::Partial) => self.need().await?,
                Err(error) => return Err(WireError::NotHttp(error.to_string())),
            }
        }
    }

    async fn exact(&mut self, length: usize) -> Result<Bytes, WireError> {
        while self.buffer.len() < length {
            self.need().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(Bytes::from(std::mem::replace(&mut self.buffer, rest)))
    }

    async fn chunked(&mut self) -> Result<Bytes, WireError> {
        let mut body = Vec::new();
        loop {
            let (after, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) => self.need().await?,
                    Err(_) => return Err(WireError::NotHttp("a chunk size is malformed".to_owned())),
                }
            };
            self.buffer.drain(..after);
            let size = usize::try_from(size)
                .ok()
                .filter(|size| size.saturating_add(body.len()) <= MAX_ANSWER)
                .ok_or_else(|| WireError::NotHttp("the answer is larger than 256 MiB".to_owned()))?;
            if size == 0 {
                return Ok(Bytes::from(body));
            }
            let chunk = self.exact(size).await?;
            body.extend_from_slice(&chunk);
            self.exact(2).await?;
        }
    }
}
