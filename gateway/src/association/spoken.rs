//! What a connection speaks, told by its first bytes, before anything is parsed.
//!
//! The two mistakes that are made everywhere are TLS on the port for plain connections and plain DICOM on the port for
//! TLS. A browser, a health check or a scanner that comes to a DICOM port speaks HTTP or SSH.

use super::pdu::PduKind;

/// How many of the first bytes are worth a look.
pub const FIRST_BYTES: usize = 8;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// A PDU of the DICOM upper layer (PS3.8 9.3), in the clear.
    Dicom,
    /// A handshake or an alert record of TLS 1.0 to 1.3, or the hello of an SSL 2 that is ready for more.
    Tls,
    /// HTTP, 1 or 2.
    Http,
    /// SSH.
    Ssh,
    /// None of these, or too few bytes to tell.
    Unknown,
}

/// Tells what is spoken by the first bytes of a connection. One byte is enough for DICOM; of a word of HTTP or SSH, as
/// much is compared as is there, but not less than four bytes.
#[must_use]
pub fn recognise(bytes: &[u8]) -> Spoken {
    const LEAST: usize = 4;
    const HTTP: [&[u8]; 11] = [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"CONNECT ",
        b"TRACE ",
        b"PATCH ",
        b"PRI * ",
        b"HTTP/",
    ];
    let is = |word: &&[u8]| {
        let compared = word.len().min(bytes.len());
        compared >= LEAST && word.get(..compared) == bytes.get(..compared)
    };
    match bytes {
        [0x15 | 0x16, 3, ..] => Spoken::Tls,
        // Two bytes of length, client hello, version 2.0 or 3.x (RFC 5246 E.2).
        [0x80..=0xff, _, 1, 0 | 3, ..] => Spoken::Tls,
        [first, ..] if PduKind::from_wire(*first).is_some() => Spoken::Dicom,
        _ if HTTP.iter().any(is) => Spoken::Http,
        _ if is(&&b"SSH-"[..]) => Spoken::Ssh,
        _ => Spoken::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_is_spoken() {
        for (bytes, spoken) in [
            (&[0x16, 3, 1, 2, 0, 1, 0, 1][..], Spoken::Tls),
            (&[0x15, 3, 3, 0, 2, 2, 70], Spoken::Tls),
            (&[0x16, 3], Spoken::Tls),
            (&[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0], Spoken::Tls),
            (&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0], Spoken::Tls),
            (&[1, 0, 0, 0, 0, 0xcd, 0, 1], Spoken::Dicom),
            (&[1], Spoken::Dicom),
            (&[4, 0, 0, 0, 0, 4], Spoken::Dicom),
            (b"GET / HT", Spoken::Http),
            (b"GET /", Spoken::Http),
            (b"OPTIONS ", Spoken::Http),
            (b"OPTION", Spoken::Http),
            (b"PRI * HT", Spoken::Http),
            (b"HTTP/1.1", Spoken::Http),
            (b"SSH-2.0-", Spoken::Ssh),
            (b"SSH-", Spoken::Ssh),
        ] {
            assert_eq!(recognise(bytes), spoken, "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_too_short_or_unheard_of_is_unknown() {
        for bytes in
            [&b""[..], b"G", b"GET", b"GETS", b"SSH", b"ssh-2.0", &[0x16], &[0x16, 2], &[0x99; 8], &[0; 8], &[8]]
        {
            assert_eq!(recognise(bytes), Spoken::Unknown, "{bytes:x?}");
        }
    }
}
