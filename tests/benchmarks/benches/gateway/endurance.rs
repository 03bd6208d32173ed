//! A queen's memory under many requests, under many open streams, under readers that do not read, and under many
//! connections.

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
    task::JoinSet,
};

use crate::{
    Result,
    cpu::{self, Process},
    load::{Load, TOKEN},
    middle::{Kind, Middle, Running},
    scenes::whole,
    upstream,
};

/// The number of answers, and after how many of them the memory is read.
const ANSWERS: usize = 100_000;
const STEP: usize = 10_000;
/// Streams that are read as they come, the tokens of each, and the time between two of them.
const STREAMS: usize = 1_000;
const STREAM_TOKENS: usize = 200;
const PACE: Duration = Duration::from_millis(100);
/// Readers that read nothing for some time, and the tokens written to each.
const READERS: usize = 1_000;
const TOKENS: usize = 4_000;
/// One of the jobs that have not ended.
const LIVE_JOBS: &str = "/v1/jobs?state=queued,running&limit=1";
/// The connections that a server accepts at once, if it may open enough files. While the last sixteenth of them is in
/// use, it ends each connection with its answer.
const MOST_CONNECTIONS: usize = 10_000;
/// Connections for the measurements beside the others.
const RESERVE: usize = 100;
/// How long the memory must not grow until it counts as stable, and the longest wait for that.
const QUIET: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) fn run() -> Result<()> {
    let workers = Running::upstream(PACE)?;
    cpu::stay_beside();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        many_answers(&queen(&workers)?).await?;
        open_streams(&queen(&workers)?).await?;
        slow_readers(&queen(&workers)?).await?;
        many_connections(&queen(&workers)?).await
    })
}

fn queen(workers: &Running) -> Result<Middle> {
    Ok(Middle::start(Kind::Queen, workers, &[])?.ok_or("a queen needs nothing else")?)
}

fn mib(process: Process) -> Result<f64> {
    Ok(process.memory_kib()? as f64 / 1024.0)
}

/// The difference of two sizes in MiB, for each of `count` in KiB.
fn each(before: f64, after: f64, count: usize) -> f64 {
    (after - before) * 1024.0 / count as f64
}

async fn many_answers(queen: &Middle) -> Result<()> {
    println!("\n{ANSWERS} whole answers, C=64: resident memory after each {STEP}, in MiB");
    let load = Load::new(&whole("", 64, ANSWERS), queen.address);
    for done in (STEP..=ANSWERS).step_by(STEP) {
        load.run(STEP).await?;
        println!("  {done:>7} {:>8.1}", mib(queen.process())?);
    }
    Ok(())
}

/// The streams that are read as they come.
#[derive(Default)]
struct Streams {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

async fn open_streams(queen: &Middle) -> Result<()> {
    println!("\n{STREAMS} open streams of {STREAM_TOKENS} tokens, one in {PACE:?}, which are read");
    let process = queen.process();
    let (before, time, began) = (mib(process)?, process.time()?, Instant::now());
    println!("  before      {before:>8.1} MiB");
    let request: Arc<[u8]> = request(queen.address, upstream::PACED, STREAM_TOKENS).into();
    let streams = Arc::<Streams>::default();
    let mut readers = JoinSet::new();
    for _ in 0..STREAMS {
        readers.spawn(read_stream(queen.address, request.clone(), streams.clone()));
    }
    let (mut open, mut last) = (None, before);
    while streams.ended.load(Ordering::Relaxed) == 0 && began.elapsed() < TIMEOUT {
        last = mib(process)?;
        if streams.begun.load(Ordering::Relaxed) == STREAMS {
            open.get_or_insert(last);
        }
        tokio::time::sleep(PACE).await;
    }
    let open = open.ok_or("not all streams were open at the same time")?;
    let busy = (process.time()? - time).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("  all open    {open:>8.1} MiB, {:.1} KiB each", each(before, open, STREAMS));
    println!("  at the end  {last:>8.1} MiB, {:.1} KiB each", each(before, last, STREAMS));
    let mut longest = Duration::ZERO;
    while let Some(read) = readers.join_next().await {
        longest = longest.max(read??);
    }
    println!(
        "  {:.0} % of a processor; the longest wait for a token was {longest:.1?}",
        busy * 100.0
    );
    println!("  ended       {:>8.1} MiB", mib(process)?);
    Ok(())
}

/// Reads a stream to its end. Returns the longest time from one read to the next after its first token.
async fn read_stream(
    address: SocketAddr,
    request: Arc<[u8]>,
    streams: Arc<Streams>,
) -> Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request).await?;
    let (mut answer, mut longest, mut last) = (Vec::new(), Duration::ZERO, None::<Instant>);
    // Tokens are not cut by the reads of this benchmark: the server writes whole chunks.
    let (mut counted, mut tokens) = (0, 0);
    while stream.read_buf(&mut answer).await? > 0 {
        tokens += memchr::memmem::find_iter(&answer[counted..], TOKEN).count();
        counted = answer.len();
        if tokens > 0 {
            match last.replace(Instant::now()) {
                Some(last) => longest = longest.max(last.elapsed()),
                None => _ = streams.begun.fetch_add(1, Ordering::Relaxed),
            }
        }
    }
    streams.ended.fetch_add(1, Ordering::Relaxed);
    let tokens = memchr::memmem::find_iter(&answer, TOKEN).count();
    if tokens == STREAM_TOKENS { Ok(longest) } else { Err(broken(tokens, &answer)) }
}

fn broken(tokens: usize, answer: &[u8]) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{tokens} tokens of a stream: {}", String::from_utf8_lossy(answer)).into()
}

async fn slow_readers(queen: &Middle) -> Result<()> {
    println!("\n{READERS} streams of {TOKENS} tokens at once, which are not read for some time");
    let process = queen.process();
    let before = mib(process)?;
    println!("  before      {before:>8.1} MiB");
    let request = request(queen.address, upstream::FAST, TOKENS);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = TcpStream::connect(queen.address).await?;
        reader.write_all(&request).await?;
        readers.push(reader);
    }
    // Each has begun, and the worker has sent all of each.
    for reader in &readers {
        tokio::time::timeout(TIMEOUT, reader.readable()).await??;
    }
    let began = Instant::now();
    let mut list = TcpStream::connect(queen.address).await?;
    while !get(&mut list, LIVE_JOBS).await?.contains(r#""data":[]"#) {
        if began.elapsed() > TIMEOUT {
            return Err("not all jobs have ended".into());
        }
        tokio::time::sleep(PACE).await;
    }
    let highest = stable_memory(process).await?;
    let each = each(before, highest, READERS);
    println!("  unread      {highest:>8.1} MiB at most, {each:.1} KiB each");
    let beside = Load::new(&whole("", 1, 100), queen.address).run(100).await?;
    println!("  meanwhile, an answer takes {:?} (median)", beside.first(0.5));
    let reading = readers.into_iter().map(whole_stream);
    let given = futures_util::future::try_join_all(reading).await?;
    let whole = given.iter().filter(|tokens| **tokens == TOKENS).count();
    println!("  read        {:>8.1} MiB; {whole} of {READERS} streams whole", mib(process)?);
    if whole == READERS { Ok(()) } else { Err("a slow reader did not get its whole stream".into()) }
}

async fn many_connections(queen: &Middle) -> Result<()> {
    let most = most_connections()?;
    let (used, all) = (most - most / 16 - RESERVE, most - RESERVE);
    println!("\nidle connections to a server that accepts {most}");
    let process = queen.process();
    let before = mib(process)?;
    let mut idle = Vec::new();
    for _ in 0..used {
        idle.push(idle_connection(queen.address).await?);
    }
    let load = Load::new(&whole("", 1, 100), queen.address);
    let beside = load.run(100).await?;
    let each = each(before, mib(process)?, used);
    println!("  {used} that were used once: {each:.1} KiB each");
    println!("  meanwhile, an answer takes {:?} (median)", beside.first(0.5));
    let mut silent = Vec::new();
    for _ in used..all {
        silent.push(TcpStream::connect(queen.address).await?);
    }
    let beside = load.run(100).await?;
    let more = silent.len();
    println!(
        "  with {more} more, an answer on a connection of its own takes {:?}",
        beside.first(0.5)
    );
    let open = idle.iter().filter(|stream| is_open(stream)).count();
    println!("  {open} of the {used} are still open");
    if open == used { Ok(()) } else { Err("the server has closed idle connections".into()) }
}

/// The connections that a queen accepts at once, with the limit on open files that it inherits.
fn most_connections() -> Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = files.and_then(|files| files.split_whitespace().next());
    let soft = soft.ok_or("the limit on open files is unknown")?.parse().unwrap_or(usize::MAX);
    // A quarter of them, at most 4,096, is not for clients.
    let most = MOST_CONNECTIONS.min(soft - (soft / 4).min(4_096));
    if most < 16 * RESERVE {
        return Err(format!("too few files can be open (`ulimit -n`): {soft}").into());
    }
    Ok(most)
}

/// A connection on which one request was answered.
async fn idle_connection(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    get(&mut stream, "/health").await?;
    Ok(stream)
}

/// The body of the answer to a request, as text.
async fn get(stream: &mut TcpStream, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.ok_or("an answer without a length")?.parse()? {
                return Ok(body.to_owned());
            }
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(format!("broke off: {}", String::from_utf8_lossy(&answer)).into());
        }
    }
}

fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn request(address: SocketAddr, model: &str, tokens: usize) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"Go on."}}],"max_tokens":{tokens},"stream":true}}"#
    );
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Waits until the memory of the process no longer grows, and returns its maximum.
async fn stable_memory(process: Process) -> Result<f64> {
    let (mut highest, mut grown, began) = (0.0, Instant::now(), Instant::now());
    while grown.elapsed() < QUIET && began.elapsed() < TIMEOUT {
        let now = mib(process)?;
        if now > highest + 1.0 {
            (highest, grown) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(highest)
}

/// Reads to the end, and counts the tokens.
async fn whole_stream(mut reader: TcpStream) -> Result<usize> {
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await?;
    Ok(memchr::memmem::find_iter(&answer, TOKEN).count())
}
