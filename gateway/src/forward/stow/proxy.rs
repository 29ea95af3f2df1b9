//! CONNECT (RFC 9110 9.3.6): asks a proxy for a connection through which TLS goes untouched.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::credentials::{Secret, basic};
use crate::config::Proxy;

/// No longer answer is read.
const LONGEST: usize = 8 << 10;

/// Has the proxy connect to `peer`, host and port; afterwards `stream` is a connection to it.
///
/// # Errors
/// Why it does not, with what to do.
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &Proxy,
    peer: &str,
) -> Result<(), String> {
    let mut request = format!("CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n").into_bytes();
    if let Some((user, file)) = &proxy.user {
        let unfit = || format!("{} holds what a header cannot carry; write it again", file.display());
        let value = basic(user, &Secret::read(file).await?).ok_or_else(unfit)?;
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let broken = |error: std::io::Error| format!("it closed the connection: {error}");
    stream.write_all(&request).await.map_err(broken)?;
    // Byte by byte: what comes behind the head is TLS, and not ours to read. A head has some hundred bytes.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST {
            return Err("its answer is longer than 8 KiB; is it a proxy?".to_owned());
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Err("it closed the connection without an answer".to_owned()),
            Err(error) => return Err(broken(error)),
        }
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(match &proxy.user {
            Some((user, file)) => {
                format!("it does not take the user {user} and the password in {} (HTTP 407)", file.display())
            }
            None => "it wants to know who we are (HTTP 407): give proxy-user and proxy-password-file".to_owned(),
        }),
        Some(status @ 403) => Err(format!("it does not allow that (HTTP {status}): have the address allowed there")),
        Some(status) => Err(format!("it answered HTTP {status}; its log tells why")),
        None => Err("its answer is not HTTP; correct the address of the proxy".to_owned()),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let mut words = head.split(|byte| *byte == b' ' || *byte == b'\r');
    words.next().filter(|version| version.starts_with(b"HTTP/1."))?;
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of this answer of a proxy, and what the proxy was asked.
    async fn asked(user: Option<(String, std::path::PathBuf)>, answer: &[u8]) -> (Result<(), String>, String, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(answer).await.unwrap();
        let proxy = Proxy { host: "proxy".to_owned(), port: 3128, user };
        let connected = connect(&mut ours, &proxy, "[2001:db8::1]:443").await;
        theirs.shutdown().await.unwrap();
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        let mut request = String::new();
        theirs.read_to_string(&mut request).await.unwrap();
        (connected, request, rest)
    }

    #[tokio::test]
    async fn what_the_proxy_answers_is_told_and_what_follows_is_left_alone() {
        let (connected, request, rest) = asked(None, b"HTTP/1.1 200 Fine\r\nVia: x\r\n\r\n\x16\x03").await;
        assert_eq!((connected, rest.as_slice()), (Ok(()), [0x16, 0x03].as_slice()));
        assert_eq!(request, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n");
        for (answer, expected) in [
            (b"HTTP/1.1 407 x\r\n\r\n".to_vec(), "give proxy-user"),
            (b"HTTP/1.0 403 x\r\n\r\n".to_vec(), "have the address allowed"),
            (b"HTTP/1.1 502\r\n\r\n".to_vec(), "HTTP 502"),
            (b"SSH-2.0-x\r\n\r\n".to_vec(), "not HTTP"),
            ([b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 9_000]].concat(), "8 KiB"),
        ] {
            let error = asked(None, &answer).await.0.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn the_proxy_is_told_who_we_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "open sesame\n").unwrap();
        let user = Some(("Aladdin".to_owned(), file));
        let (_, request, _) = asked(user.clone(), b"HTTP/1.1 200\r\n\r\n").await;
        assert!(request.contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{request}");
        let error = asked(user, b"HTTP/1.1 407 x\r\n\r\n").await.0.unwrap_err();
        assert!(error.contains("Aladdin") && !error.contains("sesame"), "{error}");
    }
}
