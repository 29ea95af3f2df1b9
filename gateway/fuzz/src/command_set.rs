//! The message assembler and the command sets: fragments in any order, of any content.
//!
//! Of each fragment the first byte is its message control header and presentation context, the next two its length.

use waystation::dimse::{Assembler, Message};

/// The fragments that an input stands for.
fn fragments(mut input: &[u8]) -> impl Iterator<Item = (u8, bool, bool, &[u8])> {
    std::iter::from_fn(move || {
        let ([header, l0, l1], rest) = input.split_first_chunk()?;
        let (data, rest) = rest.split_at(usize::from(u16::from_le_bytes([*l0, *l1])).min(rest.len()));
        input = rest;
        Some((1 + (header >> 2 & 3) * 2, header & 1 != 0, header & 2 != 0, data))
    })
}

/// What one complete command set says.
fn read(set: Vec<u8>) -> Option<Message> {
    Assembler::default().push(1, true, true, set.into()).ok()?
}

fn check(message: &Message) {
    match message {
        Message::Command { command, .. } => {
            if let Some(refusal) = command.refusal() {
                assert!(
                    matches!(read(refusal.encode()), Some(Message::Response { response, .. }) if response == refusal)
                );
            } else {
                let again = read(command.encode());
                assert!(matches!(again, Some(Message::Command { command: again, .. }) if again == *command));
            }
        }
        Message::Response { response, .. } => {
            let again = read(response.encode());
            let Some(Message::Response { response: again, .. }) = again else { panic!("no response any more") };
            assert_eq!((again.status, again.message_id), (response.status, response.message_id));
            let printable = |comment: &String| comment.chars().all(|letter| (' '..='~').contains(&letter));
            assert!(response.comment.as_ref().is_none_or(printable), "a comment that is not printable");
        }
        Message::Data(data) => assert!(!data.is_empty(), "a piece of nothing"),
        Message::DataEnd => {}
    }
}

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let mut assembler = Assembler::default();
    for (context, is_command, is_last, data) in fragments(input) {
        match assembler.push(context, is_command, is_last, data.to_vec().into()) {
            Ok(message) => message.iter().for_each(check),
            Err(error) => {
                assert!(error.to_string().chars().all(|letter| !letter.is_control()));
                return;
            }
        }
        while let Some(message) = assembler.poll() {
            check(&message);
        }
    }
}
