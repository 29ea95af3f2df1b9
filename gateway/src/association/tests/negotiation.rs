//! Which service and which transfer syntax.

use dicom_dictionary_std::uids;

use super::*;
use crate::association::negotiation::{Service, service};
use crate::association::{ContextRefusal, ProposedContext};

#[test]
fn storage_is_told_from_the_other_services() {
    for storage in [
        uids::CT_IMAGE_STORAGE,
        uids::ENCAPSULATED_PDF_STORAGE,
        uids::RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE,
        uids::HANGING_PROTOCOL_STORAGE,
        uids::COLOR_PALETTE_STORAGE,
        uids::GENERIC_IMPLANT_TEMPLATE_STORAGE,
        uids::IMPLANT_ASSEMBLY_TEMPLATE_STORAGE,
        uids::IMPLANT_TEMPLATE_GROUP_STORAGE,
        "1.2.840.10008.5.1.1.27",
        uids::PROTOCOL_APPROVAL_STORAGE,
        uids::INVENTORY_STORAGE,
        "1.2.840.10008.5.1.4.1.1.99999.1",
        "1.2.840.113619.4.26",
        "1.3.46.670589.2.4.1.1",
        "1.2.840.100080.1.1",
    ] {
        assert_eq!(service(&uid(storage)), Service::Storage, "{storage}");
    }
    for other in [
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
        uids::COMPOSITE_INSTANCE_RETRIEVE_WITHOUT_BULK_DATA_GET,
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        uids::MODALITY_PERFORMED_PROCEDURE_STEP,
        uids::BASIC_GRAYSCALE_PRINT_MANAGEMENT_META,
        uids::PRINTER,
        uids::MEDIA_STORAGE_DIRECTORY_STORAGE,
        uids::UNIFIED_PROCEDURE_STEP_PUSH,
        uids::HANGING_PROTOCOL_INFORMATION_MODEL_FIND,
        uids::PROTOCOL_APPROVAL_INFORMATION_MODEL_FIND,
        uids::REPOSITORY_QUERY,
        uids::INVENTORY_CREATION,
    ] {
        assert_eq!(service(&uid(other)), Service::Other, "{other}");
    }
    assert_eq!(service(&uid(uids::VERIFICATION)), Service::Verification);
    assert_eq!(service(&uid(uids::STORAGE_COMMITMENT_PUSH_MODEL)), Service::Commitment);
}

fn chosen(abstract_syntax: &str, proposed: &[&str], preference: &Preference) -> Result<Uid, ContextRefusal> {
    let mut side = Side::acceptor(&AcceptorSettings::default());
    let mut request = the_request(&side.feed(&Request::default().bytes())).clone();
    request.contexts = vec![ProposedContext {
        id: 1,
        abstract_syntax: Some(uid(abstract_syntax)),
        transfer_syntaxes: proposed.iter().map(|text| uid(text)).collect(),
    }];
    let Decision::Accept(mut answers) = Decision::accept_storage(&request, preference) else { panic!() };
    answers.remove(0).result
}

#[test]
fn the_choice_keeps_what_the_modality_has() {
    const JPEG_LOSSLESS: &str = uids::JPEG_LOSSLESS_SV1;
    let lossless = [uids::JPEG2000_LOSSLESS, uids::RLE_LOSSLESS, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN];
    let choice = |proposed: &[&str]| chosen(CT, proposed, &Preference::default()).unwrap().to_string();
    assert_eq!(choice(&[IMPLICIT, uids::JPEG_BASELINE8_BIT, JPEG_LOSSLESS, EXPLICIT]), EXPLICIT);
    assert_eq!(choice(&[IMPLICIT, uids::JPEG_BASELINE8_BIT, JPEG_LOSSLESS]), JPEG_LOSSLESS);
    assert_eq!(choice(&[uids::JPEG_BASELINE8_BIT, IMPLICIT]), IMPLICIT, "nothing is made lossy on our account");
    assert_eq!(choice(&["1.2.840.10008.1.2.2", IMPLICIT]), IMPLICIT);
    for first in lossless {
        let proposed: Vec<_> = [first].into_iter().chain(lossless).collect();
        assert_eq!(choice(&proposed), first, "among equals, the requestor's order");
    }
    assert_eq!(choice(&["1.2.3.4", uids::JPEG_BASELINE8_BIT]), uids::JPEG_BASELINE8_BIT);
    assert_eq!(choice(&["1.2.3.4", "1.2.3.5"]), "1.2.3.4", "what we do not know is stored, too");
    let ours = Preference::first(vec![uid(uids::JPEG_BASELINE8_BIT)]);
    assert_eq!(chosen(CT, &[EXPLICIT, uids::JPEG_BASELINE8_BIT], &ours), Ok(uid(uids::JPEG_BASELINE8_BIT)));
}

#[test]
fn verification_has_the_default_transfer_syntax() {
    assert_eq!(chosen(VERIFICATION, &[EXPLICIT, IMPLICIT], &Preference::default()), Ok(uid(IMPLICIT)));
    assert_eq!(chosen(VERIFICATION, &[uids::JPEG_BASELINE8_BIT, EXPLICIT], &Preference::default()), Ok(uid(EXPLICIT)));
}

#[test]
fn what_is_not_offered_is_refused_by_context() {
    let find = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
    let refusal = chosen(find, &[EXPLICIT], &Preference::default()).unwrap_err();
    assert_eq!(refusal, ContextRefusal::AbstractSyntaxNotSupported);
    let refusal = chosen(CT, &[], &Preference::default()).unwrap_err();
    assert_eq!(refusal, ContextRefusal::TransferSyntaxesNotSupported);
}
