//! The same bytes give the same events however they are cut, and no bytes do harm.

use proptest::prelude::*;

use super::*;

/// A PDU of any kind, well-formed or nearly.
fn any_pdu() -> impl Strategy<Value = Vec<u8>> {
    let store = a_store(1).encode();
    let echo = an_echo(1).encode();
    prop_oneof![
        Just(Request::default().bytes()),
        Just(pdu(4, &pdv(1, COMMAND | LAST, &echo))),
        Just(pdu(4, &pdv(3, COMMAND | LAST, &store))),
        Just(pdu(4, &[pdv(3, COMMAND, &store[..20]), pdv(3, COMMAND | LAST, &store[20..])].concat())),
        (prop::collection::vec(any::<u8>(), 0..50), 0_u8..4).prop_map(|(data, header)| pdu(4, &pdv(3, header, &data))),
        Just(pdu(5, &[0; 4])),
        Just(pdu(6, &[0; 4])),
        Just(pdu(7, &[0, 0, 2, 2])),
        (0_u8..10, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(kind, content)| pdu(kind, &content)),
        prop::collection::vec(any::<u8>(), 0..30),
    ]
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (any::<bool>(), prop::collection::vec(any_pdu(), 0..12), damage).prop_map(|(begun, pdus, damage)| {
        let request = if begun { Request::default().bytes() } else { Vec::new() };
        let mut bytes = [request, pdus.concat()].concat();
        if let Some((at, value)) = damage.filter(|_| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes
    })
}

fn run(bytes: &[u8], cut: impl FnOnce(&mut Side, &[u8]) -> Vec<Happening>) -> (Vec<Happening>, Vec<u8>) {
    let mut side = Side::acceptor(&AcceptorSettings::default());
    let mut happened = cut(&mut side, bytes);
    happened.extend(side.eof());
    (happened, side.take_output())
}

proptest! {
    #[test]
    fn byte_by_byte_is_the_same_as_at_once(bytes in conversation()) {
        let whole = run(&bytes, Side::feed);
        let cut = run(&bytes, Side::feed_one_by_one);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn garbage_never_panics_and_always_ends(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (happened, _) = run(&bytes, Side::feed);
        prop_assert!(happened.iter().filter(|happening| matches!(happening, Happening::Ended(_))).count() <= 1);
        let mut side = Side::requestor(&requestor_settings());
        side.feed(&bytes);
        side.eof();
        prop_assert_eq!(side.channel.ending(), Some(Ending::Close));
    }

    #[test]
    fn a_damaged_request_never_panics(at: prop::sample::Index, values in prop::collection::vec(any::<u8>(), 1..9)) {
        let mut bytes = Request::default().bytes();
        let at = at.index(bytes.len());
        for (byte, value) in bytes[at..].iter_mut().zip(&values) {
            *byte = *value;
        }
        run(&bytes, Side::feed);
    }

    #[test]
    fn the_buffer_is_bounded_by_what_is_announced(bytes in conversation(), more in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut side = Side::acceptor(&AcceptorSettings { max_pdu: 4096, ..AcceptorSettings::default() });
        side.feed(&bytes);
        side.feed(&more);
        prop_assert!(side.channel.input().get_ref().len() <= 256 * 1024 + 6);
    }

    #[test]
    fn requests_are_read_as_dicom_ul_reads_them(
        calling in "[A-Z][A-Z0-9_ ]{0,14}[A-Z0-9]",
        contexts in prop::collection::btree_map(0_u8..128, prop::collection::vec("1(\\.[1-9][0-9]{0,4}){1,6}", 1..5), 1..20),
        max_pdu: u32,
    ) {
        let contexts: Vec<_> = contexts
            .into_iter()
            .map(|(n, transfer_syntaxes)| ul::PresentationContextProposed {
                id: n * 2 + 1,
                abstract_syntax: CT.to_owned(),
                transfer_syntaxes,
            })
            .collect();
        let pdu = ul::Pdu::AssociationRQ(ul::AssociationRQ {
            protocol_version: 1,
            calling_ae_title: calling.clone(),
            called_ae_title: "WAYSTATION".to_owned(),
            application_context_name: "1.2.840.10008.3.1.1.1".to_owned(),
            presentation_contexts: contexts.clone(),
            user_variables: vec![ul::UserVariableItem::MaxLength(max_pdu)],
        });
        let mut bytes = Vec::new();
        ul::write_pdu(&mut bytes, &pdu).unwrap();
        let mut side = Side::acceptor(&AcceptorSettings::default());
        let happened = side.feed(&bytes);
        let requested = the_request(&happened);
        prop_assert_eq!(requested.calling_ae.as_str(), calling);
        prop_assert_eq!(requested.max_pdu, max_pdu);
        let read: Vec<_> = requested
            .contexts
            .iter()
            .map(|context| ul::PresentationContextProposed {
                id: context.id,
                abstract_syntax: context.abstract_syntax.as_ref().unwrap().to_string(),
                transfer_syntaxes: context.transfer_syntaxes.iter().map(ToString::to_string).collect(),
            })
            .collect();
        prop_assert_eq!(read, contexts);
        prop_assert!(matches!(happened[0], Happening::Requested(_) | Happening::Ended(_)));
    }
}
