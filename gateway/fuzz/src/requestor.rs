//! The requestor of associations: an archive that answers with anything at all.

use std::time::Duration;

use waystation::association::transport::{connect, echo};
use waystation::association::{Abort, RequestorSettings};
use waystation::dimse::{CStore, Command};
use waystation::model::{Priority, Uid};

use super::{Peer, delivery, in_virtual_time};

const PATIENCE: Duration = Duration::from_secs(60);

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let Some((manner, content)) = delivery(input) else { return };
    let settings = RequestorSettings::new("WAYSTATION".parse().unwrap(), "ARCHIVE".parse().unwrap());
    let peer = Peer::new(content, manner);
    if manner.variant & 1 != 0 {
        drop(in_virtual_time(echo(peer, &settings)));
        return;
    }
    let ct = uid("1.2.840.10008.5.1.4.1.1.2");
    let settings = RequestorSettings { operations: 4, ..settings };
    let settings = settings.propose(&ct, [uid("1.2.840.10008.1.2"), uid("1.2.840.10008.1.2.1")]);
    let data = vec![0x55; 20_000];
    in_virtual_time(async {
        let Ok(mut association) = connect(peer, &settings).await else { return };
        let Some(context) = association.accepted_contexts().first().map(|context| context.id) else { return };
        assert_eq!(context, 1, "accepted what was not proposed");
        for message_id in 1..4 {
            let store = Command::CStore(CStore {
                message_id,
                sop_class_uid: ct.clone(),
                sop_instance_uid: uid("1.2.3"),
                priority: Priority::Routine,
                move_originator: None,
            });
            let Ok(()) = association.send_command(context, &store).await else { return };
            let Ok(_) = association.send_data(context, &data, true).await else { return };
            let Ok(response) = association.response(PATIENCE).await else { return };
            assert_eq!(response.message_id, message_id, "the answer to another message");
        }
        if manner.variant & 2 == 0 {
            drop(association.release().await);
        } else {
            association.abort(Abort::BY_USER).await;
        }
    });
}
