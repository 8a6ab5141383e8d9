//! Clients that do not behave: garbage, heads that never end, bodies that stop half way, answers that nobody reads. None of them waits
//! for anything; each leaves at the worst moment.

use super::motion::load::number;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::io::Result;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One bad client after the other, until dropped.
pub async fn misbehave(web: SocketAddr, services: Vec<String>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    loop {
        let service = &services[rng.random_range(0..services.len())];
        // What becomes of it is of no interest, as long as it ends.
        let _ = tokio::time::timeout(Duration::from_secs(5), one(web, service, &mut rng)).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..60))).await;
    }
}

async fn one(web: SocketAddr, service: &str, rng: &mut SmallRng) -> Result<()> {
    let mut stream = TcpStream::connect(web).await?;
    let head = |method: &str, target: &str, more: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: {service}.test\r\nX-Request: {}\r\n{more}\r\n", number())
    };
    match rng.random_range(0..9) {
        0 => {
            let garbage: Vec<u8> = (0..rng.random_range(1..4000)).map(|_| rng.random()).collect();
            stream.write_all(&garbage).await?;
        }
        1 => {
            for byte in head("GET", "/", "").bytes().take(rng.random_range(1..60)) {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        2 => {
            stream.write_all(head("POST", "/", "Content-Length: 1000000\r\n").as_bytes()).await?;
            stream.write_all(&vec![b'x'; rng.random_range(1..200_000)]).await?;
        }
        3 => {
            stream.write_all(head("POST", "/", "Transfer-Encoding: chunked\r\n").as_bytes()).await?;
            stream.write_all(b"5\r\nhello\r\nffffffffffffffffff\r\n").await?;
        }
        4 => {
            stream.write_all(head("GET", "/download", "").as_bytes()).await?;
            let mut some = vec![0; rng.random_range(1..50_000)];
            stream.read_exact(&mut some).await?;
        }
        5 => {
            stream.write_all(head("GET", "/ws", "Upgrade: websocket\r\nConnection: Upgrade\r\n").as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..50))).await;
        }
        // A burst that nobody reads the answers of.
        6 => {
            for _ in 0..rng.random_range(1..100) {
                stream.write_all(head("GET", "/", "").as_bytes()).await?;
            }
        }
        7 => {
            stream.write_all(head("GET", "/", &format!("X-Long: {}\r\n", "y".repeat(70_000))).as_bytes()).await?;
        }
        // The end of its side, and then the answer.
        _ => {
            stream.write_all(head("GET", "/", "").as_bytes()).await?;
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await?;
        }
    }
    if rng.random() {
        stream.set_zero_linger()?;
    }
    Ok(())
}
