//! The acceptor of associations, from the first byte of a connection to its end, over the real transport.

use waystation::association::transport::accept;
use waystation::association::{AcceptorSettings, AssociationError, Decision, Indication, Preference};
use waystation::dimse::{Response, Status};

use super::{Peer, connected, delivery, in_virtual_time};

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let Some((manner, content)) = delivery(input) else { return };
    let settings = AcceptorSettings { max_pdu: 4096 << (manner.variant & 3), ..AcceptorSettings::default() };
    in_virtual_time(async {
        let decide = |request: &_| Decision::accept_storage(request, &Preference::default());
        let peer = Peer::new(content, manner);
        let Ok(mut association) = accept(peer, &settings, connected(), decide).await else { return };
        let (mut stored, mut storing) = (0, None);
        let error = loop {
            let answer = match association.next().await {
                Ok(Indication::Command { context, command }) if command.has_content() => {
                    assert!(storing.is_none(), "a second message before the end of the first");
                    assert!(association.context(context).is_some(), "a command on a context that was not accepted");
                    storing = Some((context, command));
                    None
                }
                Ok(Indication::Command { context, command }) => {
                    assert!(storing.is_none(), "a command within a data set");
                    let refusal = command.refusal();
                    refusal.map(|refusal| (context, refusal))
                }
                Ok(Indication::Data(data)) => {
                    assert!(storing.is_some() && !data.is_empty(), "data without a command");
                    stored += data.len();
                    None
                }
                Ok(Indication::DataEnd) => {
                    let (context, command) = storing.take().expect("an end without a beginning");
                    Some((context, Response::to(&command, Status::SUCCESS)))
                }
                Ok(Indication::Response { .. }) => panic!("nobody asked"),
                Ok(Indication::Released) => {
                    assert!(storing.is_none(), "released within a data set");
                    break AssociationError::Released;
                }
                Err(error) => break error,
            };
            assert!(stored <= content.len(), "more data than were sent");
            if let Some((context, response)) = answer
                && let Err(error) = association.respond(context, &response).await
            {
                break error;
            }
        };
        assert!(error.to_string().chars().all(|letter| !letter.is_control()), "an error with control characters");
        assert!(matches!(association.next().await, Err(AssociationError::Over)), "it goes on after its end");
    });
}
