//! The clients: connections that send a request, read the answer, and repeat.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Result, scenes::Scene};

/// The beginning of every token.
pub(crate) const TOKEN: &[u8] = br#""content":"w"#;

pub(crate) struct Load {
    address: SocketAddr,
    request: Arc<[u8]>,
    connections: usize,
    stream: bool,
    tokens: usize,
    spread: Duration,
}

pub(crate) struct Measured {
    pub(crate) wall: Duration,
    /// Times to the first token, sorted.
    firsts: Vec<Duration>,
}

impl Measured {
    /// The time to the first token that this fraction of the answers did not exceed.
    pub(crate) fn first(&self, part: f64) -> Duration {
        let last = self.firsts.len().saturating_sub(1);
        self.firsts.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }
}

impl Load {
    pub(crate) fn new(scene: &Scene, address: SocketAddr) -> Self {
        let body = format!(
            r#"{{"model":"{}","messages":[{{"role":"user","content":"Tell me about bees."}}],"max_tokens":{},"stream":{}}}"#,
            scene.model, scene.tokens, scene.stream
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            address,
            request: request.into_bytes().into(),
            connections: scene.connections,
            stream: scene.stream,
            tokens: scene.tokens as usize,
            spread: scene.spread,
        }
    }

    /// Requests this many answers over all connections.
    pub(crate) async fn run(&self, answers: usize) -> Result<Measured> {
        let left = Arc::new(AtomicUsize::new(answers));
        let mut streams = Vec::new();
        for _ in 0..self.connections {
            streams.push(self.connect().await?);
        }
        let began = Instant::now();
        let count = u32::try_from(streams.len())?;
        let clients = streams.into_iter().zip(0..).map(|(stream, index)| {
            // Not in the order of the connections, so that the starts do not follow each other everywhere.
            let start = self.spread * (index * 37 % count) / count;
            self.client(stream, start, left.clone())
        });
        let mut firsts: Vec<Duration> =
            futures_util::future::try_join_all(clients).await?.into_iter().flatten().collect();
        firsts.sort_unstable();
        Ok(Measured { wall: began.elapsed(), firsts })
    }

    async fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn client(
        &self,
        mut stream: TcpStream,
        start: Duration,
        left: Arc<AtomicUsize>,
    ) -> Result<Vec<Duration>> {
        tokio::time::sleep(start).await;
        let mut firsts = Vec::new();
        let mut buffer = Vec::with_capacity(64 << 10);
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            let asked = Instant::now();
            stream.write_all(&self.request).await?;
            buffer.clear();
            let mut first = None;
            while !self.is_whole(&buffer) {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Err(format!("broke off: {}", String::from_utf8_lossy(&buffer)).into());
                }
                if first.is_none() && memchr::memmem::find(&buffer, TOKEN).is_some() {
                    first = Some(asked.elapsed());
                }
            }
            let given = if self.stream {
                memchr::memmem::find_iter(&buffer, TOKEN).count()
            } else {
                memchr::memmem::find_iter(&buffer, b"w").count().min(self.tokens)
            };
            if !buffer.starts_with(b"HTTP/1.1 200") || given != self.tokens {
                let answer = String::from_utf8_lossy(&buffer);
                return Err(format!("{given} tokens of {}: {answer}", self.tokens).into());
            }
            firsts.push(first.unwrap_or_else(|| asked.elapsed()));
            // A server with little room for connections ends them with their answers.
            if is_last(&buffer) {
                stream = self.connect().await?;
            }
        }
        Ok(firsts)
    }

    fn is_whole(&self, answer: &[u8]) -> bool {
        let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
        let head_text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        match head_text.split("content-length: ").nth(1) {
            Some(length) => {
                let length = length.lines().next().unwrap_or_default().trim().parse::<usize>();
                answer.len() >= head + 4 + length.unwrap_or(usize::MAX)
            }
            None => answer.ends_with(b"\r\n0\r\n\r\n"),
        }
    }
}

/// True if the server ends the connection with this answer.
fn is_last(answer: &[u8]) -> bool {
    let head = memchr::memmem::find(answer, b"\r\n\r\n").unwrap_or_default();
    memchr::memmem::find(&answer[..head], b"connection: close").is_some()
}
