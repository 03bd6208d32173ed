//! A queen's memory under many requests, under readers that do not read, and under many connections.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    Result,
    cpu::{self, Process},
    load::Load,
    middle::{Kind, Middle, Running},
    scenes::whole,
    upstream,
};

/// The number of answers, and after how many of them the memory is read.
const ANSWERS: usize = 100_000;
const STEP: usize = 10_000;
/// Readers that read nothing for some time, and the tokens written to each.
const READERS: usize = 1_000;
const TOKENS: usize = 4_000;
/// Idle connections. A server accepts 10,000 by default.
const CONNECTIONS: usize = 9_900;
/// How long the memory must not grow until it counts as stable, and the longest wait for that.
const QUIET: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) fn run() -> Result<()> {
    let workers = Running::upstream()?;
    cpu::stay_beside();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        many_answers(&queen(&workers)?).await?;
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

async fn many_answers(queen: &Middle) -> Result<()> {
    println!("\n{ANSWERS} whole answers, C=64: resident memory after each {STEP}, in MiB");
    let load = Load::new(&whole("", 64, ANSWERS), queen.address);
    for done in (STEP..=ANSWERS).step_by(STEP) {
        load.run(STEP).await?;
        println!("  {done:>7} {:>8.1}", mib(queen.process())?);
    }
    Ok(())
}

async fn slow_readers(queen: &Middle) -> Result<()> {
    println!("\n{READERS} streams of {TOKENS} tokens at once, which are not read for some time");
    let process = queen.process();
    println!("  before      {:>8.1} MiB", mib(process)?);
    let request = request(queen.address, TOKENS);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = TcpStream::connect(queen.address).await?;
        reader.write_all(&request).await?;
        readers.push(reader);
    }
    let highest = stable_memory(process).await?;
    println!("  unread      {highest:>8.1} MiB at most");
    let beside = Load::new(&whole("", 1, 100), queen.address).run(100).await?;
    println!("  meanwhile, an answer takes {:?} (median)", beside.first(0.5));
    let reading = readers.into_iter().map(whole_stream);
    let given = futures_util::future::try_join_all(reading).await?;
    let whole = given.iter().filter(|tokens| **tokens == TOKENS).count();
    println!("  read        {:>8.1} MiB; {whole} of {READERS} streams whole", mib(process)?);
    if whole == READERS { Ok(()) } else { Err("a slow reader did not get its whole stream".into()) }
}

async fn many_connections(queen: &Middle) -> Result<()> {
    println!("\n{CONNECTIONS} idle connections");
    let process = queen.process();
    let before = mib(process)?;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(TcpStream::connect(queen.address).await?);
    }
    let beside = Load::new(&whole("", 1, 100), queen.address).run(100).await?;
    let each = (mib(process)? - before) * 1024.0 / CONNECTIONS as f64;
    println!("  {each:.1} KiB each; meanwhile, an answer takes {:?} (median)", beside.first(0.5));
    drop(idle);
    Ok(())
}

fn request(address: SocketAddr, tokens: usize) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{}","messages":[{{"role":"user","content":"Go on."}}],"max_tokens":{tokens},"stream":true}}"#,
        upstream::FAST
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
    Ok(memchr::memmem::find_iter(&answer, crate::load::TOKEN).count())
}
